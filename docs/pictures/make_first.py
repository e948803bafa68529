"""Makes the README's picture: python docs/pictures/make_first.py

Three scenes with the shipped model; per row the identity pictures, the layout, the control image, the image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sigma_framework import Framework
from sigma_framework.training.record import grid_picture

ROOT = Path(__file__).parents[2]
SCENES = (("boxes.yaml", 0), ("mixed.yaml", 0), ("insert.yaml", 0))


def main() -> None:
    """Writes first.png beside this file."""
    framework = Framework.load(ROOT / "recipes" / "generate.yaml")
    rows = []
    for name, seed in SCENES:
        make = framework.insert if name.startswith("insert") else framework.generate
        result = make(ROOT / "examples" / "scenes" / name, seed=seed)
        controls = result.controls
        rows.append([controls.identity, controls.layout, controls.spatial, np.asarray(result.images[0])])
    titles = ("identities", "layout", "control image", "result")
    Image.fromarray(grid_picture(rows, titles)).save(Path(__file__).with_name("first.png"))


if __name__ == "__main__":
    main()
