"""Results of two systems, small: four scenes with two and three subjects, as an evaluation leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

WIDTH, HEIGHT = 96, 64
COLOURS = ("red", "green", "blue")


def scene_of(folder: Path, number: int) -> str:
    """Writes one scene document; its name."""
    (folder / "scenes").mkdir(parents=True, exist_ok=True)
    subjects = []
    for index in range(2 + number % 2):
        name = f"{number}_{index}.png"
        Image.new("RGB", (32, 32), COLOURS[index]).save(folder / "scenes" / name)
        box = [4 + 30 * index, 10, 30 + 30 * index, 50]
        thing = {"name": f"s{index}", "caption": f"a {COLOURS[index]} <b>thing</b>", "image": name}
        subjects.append({**thing, "control": {"type": "box2d", "xyxy": box}})
    document = {"version": 1, "size": [WIDTH, HEIGHT], "prompt": f"room {number}", "subjects": subjects}
    (folder / "scenes" / f"{number}.json").write_text(json.dumps(document))
    return f"scenes/{number}.json"


def results_of(folder: Path, system: str, shade: int, scenes: int = 4) -> Path:
    """A run folder with ``images/manifest.json``."""
    images = folder / "images"
    listed = []
    for number in range(scenes):
        name = f"{number:04d}.png"
        entry = {"image": name, "scene": scene_of(images, number), "key": f"test-{number}", "source": "main", "seed": 3}
        picture = np.full((HEIGHT, WIDTH, 3), shade + number, np.uint8)
        text = PngInfo()
        text.add_text("sigma.recipe", f"made by {system}")
        profile = f"profile of {system}".encode()
        Image.fromarray(picture).save(images / name, pnginfo=text, icc_profile=profile)
        listed.append(entry)
    (images / "manifest.json").write_text(json.dumps({"version": 1, "system": system, "images": listed}))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> tuple[Path, Path]:
    """model-q1, all dark, and model-q2, all bright."""
    return results_of(tmp_path / "a", "model-q1", 20), results_of(tmp_path / "b", "model-q2", 200)


@pytest.fixture
def make_results() -> Callable[..., Path]:
    """``results_of``."""
    return results_of
