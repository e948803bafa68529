"""Scenes: what to make, as versioned plain data, and the only place that opens the files a scene names."""

from sigma_framework.scene.records import Picture, Scene, Subject
from sigma_framework.scene.resolution import ResolvedScene, ResolvedSubject

__all__ = ["Picture", "ResolvedScene", "ResolvedSubject", "Scene", "Subject"]
