"""The examples, installed by pip into another environment, are found, pass their own tests, draw and train."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
PACKAGES = ("acme_ellipse", "acme_kit")

SIGMA_RUN = ("-c", "from sigma_framework.cli import run_main; run_main()")
"""The console script of this environment would start this environment's interpreter."""

GENERATE = """
task: generate
backbone: {{type: acme_mixer}}
sampler: {{type: acme_midpoint, steps: 2, guidance: null}}
conditioning: {{identity_size: 32}}
scene: {scene}
"""


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment that sees this one's packages and has both examples installed; no network."""
    folder = tmp_path_factory.mktemp("environment")
    run(Path(sys.executable), "-m", "venv", "--without-pip", str(folder))
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    theirs = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    ours = sysconfig.get_path("purelib")
    (Path(theirs) / "borrowed.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    options = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    run(python, "-m", "pip", *options, *(str(EXAMPLES / name) for name in PACKAGES))
    return python


def run(python: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Python and fails with all it wrote unless it ends well."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    environment |= {"OMP_NUM_THREADS": "1", "SIGMA_STRICT_PLUGINS": "1"}
    done = subprocess.run(
        [str(python), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done


def test_their_own_tests_pass(interpreter: Path, tmp_path: Path) -> None:
    for name in PACKAGES:
        shutil.copy(EXAMPLES / name / f"test_{name}.py", tmp_path)
    done = run(interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", ".", cwd=tmp_path)
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_they_are_listed_with_their_distribution(interpreter: Path) -> None:
    listing = json.loads(run(interpreter, *SIGMA_RUN, "--plugins", "--json").stdout)
    theirs = {
        (entry["kind"], entry["name"], entry["distribution"], entry["version"])
        for entry in listing["components"]
        if entry["distribution"].startswith("acme")
    }
    assert theirs == {
        ("control", "ellipse", "acme-ellipse", "1.0.0"),
        ("control", "acme_disc", "acme-kit", "1.0.0"),
        ("backbone", "acme_mixer", "acme-kit", "1.0.0"),
        ("datasource", "acme_discs", "acme-kit", "1.0.0"),
        ("sampler", "acme_midpoint", "acme-kit", "1.0.0"),
    }
    assert not listing["broken"]


def test_a_scene_draws_the_ellipse(interpreter: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "ellipse.yaml"
    recipe.write_text(GENERATE.format(scene=json.dumps(str(EXAMPLES / "acme_ellipse" / "scene.yaml"))))
    run(interpreter, *SIGMA_RUN, str(recipe), cwd=tmp_path)
    made = tmp_path / "runs" / "ellipse"
    assert Image.open(made / "0000.png").size == (128, 128)
    spatial = np.asarray(Image.open(made / "0000.spatial.png"))
    rows, columns = np.mgrid[:128, :128] + 0.5
    ellipse = ((columns - 36) / 24) ** 2 + ((rows - 70) / 30) ** 2 <= 1
    assert np.array_equal(spatial[..., 0] == 10, ellipse)


def test_a_kit_trains_and_generates_with_its_own_base(interpreter: Path, tmp_path: Path) -> None:
    for path in (EXAMPLES / "acme_kit").iterdir():
        if path.suffix in (".yaml", ".png"):
            shutil.copy(path, tmp_path)
    run(interpreter, *SIGMA_RUN, "recipe.yaml", cwd=tmp_path)
    trained = tmp_path / "runs" / "recipe"
    assert (trained / "adapter" / "pytorch_lora_weights.safetensors").stat().st_size > 0
    with (trained / "metrics.csv").open() as file:
        validation = [float(row["val_loss"]) for row in csv.DictReader(file) if row["val_loss"]]
    assert validation[-1] < 0.9 * validation[0]

    run(interpreter, *SIGMA_RUN, "generate.yaml", cwd=tmp_path)
    run(interpreter, *SIGMA_RUN, "generate.yaml", "adapters.main.weight=0", cwd=tmp_path)
    on, off = (np.asarray(Image.open(tmp_path / "runs" / "generate" / f"{n:04d}.png"), int) for n in (0, 1))
    assert on.shape == (64, 64, 3)
    assert np.abs(on - off).mean() > 5, "the trained adapter does not change the image"
