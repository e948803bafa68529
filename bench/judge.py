"""How well the judge reads held-out renders: python bench/judge.py [scenes per row, default 100]."""

from __future__ import annotations

import sys

import numpy as np
import torch

from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.source import ToyboxSource
from sigma_framework import Example
from sigma_metrics.judge.model import Judge
from sigma_metrics.judge.objective import pixel_truth
from sigma_metrics.layout import overlaps
from sigma_metrics.observation import look
from sigma_metrics.routing import accuracy

ROWS = [
    *((f"{count} subjects", count, {}) for count in (1, 2, 4, 8, 10)),
    *((f"{count} subjects of one colour", count, {"same_colour": True}) for count in (4, 8)),
    *((f"4 subjects, new {part}", 4, {"holdout": part}) for part in ("shapes", "textures", "colours")),
]
"""Label, number of subjects, options of toybox."""


def main() -> None:
    """Prints one Markdown row per kind of scene."""
    torch.set_num_threads(1)
    scenes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    judge = Judge()
    print("| held-out renders | subjects, IoU | region IoU | depth, correlation | right identity among the scene's |")
    print("|---|---|---|---|---|")
    for label, count, options in ROWS:
        config = ToyboxConfig(split="test", min_subjects=count, max_subjects=count, count=scenes, **options)
        source = ToyboxSource(config)
        numbers = np.mean([_numbers(judge, source[index]) for index in range(scenes)], axis=0)
        print(f"| {label} | {' | '.join(f'{number:.3f}' for number in numbers)} |", flush=True)


def _numbers(judge: Judge, example: Example) -> tuple[float, float, float, float]:
    regions = np.stack([subject.mask for subject in example.subjects])
    seen, truth = look(judge, example.target, regions, np.concatenate(example.identities)), pixel_truth(example)
    subject = regions.any(axis=0)
    found = seen.reading.subject
    iou = (found & subject).sum() / (found | subject).sum()
    depth = np.corrcoef(truth.nearness.numpy()[subject], seen.reading.nearness[subject])[0, 1]
    return float(iou), float(overlaps(seen.bodies, regions).mean()), float(depth), accuracy(seen)


if __name__ == "__main__":
    main()
