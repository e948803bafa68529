"""Scores: scenes from a data source's annotations, images by the recipe's sampler, numbers by its metrics."""

from sigma_framework.evaluation.run import Evaluation, run_evaluation
from sigma_framework.evaluation.scenes import ControlDraw, SceneGroup, chosen_scenes, scene_of_example

__all__ = ["ControlDraw", "Evaluation", "SceneGroup", "chosen_scenes", "run_evaluation", "scene_of_example"]
