"""Makes the golden control images: ``python tests/golden/make_control_images.py`` writes them beside this file.

Run it only when the control image is meant to change, and say so in the changelog.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sigma_controls.plugin import sigma_register_controls
from sigma_framework import Scene, Subject
from sigma_framework.conditioning import compose_scene
from sigma_framework.types import RgbImage

FOLDER = Path(__file__).parent
SIZE = (96, 64)


def disk(x: float, y: float, radius: float) -> np.ndarray:
    """(64, 96) bool."""
    rows, columns = np.indices((SIZE[1], SIZE[0])) + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def make_scenes() -> dict[str, Scene]:
    """One scene per picture, by name."""
    ramp = np.repeat(np.linspace(2, 6, SIZE[0], dtype=np.float32)[None], SIZE[1], axis=0)
    mask = {"type": "mask", "file": disk(24, 32, 16)}
    depth = {"type": "depth", "mask": disk(40, 30, 18), "depth": ramp}
    grey = np.rint(ramp * 30).astype(np.uint8)
    disparity = {"type": "depth", "mask": disk(60, 24, 14), "depth": grey, "near": 3.0, "far": 5.0}
    box2d = {"type": "box2d", "xyxy": [10.5, 20.2, 70, 60.9]}
    box3d = {"type": "box3d", "center": [0.5, 0.2, 4.0], "size": [1, 1, 1.4], "rotation": [10, 30, 5]}
    near3d = {"type": "box3d", "center": [-0.6, 0.3, 2.5], "size": [0.7, 0.7, 0.7], "rotation": [0, -40, 0]}
    controls = {
        "masks": [mask, {"type": "mask", "file": disk(60, 32, 20)}],
        "boxes2d": [box2d, {"type": "box2d", "xyxy": [40, 0, 96, 40]}, {"type": "box2d", "xyxy": [0, 40, 50, 64]}],
        "boxes3d": [box3d, near3d],
        "mixed": [box2d, mask, depth, box3d, disparity],
    }
    image = np.zeros((16, 16, 3), np.uint8)
    return {
        name: Scene(subjects=tuple(Subject(image=image, control=control) for control in group), prompt="x", size=SIZE)
        for name, group in controls.items()
    }


def compose_all() -> dict[str, RgbImage]:
    """Control images by name, (64, 96, 3) uint8."""
    specs = {spec.name: spec for spec in sigma_register_controls()}
    encoders = {name: spec.load_factory()(spec.config()) for name, spec in specs.items()}
    return {name: compose_scene(scene.resolve(specs, 16), encoders).spatial for name, scene in make_scenes().items()}


if __name__ == "__main__":
    for name, picture in compose_all().items():
        Image.fromarray(picture).save(FOLDER / f"control_{name}.png")
