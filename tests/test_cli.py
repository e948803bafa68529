"""The command line: every flag, every exit code, and nothing heavy where nothing heavy is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from sigma_framework import cli
from sigma_framework.errors import RunError
from sigma_framework.recipe import shipped_recipes

FAKES = Path(__file__).parent / "plugin_host" / "fake_dists"
HEAVY = ("torch", "diffusers", "transformers", "lightning", "peft", "scipy")
CPU_SECONDS = 1.0
EXPLAIN_CPU_SECONDS = 2.0
ATTEMPTS = 5
"""Other work on the machine makes the same instructions take longer, and the first run compiles."""


def sigma_run(*arguments: str) -> int:
    """The command in this process, up to its exit code."""
    return cli.guarded(cli.run_app, "sigma-run", arguments)


def in_its_own_process(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python program with this process's path."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def generate(tmp_path: Path) -> Path:
    """A copy of what the shipped recipe ``generate`` extends, so that tests may change it."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": str(shipped_recipes()["generate"])}))
    return path


def test_right_recipe_checks(generate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sigma_run(str(generate), "--check") == 0
    assert "no problems" in capsys.readouterr().out


def test_shipped_name_checks() -> None:
    assert sigma_run("generate", "sampler.steps=3", "--check") == 0


def test_five_mistakes_on_standard_error(generate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["run.sede=1", "sampler.steps=many", "backbone.type=flux", "images=0", "metrics.m.type=none"]
    assert sigma_run(str(generate), *overrides, "--check") == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert lines[0] == f"error: {generate}: 5 problems"
    assert len(lines) == 6 and all(line.startswith("  ") for line in lines[1:])
    assert "Traceback" not in captured.err and captured.out == ""
    assert any("run.sede" in line and "did you mean 'seed'?" in line for line in lines)


def test_check_as_data(generate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sigma_run(str(generate), "--check", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert sigma_run(str(generate), "run.sede=1", "--check", "--json") == 2
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert [problem["where"] for problem in document["problems"]] == ["run.sede"]


def test_scene_and_recipe_are_checked_together(generate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = generate.with_name("scene.yaml")
    subject = {"name": "a", "image": "gone.png", "control": {"type": "box2d", "xyxy": [0, 0, 32, 32]}}
    scene.write_text(yaml.safe_dump({"version": 1, "size": [100, 128], "prompt": "a place", "subjects": [subject]}))
    assert sigma_run(str(generate), f"scene={scene}", "run.sede=1", "--check") == 2
    text = capsys.readouterr().err
    assert "run.sede" in text and "scene.yaml" in text and "gone.png" in text
    assert sigma_run(str(generate), f"scene={scene}", "--check") == 2
    assert capsys.readouterr().err.startswith(f"error: {scene}: 2 problems"), "the recipe is right"


def test_a_scene_without_a_size_takes_that_of_the_photograph_given_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a mistake elsewhere in the recipe brings no mistake of the scene."""
    Image.new("RGB", (192, 192), "grey").save(tmp_path / "photo.png")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "mug.png")
    subject = {"name": "a", "image": "mug.png", "control": {"type": "box2d", "xyxy": [140, 100, 180, 180]}}
    scene = tmp_path / "scene.yaml"
    scene.write_text(yaml.safe_dump({"version": 1, "prompt": "a place", "subjects": [subject]}))
    given = (f"scene={scene}", f"background={tmp_path / 'photo.png'}")
    assert sigma_run("insert", *given, "--check") == 0
    assert sigma_run("generate", *given, "--check") == 0
    assert "the photograph is not used" in capsys.readouterr().out
    assert sigma_run("generate", given[0], "--check") == 2
    assert "the image is 128x128" in capsys.readouterr().err
    Image.new("L", (128, 128), 255).save(tmp_path / "mask.png")
    subject["control"] = {"type": "mask", "file": "mask.png"}
    scene.write_text(yaml.safe_dump({"version": 1, "prompt": "a place", "subjects": [subject]}))
    assert sigma_run("generate", given[0], "run.sede=1", "--check") == 2
    assert "1 problem\n" in capsys.readouterr().err


def test_check_tells_what_will_disappoint(capsys: pytest.CaptureFixture[str]) -> None:
    scene = Path(__file__).parents[1] / "examples" / "scenes" / "insert.yaml"
    assert sigma_run("generate", f"scene={scene}", "--check") == 0
    text = capsys.readouterr().out
    assert f"generate.yaml with {scene}: no problems\n" in text
    assert "warning: background: the photograph is not used" in text
    assert sigma_run("insert", f"scene={scene}", "--check", "--json") == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_missing_files_are_told(generate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sigma_run(str(generate), "adapters.main.path=./nowhere", "--check") == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (
            ["backbone.weights=black-forest-labs/FLUX.1-Kontext-dev"],
            'found "pocket", which flux_kontext does not bring with the weights "black-forest-labs/FLUX.1-Kontext-dev"',
        ),
        (
            ["backbone.type=flux2_klein", "backbone.weights=some/folder"],
            'found "pocket", which flux2_klein does not bring with the weights "some/folder"',
        ),
    ],
)
def test_an_adapter_of_other_weights_is_told_before_anything_is_loaded(overrides: list[str], found: str) -> None:
    program = (
        "import sys\nfrom sigma_framework.cli import guarded, run_app\n"
        f"code = guarded(run_app, 'sigma-run', sys.argv[1:])\nheavy = set({HEAVY!r}) & set(sys.modules)\n"
        "sys.exit(f'{heavy=}' if heavy else code)"
    )
    done = in_its_own_process(program, "generate", *overrides, "--check")
    assert done.returncode == 2
    line = f"  adapters.main.path: {found}; give a folder from training, or write adapters.main=null for none"
    assert done.stderr.splitlines()[1:] == [line]
    assert in_its_own_process(program, "generate", *overrides, "adapters.main=null", "--check").returncode == 0


def test_print_config_loads_again(generate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sigma_run(str(generate), "run.seed=5", "--print-config") == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["run"]["seed"] == 5
    assert "# override" in text and "# default" in text and "# generate.yaml:" in text
    assert sigma_run(str(generate), "run.seed=5", "--print-config", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recipe"]["run"]["seed"] == 5 and document["origins"]["run.seed"] == "override"


def test_explain_names_components_and_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    assert sigma_run("curriculum", "--explain") == 0
    text = capsys.readouterr().out
    assert "sigma-framework" in text and "s1: steps 1 to" in text and "licence" in text
    assert sigma_run("curriculum", "--explain", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["task"] == "train" and facts["backbone"]["tokens"]


def test_explain_tells_full_scale_for_the_most_subjects_of_any_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert sigma_run("curriculum_flux", "--explain") == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    wanted = [
        "counted_for: 10 subjects of 512 x 512 pixels in an image of 1024 x 1024, batch 1 per device",
        "transformer: 11,901,408,320", "adapter: 463,609,856", "identity: 10,240", "total: 18,944",
    ]  # fmt: skip
    assert [line for line in wanted if line not in lines] == []
    assert next(line for line in lines if line.startswith("licence:")).startswith(
        "licence: FLUX.1 [dev] Non-Commercial"
    )
    assert {"peak_full", "peak_balanced"} <= {line.partition(":")[0] for line in lines}

    def counted(*overrides: str) -> int:
        assert sigma_run("curriculum_flux", *overrides, "--explain", "--json") == 0
        return int(json.loads(capsys.readouterr().out)["backbone"]["counted_for"]["subjects"])

    assert counted("datasources.main.max_subjects=6") == 6
    assert counted("stages.s2.subjects={min: 3, max: 5}", "stages.s3.subjects={min: 5, max: 7}") == 7
    assert counted("stages.s2=null", "stages.s3=null") == 4


def test_plugins_are_listed_without_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert sigma_run("--plugins") == 0
    assert "control" in capsys.readouterr().out
    assert sigma_run("--plugins", "--json") == 0
    names = {(row["kind"], row["name"]) for row in json.loads(capsys.readouterr().out)["components"]}
    assert ("control", "box2d") in names and ("backbone", "flux_kontext") in names


def test_broken_and_contested_plugins_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for case in ("import_error", "duplicate_one", "duplicate_two"):
        monkeypatch.syspath_prepend(str(FAKES / case))
    monkeypatch.delenv("SIGMA_STRICT_PLUGINS", raising=False)
    assert sigma_run("--plugins") == 0
    text = capsys.readouterr().out
    assert "BROKEN acme-import-error 0.3" in text and "acme_package_that_is_not_there" in text
    assert "CONFLICT metric acme_twice" in text
    monkeypatch.setenv("SIGMA_STRICT_PLUGINS", "1")
    assert sigma_run("--plugins") == 2
    captured = capsys.readouterr()
    assert "BROKEN acme-import-error" in captured.out and "acme-import-error" in captured.err


def test_plugins_with_a_recipe_respects_its_disable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FAKES / "import_error"))
    assert sigma_run("generate", "plugins.disable=[acme-import-error]", "--plugins") == 0
    assert "DISABLED acme-import-error" in capsys.readouterr().out


def test_environment_needs_the_flag(
    generate: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGMA_CANARY", "canary-value")
    override = "run.dir=${env:SIGMA_CANARY}"
    assert sigma_run(str(generate), override, "--check") == 2
    assert "--allow-env SIGMA_CANARY" in capsys.readouterr().err
    assert sigma_run(str(generate), override, "--print-config", "--allow-env", "SIGMA_CANARY") == 0
    captured = capsys.readouterr()
    assert "canary-value" not in captured.out + captured.err


def test_flags_reach_the_run(
    generate: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sigma_framework.framework import Framework

    calls: list[tuple[bool, Sequence[str]]] = []

    def record(self: Framework, fresh: bool = False, allow: Sequence[str] = ()) -> list[str]:
        calls.append((fresh, allow))
        return [f"made with seed {self.recipe.run.seed}"]

    monkeypatch.setattr(Framework, "run", record)
    assert sigma_run(str(generate), "run.seed=8") == 0
    assert sigma_run(str(generate), "run.seed=9", "--fresh", "--allow", "train.lora", "--allow", "run.seed") == 0
    assert calls == [(False, []), (True, ["train.lora", "run.seed"])]
    assert capsys.readouterr().out.splitlines() == ["made with seed 8", "made with seed 9"]


def test_error_of_a_run_has_no_traceback_unless_asked(
    generate: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sigma_framework.framework import Framework

    def refuse(self: Framework, **options: Any) -> list[str]:
        raise RunError("runs/x holds another run")

    monkeypatch.setattr(Framework, "run", refuse)
    assert sigma_run(str(generate)) == 2
    assert capsys.readouterr().err == "error: runs/x holds another run\n"
    assert sigma_run(str(generate), "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_defect_is_one_line_and_exit_code_one(
    generate: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sigma_framework.framework import Framework

    def fail(self: Framework, **options: Any) -> list[str]:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(Framework, "run", fail)
    assert sigma_run(str(generate)) == 1
    text = capsys.readouterr().err
    assert text.startswith("defect: ZeroDivisionError: division by zero") and "--debug" in text
    assert len(text.splitlines()) == 1
    assert sigma_run(str(generate), "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [(), ("--chek",), ("generate", "--allow"), ("no_such_recipe",), ("generate", "run.seed")]
)
def test_wrong_command_lines(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert sigma_run(*arguments) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and "Traceback" not in text


def test_help_and_completion(capsys: pytest.CaptureFixture[str]) -> None:
    assert sigma_run("--help") == 0
    text = capsys.readouterr().out
    assert "--print-config" in text and "--install-completion" in text
    assert cli._complete_recipe("gener") == ["generate", "generate_flux"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_with_their_code(number: signal.Signals, code: int) -> None:
    program = (
        "import sys, time, typer; from sigma_framework.cli import guarded; app = typer.Typer()\n"
        "@app.command()\ndef wait() -> None:\n    print('ready', flush=True); time.sleep(30)\n"
        "sys.exit(guarded(app, 'wait', []))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(timeout=20) == code
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        (("generate", "--check"), CPU_SECONDS),
        (("generate", "run.sede=1", "--check"), CPU_SECONDS),
        (("curriculum", "--print-config"), CPU_SECONDS),
        (("curriculum", "--explain"), EXPLAIN_CPU_SECONDS),
        (("curriculum_flux", "--explain"), EXPLAIN_CPU_SECONDS),
        (("curriculum_klein", "--explain"), EXPLAIN_CPU_SECONDS),
        (("--plugins",), CPU_SECONDS),
        (("--help",), CPU_SECONDS),
    ],
)
def test_looking_imports_nothing_heavy_and_is_quick(arguments: tuple[str, ...], limit: float) -> None:
    program = (
        "import json, resource, sys\nfrom sigma_framework.cli import guarded, run_app\n"
        "code = guarded(run_app, 'sigma-run', sys.argv[1:])\nused = resource.getrusage(resource.RUSAGE_SELF)\n"
        f"heavy = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "print(json.dumps([code, used.ru_utime + used.ru_stime, heavy]), file=sys.stderr)"
    )
    used: list[float] = []
    while len(used) < ATTEMPTS and min(used, default=limit) >= limit:
        code, seconds, heavy = json.loads(in_its_own_process(program, *arguments).stderr.splitlines()[-1])
        assert heavy == []
        assert code in (0, 2)
        used.append(seconds)
    assert min(used) < limit, used


def test_run_as_installed(generate: Path) -> None:
    done = in_its_own_process(
        "import sys; from sigma_framework.cli import run_main; run_main()", str(generate), "images=0", "--check"
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"error: {generate}: 1 problem"
