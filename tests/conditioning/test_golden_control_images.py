"""Control images equal the stored ones, pixel by pixel."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

GOLDEN = Path(__file__).parents[1] / "golden"
MADE = runpy.run_path(str(GOLDEN / "make_control_images.py"))["compose_all"]()


@pytest.mark.parametrize("name", MADE)
def test_control_image_is_the_golden_one(name: str) -> None:
    golden = np.asarray(Image.open(GOLDEN / f"control_{name}.png"))
    assert np.array_equal(MADE[name], golden)


def test_no_golden_image_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("control_*.png")} == {f"control_{name}" for name in MADE}
