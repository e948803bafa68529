"""Scores: images of scenes by the recipe's sampler, or by anyone, in a folder; numbers by the recipe's metrics."""

from sigma_framework.evaluation.plan import plan_evaluation
from sigma_framework.evaluation.run import Evaluation, run_evaluation
from sigma_framework.evaluation.scenes import ControlDraw, SceneGroup, chosen_scenes, scene_of_example

__all__ = [
    "ControlDraw",
    "Evaluation",
    "SceneGroup",
    "chosen_scenes",
    "plan_evaluation",
    "run_evaluation",
    "scene_of_example",
]
