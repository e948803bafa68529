"""``acme_discs``: coloured discs on grey."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from acme_kit.config import DiscsConfig
from sigma_framework import Camera, Example, SubjectAnnotation

COLOURS = {"red": (210, 50, 40), "green": (50, 170, 70), "blue": (50, 90, 210), "yellow": (230, 200, 40)}


@dataclass(frozen=True)
class Discs:
    """Example i shows 1 + i % 2 discs, drawn from a generator of its own."""

    config: DiscsConfig

    @property
    def subject_counts(self) -> np.ndarray:
        """1, 2, 1, 2, ..."""
        return np.arange(self.config.length, dtype=np.int64) % 2 + 1

    @property
    def sizes(self) -> np.ndarray:
        """One size for all."""
        return np.full((self.config.length, 2), self.config.image_size, np.int64)

    def __len__(self) -> int:
        return self.config.length

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index}, expected 0 to {len(self) - 1}")
        rng = np.random.default_rng(index)
        side, count = self.config.image_size, index % 2 + 1
        names = [str(name) for name in rng.choice(list(COLOURS), count, replace=False)]
        target = np.full((side, side, 3), int(rng.integers(120, 200)), np.uint8)
        subjects = []
        for number, name in enumerate(names):
            radius = side / count * rng.uniform(0.25, 0.45)
            x, y = side / count * (number + 0.5), rng.uniform(radius, side - radius)
            mask = _disc(side, x, y, radius)
            target[mask] = COLOURS[name]
            subjects.append(_annotation(mask, f"a {name} disc"))
        return Example(
            target=target,
            identities=tuple(_identity(name) for name in names),
            subjects=tuple(subjects),
            prompt_full=" and ".join(one.caption for one in subjects) + " on grey paper",
            prompt_background="grey paper",
            key=f"discs-{index}",
        )


def _disc(side: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def _identity(name: str, side: int = 32) -> np.ndarray:
    picture = np.full((side, side, 3), 255, np.uint8)
    picture[_disc(side, side / 2, side / 2, side * 0.4)] = COLOURS[name]
    return picture


def _annotation(mask: np.ndarray, caption: str) -> SubjectAnnotation:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return SubjectAnnotation(
        mask=mask,
        depth=None,
        camera=Camera.from_fov_y(50, mask.shape[1], mask.shape[0]),
        box2d=(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)),
        box3d=None,
        caption=caption,
    )
