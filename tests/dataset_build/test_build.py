"""The builder's engine: stages, rejects, resuming after kill -9, engines that agree, and what it refuses."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_framework import DataError, Framework, RunError, ShardSet
from sigma_framework.dataset_build import Build, Stage, record_of, run_build
from sigma_framework.dataset_build.engines import Share, _join_or_start, gpus_of_workers, share_of_array
from sigma_framework.dataset_build.packing import in_turn
from sigma_framework.dataset_build.records import read_unit, write_unit
from sigma_framework.dataset_build.report import StageCount
from sigma_framework.progress import Silent
from sigma_framework.shards import check_set
from sigma_framework.shards.document import ShardDocument
from sigma_framework.testing import ToySource, toy_example
from sigma_framework.testing.component import same

PROGRAM = Path(__file__).with_name("killed_build.py")
KILLS = 100 if os.environ.get("SIGMA_SOAK") == "1" else 5


def load_program() -> Any:
    spec = importlib.util.spec_from_file_location("killed_build", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["killed_build"] = module
    spec.loader.exec_module(module)
    return module


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run_build(load_program().plan(folder / "notes", 0, 0), folder, Silent())
    return folder


class Odd:
    """Rejects every second record with a reason, counts, and drops what has three subjects."""

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        return (record for record in self.annotate_or_reject(records, rng) if "rejected" not in record)

    def annotate_or_reject(
        self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> Iterator[Mapping[str, Any]]:
        for record in records:
            count = len(record["captions"])
            if count == 2:
                yield {"key": record["key"], "rejected": "two subjects", "counts": {"seen": 1}}
            elif count == 1:
                yield {**record, "counts": {"seen": 1}}


def stage(made: Any, name: str = "stage", **facts: Any) -> Stage:
    return Stage(name=name, make=made, facts=facts)


def test_a_finished_set_is_sound_and_says_how_it_was_made(uninterrupted: Path) -> None:
    report = check_set(uninterrupted / "shards")
    assert report.problems == ()
    assert report.samples == 13, "one of 14 was dropped"
    manifest = json.loads((uninterrupted / "shards" / "manifest.json").read_text())
    assert [row["name"] for row in manifest["stages"]] == ["first", "second"]
    sample = ShardSet(uninterrupted / "shards").sample(0)
    assert sample.document.provenance == {"stages": ["first", "second"]}


def test_a_source_names_its_licence_unless_the_record_has_one(tmp_path: Path) -> None:
    facts = {"type": "toy", "licence": "CC-BY-4.0"}
    run_build(Build(source=ToySource(), source_facts=facts, stages=[], count=2, seed=0), tmp_path / "plain", Silent())
    assert {one.licence for one in documents(tmp_path / "plain")} == {"CC-BY-4.0"}

    class Told(ToySource):
        def record(self, index: int) -> dict[str, Any]:
            return {**record_of(self[index]), "licence": "CC0-1.0"}

    run_build(Build(source=Told(), source_facts=facts, stages=[], count=2, seed=0), tmp_path / "told", Silent())
    assert {one.licence for one in documents(tmp_path / "told")} == {"CC0-1.0"}


def test_toybox_names_its_licence(tmp_path: Path) -> None:
    overrides = ["build.count=4", f"run.dir={tmp_path / 'run'}"]
    recipe = Path(__file__).parents[2] / "recipes" / "build.yaml"
    Framework.load(recipe, overrides).run()
    assert {one.licence for one in documents(tmp_path / "run")} == {"Apache-2.0"}


def documents(folder: Path) -> list[ShardDocument]:
    shards = ShardSet(folder / "shards")
    return [shards.sample(index).document for index in range(len(shards))]


def test_reasons_and_counts_reach_the_report(tmp_path: Path) -> None:
    totals = run_build(Build(source=ToySource(), stages=[stage(Odd)], count=12, seed=0), tmp_path, Silent())
    assert totals == {"read": 12, "kept": 4, "shards": 1}
    report = (tmp_path / "report.html").read_text()
    assert "4 two subjects" in report
    assert "4 dropped" in report
    assert "8 seen" in report
    assert report.count("<img") > 4
    assert "http" not in report


@pytest.mark.parametrize("options", [{"workers": 2}, {"batch": 1, "workers": 0}])
def test_engines_give_the_same_bytes(
    uninterrupted: Path, tmp_path: Path, options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PROGRAM.parent)  # workers import the stage
    plan = load_program().plan(tmp_path / "notes", 0, options["workers"])
    run_build(plan, tmp_path, Silent())
    assert contents(tmp_path) == contents(uninterrupted)


def test_jobs_of_an_array_share_the_work(uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    plan = replace(load_program().plan(tmp_path / "notes", 0, 0), engine="array")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
    for rank in (3, 1):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(rank))
        assert run_build(plan, tmp_path, Silent())["units_missing"] > 0
        assert not (tmp_path / "shards" / "manifest.json").exists()
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert run_build(plan, tmp_path, Silent())["kept"] == 13
    assert contents(tmp_path) == contents(uninterrupted)
    assert max(Counter((tmp_path / "notes").read_text().splitlines()).values()) == 1


@pytest.mark.parametrize(
    ("workers", "gpus", "told", "seen"),
    [
        (2, 1.0, "0,1,2", ["0", "1"]),
        (2, 2.0, "4,5,6,7", ["4,5", "6,7"]),
        (4, 0.5, "GPU-a,GPU-b", ["GPU-a", "GPU-a", "GPU-b", "GPU-b"]),
        (1, 1.0, "3", ["3"]),
    ],
)
def test_each_worker_has_gpus_of_its_own(workers: int, gpus: float, told: str, seen: list[str]) -> None:
    assert gpus_of_workers(workers, gpus, {"CUDA_VISIBLE_DEVICES": told}) == seen


def test_too_few_gpus_are_told() -> None:
    with pytest.raises(RunError, match=r"3 workers with 1 GPUs each need 3, found 2; lower build\.workers"):
        gpus_of_workers(3, 1.0, {"CUDA_VISIBLE_DEVICES": "0,1"})
    with pytest.raises(RunError, match="need 1, found 0"):
        gpus_of_workers(1, 1.0, {"CUDA_VISIBLE_DEVICES": ""})


def test_processes_see_their_own_gpus_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROGRAM.parent)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    from dataclasses import replace

    plan = replace(load_program().plan(tmp_path / "notes", 0.02, 2), worker_gpus=1.0)
    (tmp_path / "gpus").touch()
    monkeypatch.setenv("SIGMA_TEST_GPUS", str(tmp_path / "gpus"))
    run_build(plan, tmp_path, Silent())
    told = {tuple(line.split()) for line in (tmp_path / "gpus").read_text().splitlines()}
    assert len(told) == len({worker for worker, _ in told}), "a worker keeps its GPU"
    assert {gpu for _, gpu in told} == {"5", "7"}


def test_jobs_pack_one_after_another(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    holder = (
        "import pathlib, sys, time; from sigma_framework.dataset_build.packing import in_turn\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with in_turn(folder):\n    (folder / 'begun').touch(); time.sleep(0.5); (folder / 'done').touch()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path)])
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.02)
    with in_turn(tmp_path):
        assert (tmp_path / "done").exists(), "it was waited for"
    process.wait()


def test_shares_of_an_array() -> None:
    assert share_of_array({"RANK": "1", "WORLD_SIZE": "4"}) == Share(1, 4)
    assert share_of_array({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "3"}) == (
        Share(2, 3)
    )
    assert sorted(unit for rank in range(3) for unit in Share(rank, 3).of(10)) == list(range(10))
    for wrong in ({}, {"RANK": "4", "WORLD_SIZE": "4"}, {"RANK": "x", "WORLD_SIZE": "2"}):
        with pytest.raises(RunError, match="array"):
            share_of_array(wrong)


@pytest.mark.slow
def test_kill_minus_nine_anywhere_gives_the_same_bytes(uninterrupted: Path, tmp_path: Path) -> None:
    program = load_program()
    rng = random.Random(0)
    started = time.monotonic()
    whole = [sys.executable, str(PROGRAM), str(tmp_path / "timed"), str(tmp_path / "timing"), "0.05"]
    subprocess.run([*whole, str(program.WORKERS)], check=True, timeout=600)
    usual = time.monotonic() - started  # on a busy machine a fixed delay would hit nothing but imports
    killed = turn = 0
    while killed < KILLS:
        folder, notes = tmp_path / f"run{turn}", tmp_path / f"notes{turn}"
        turn, kills_here = turn + 1, 0
        command = [sys.executable, str(PROGRAM), str(folder), str(notes), "0.05", str(program.WORKERS)]
        while True:
            process = subprocess.Popen(command, start_new_session=True)
            try:
                process.wait(timeout=rng.uniform(0.1, 1.0) * usual * 1.15**kills_here if killed < KILLS else 600)
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                killed, kills_here = killed + 1, kills_here + 1
        assert process.returncode == 0
        assert contents(folder) == contents(uninterrupted)
        done = Counter(notes.read_text().splitlines())
        assert len(done) == 28
        assert sum(done.values()) - len(done) <= kills_here * program.WORKERS, "more was done twice than was at work"
    assert killed >= KILLS


def _running(group: int) -> list[str]:
    """Ids of the processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, own = path.read_text().rpartition(")")[2].split()[:3]
            found += [path.parent.name] if int(own) == group and state != "Z" else []
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_workers_end_when_the_build_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), str(tmp_path / "run"), str(tmp_path / "notes"), "0.2", "2"]
    process = subprocess.Popen(command, start_new_session=True)
    while not (tmp_path / "notes").exists():
        time.sleep(0.05)
        assert process.poll() is None
    process.kill()  # the parent alone
    process.wait()
    for _ in range(100):  # workers that were just starting notice it when they are up
        if not (left := _running(process.pid)):
            break
        time.sleep(0.2)
    assert left == []


def test_shards_that_are_there_are_not_written_again(uninterrupted: Path, tmp_path: Path) -> None:
    plan = load_program().plan(tmp_path / "notes", 0, 0)
    run_build(plan, tmp_path, Silent())
    first, second = tmp_path / "shards" / "00000.tar", tmp_path / "shards" / "00001.tar"
    os.utime(first, (1, 1))
    second.write_bytes(second.read_bytes()[:-5])
    (tmp_path / "shards" / "manifest.json").unlink()
    run_build(plan, tmp_path, Silent())
    assert first.stat().st_mtime == 1
    assert contents(tmp_path) == contents(uninterrupted)


def test_units_of_other_options_are_not_taken_for_done(tmp_path: Path) -> None:
    run_build(Build(source=ToySource(), stages=[stage(Odd, limit=1)], count=3, seed=0), tmp_path, Silent())
    with pytest.raises(RunError, match=r"made with other options or versions of stage.*--fresh"):
        run_build(Build(source=ToySource(), stages=[stage(Odd, limit=2)], count=3, seed=0), tmp_path, Silent())


def test_a_damaged_unit_is_named(tmp_path: Path) -> None:
    plan = Build(source=ToySource(), stages=[stage(Odd)], count=3, seed=0)
    run_build(plan, tmp_path, Silent())
    (path,) = (tmp_path / "stages").glob("00-source/*/00000002.unit")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RunError, match=r"00000002\.unit: damaged.*delete it and run again"):
        run_build(plan, tmp_path, Silent())
    path.unlink()
    run_build(plan, tmp_path, Silent())


def test_a_build_that_keeps_nothing_says_so(tmp_path: Path) -> None:
    class Nothing:
        def annotate(self, records: object, rng: object) -> list[object]:
            return []

    with pytest.raises(DataError, match="left none of 2 records"):
        run_build(Build(source=ToySource(), stages=[stage(Nothing, "none")], count=2, seed=1), tmp_path, Silent())


def test_a_source_that_is_too_short_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"build\.count: found 12 examples"):
        run_build(Build(source=ToySource(), stages=[], count=13, seed=1), tmp_path, Silent())


def test_all_of_nothing_is_not_a_number(tmp_path: Path) -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "sigma_set_offline.yaml"
    with pytest.raises(DataError, match=r"build\.count: found null.*write a number"):
        Framework.load(recipe, ["build.count=null", f"run.dir={tmp_path / 'run'}"]).build()


def test_records_start_empty_without_a_source(tmp_path: Path) -> None:
    class Maker:
        def annotate(self, records: Any, rng: Any) -> list[Any]:
            assert all(set(record) == {"key"} for record in records)
            return [{**record_of(toy_example(2)), "key": record["key"]} for record in records]

    run_build(Build(source=None, stages=[stage(Maker)], count=3, seed=1, batch=2), tmp_path, Silent())
    shards = ShardSet(tmp_path / "shards")
    assert [shards.sample(i).document.key for i in range(3)] == ["00000000", "00000001", "00000002"]


def test_units_hold_only_what_changed(tmp_path: Path) -> None:
    before = [record_of(toy_example(2, size_hw=(128, 128)))]
    after = [{**before[0], "captions": ["a", "b"], "boxes": np.eye(3)}]
    after[0].pop("prompt_full")
    write_unit(tmp_path / "0.unit", after, before, {"kept": 1})
    assert (tmp_path / "0.unit").stat().st_size < 2000
    found, facts = read_unit(tmp_path / "0.unit", before)
    assert facts == {"kept": 1}
    assert set(found[0]) == set(after[0])
    assert all(same(found[0][key], after[0][key]) for key in after[0] if key != "identities")


@pytest.mark.parametrize("there", [False, True])
def test_a_cluster_that_is_there_is_joined(there: bool) -> None:
    """Ray refuses to be told resources where a cluster runs already, by ``ray start`` or ``RAY_ADDRESS``."""
    calls: list[dict[str, Any]] = []

    class Ray:
        @staticmethod
        def init(**options: Any) -> None:
            calls.append(options)
            if there and "num_cpus" in options:
                raise ValueError("When connecting to an existing cluster, num_cpus and num_gpus must not be provided.")

    _join_or_start(Ray, 3)
    assert calls[0]["num_cpus"] == 3
    assert len(calls) == 1 + there
    assert not there or "num_cpus" not in calls[1]


def test_ray_gives_the_same_bytes(uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    from dataclasses import replace

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROGRAM.parent), *filter(None, sys.path)]))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=tempfile.mkdtemp(prefix="ray"))
    try:
        plan = replace(load_program().plan(tmp_path / "notes", 0, 1), engine="ray")
        assert run_build(plan, tmp_path, Silent())["kept"] == 13
        rows = ray.data.read_webdataset(str(tmp_path / "shards"), decoder=None, file_extensions=["tar"]).take_all()
        assert len(rows) == 13
        assert all(row["target.png"].startswith(b"\x89PNG") for row in rows)
    finally:
        ray.shutdown()
    assert contents(tmp_path) == contents(uninterrupted)


def test_a_stage_is_told_in_one_line() -> None:
    counts = Counter({"subjects found twice": 0, "subjects too large": 4})
    told = StageCount(name="filter", read=40, kept=37, rejected=Counter({"too few": 3}), counts=counts).line()
    assert told == "filter: 37 of 40 kept (rejected: 3 too few); 0 subjects found twice, 4 subjects too large"
