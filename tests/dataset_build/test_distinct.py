"""Stages that compare the whole set: what they drop, in every engine, and when they must wait."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_framework import ShardSet, WeightsError
from sigma_framework.dataset_build import Build, Stage, record_of, run_build
from sigma_framework.progress import Silent
from sigma_framework.testing import toy_example

SAID = ("a", "b", "a", "c", "b", "d", "d", "a")
"""What each record says; 0, 1, 3 and 5 are the first."""


@dataclass(frozen=True)
class Writer:
    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        for record in records:
            number = int(record["key"])
            made = record_of(toy_example(1, seed=number, size_hw=(16, 16), identity_size=16))
            yield {**made, "key": record["key"], "prompt_full": SAID[number]}


@dataclass(frozen=True)
class OneOfEach:
    seen: str

    def gist(self, record: Mapping[str, Any]) -> str:
        return str(record["prompt_full"])

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        for record in records:
            with open(self.seen, "a") as file:
                file.write(record["key"] + "\n")
            yield record


class Unreadable:
    def __init__(self) -> None:
        raise WeightsError("writer: weights: ./nowhere is not a folder here")

    def annotate(self, records: Any, rng: Any) -> Any:
        return records


def plan(seen: Path, **options: Any) -> Build:
    stages = [Stage(name="write", make=Writer), Stage(name="unique", make=partial(OneOfEach, str(seen)))]
    return Build(source=None, stages=stages, count=len(SAID), seed=0, batch=2, **options)


def keys(folder: Path) -> list[str]:
    shards = ShardSet(folder / "shards")
    return [shards.sample(index).document.key for index in range(len(shards))]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    assert run_build(plan(folder / "seen"), folder, Silent())["kept"] == 4
    return folder


def test_the_first_of_the_whole_set_stays_and_the_others_are_counted(built: Path) -> None:
    assert keys(built) == ["00000000", "00000001", "00000003", "00000005"]
    assert "4 says what an earlier record says" in (built / "report.html").read_text()
    assert (built / "seen").read_text().split() == keys(built), "the annotator sees the first ones alone"


def test_processes_drop_the_same(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)  # workers import the stages
    run_build(plan(tmp_path / "seen", workers=2), tmp_path, Silent())
    assert files(tmp_path) == files(built)


def test_a_build_that_goes_on_drops_the_same(built: Path, tmp_path: Path) -> None:
    run_build(plan(tmp_path / "seen"), tmp_path, Silent())
    for unit in (0, 2):
        (tmp_path / "stages" / "02-unique" / "00000" / f"{unit:08d}.unit").unlink()
    (tmp_path / "shards" / "manifest.json").unlink()
    run_build(plan(tmp_path / "seen"), tmp_path, Silent())
    assert files(tmp_path) == files(built)


def test_a_job_of_an_array_waits_for_the_others(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note_keeper: Any
) -> None:
    work = plan(tmp_path / "seen", engine="array")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    totals = []
    for rank in ("0", "1", "0"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", rank)
        totals.append(run_build(work, tmp_path, note_keeper))
        if len(totals) == 1:
            told = note_keeper.notes
            assert any("job 1 of 2 waits: stage unique" in note and "2 units of write" in note for note in told)
    assert totals[0] == {"read": 4, "units_missing": 4}
    assert totals[1]["units_missing"] == 2, "the second job found all prompts and went on with its own share"
    assert totals[2]["kept"] == 4
    assert files(tmp_path) == files(built)


def test_what_a_stage_says_when_it_begins_comes_from_worker_processes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    broken = replace(plan(tmp_path / "seen", workers=2), stages=[Stage(name="write", make=Unreadable)])
    with pytest.raises(WeightsError, match=r"\./nowhere is not a folder here"):
        run_build(broken, tmp_path, Silent())


def test_units_say_why_a_record_went(built: Path) -> None:
    from sigma_framework.dataset_build.records import read_unit

    path = built / "stages" / "02-unique" / "00000" / "00000003.unit"
    facts = read_unit(path, [{"key": "00000006"}, {"key": "00000007"}])[1]
    assert json.dumps(facts["rejected"]) == '{"says what an earlier record says": 2}'
