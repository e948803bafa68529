"""Options of the sampling loops; steps and guidance belong to every sampler and are the core's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class AdapterGuidance:
    """Guidance away from the same model with weaker adapters, which do worse what the adapters were trained for.

    The idea is autoguidance (Karras et al. 2024, arXiv:2406.02507), its interval that of Kynkäänniemi et al. 2024
    (arXiv:2404.07724); the paper of the method has neither.
    """

    scale: float = 1.0
    """1 is off; 2 goes as far beyond the adapters as the weaker ones stay behind. Too much exaggerates contrast."""
    weak: float = 0.6
    """How strong the weaker adapters are, in shares of their own weight, at least 0 and below 1."""
    until: float = 0.5
    """It ends when t falls below this, in [0, 1): later steps take one pass, and say little about places."""

    def __post_init__(self) -> None:
        found = []
        if self.scale < 1:
            found.append(f"scale must be at least 1, found {self.scale}")
        if not 0 <= self.weak < 1:
            found.append(f"weak must be at least 0 and below 1, found {self.weak}")
        if not 0 <= self.until < 1:
            found.append(f"until must be at least 0 and below 1, found {self.until}")
        if found:
            raise ValueError("; ".join(found))

    def acts_at(self, t: float) -> bool:
        """Whether a step at time ``t`` takes the second pass."""
        return self.scale != 1.0 and t >= self.until


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Options of ``generate``."""

    adapter_guidance: AdapterGuidance = field(default_factory=AdapterGuidance)
    """More of what the adapters know, for a second pass in part of the steps."""


@dataclass(frozen=True, kw_only=True)
class BlendedInsertionConfig:
    """Options of ``blended_insertion``."""

    start: float = 1.0
    """How much of the schedule runs, in (0, 1]: 1 starts from pure noise; less keeps more of the photograph's colours
    inside the regions, at the price of identity (the ``strength`` of image-to-image pipelines)."""
    adapter_guidance: AdapterGuidance = field(default_factory=AdapterGuidance)
    """As for ``generate``."""

    def __post_init__(self) -> None:
        if not 0 < self.start <= 1:
            raise ValueError(f"start must be above 0 and at most 1, found {self.start}")


@dataclass(frozen=True, kw_only=True)
class IterativeInsertionConfig:
    """Options of ``iterative_insertion``."""

    order: Literal["ascending", "descending"] = "ascending"
    """Which subject comes first: the scene's first or its last; a later one may paint over an earlier one."""


@dataclass(frozen=True, kw_only=True)
class KontextDepthControlnetConfig:
    """``kontext_depth_controlnet`` has no options of its own; the network is the backbone's ``depth_control``."""


@dataclass(frozen=True, kw_only=True)
class InsertAnythingConfig:
    """Options of ``insert_anything``: three sets of weights besides the backbone's, each a folder or a hub id."""

    weights: str = "black-forest-labs/FLUX.1-Fill-dev"
    """A ``FluxFillPipeline``; its text encoders are not used."""
    redux: str = "black-forest-labs/FLUX.1-Redux-dev"
    """A ``FluxPriorReduxPipeline``: what takes the prompt's place."""
    lora: str | None = "WensongSong/Insert-Anything"
    """Insert Anything's own LoRA on the Fill model; null is the Fill model as it is."""
    lora_file: str | None = "20250321_steps5000_pytorch_lora_weights.safetensors"
    """File of ``lora``; null takes the usual name."""
    first: str | None = "black-forest-labs/FLUX.1-Depth-dev"
    """A ``FluxControlPipeline`` that makes the first picture from the depth; null: the recipe's backbone, from text."""
    side: int = 768
    """Side of each half of the diptych, pixels, a multiple of 16."""
    margin: float = 2.0
    """Side of the square cut out around a subject, in longer sides of its region's box."""
    guidance: float = 30.0
    """Distilled guidance of the Fill model."""
    first_guidance: float = 10.0
    """Distilled guidance of the depth model."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numbers of these weights; ``auto`` is float32 on the CPU and bfloat16 elsewhere."""

    def __post_init__(self) -> None:
        found = []
        if self.side < 16 or self.side % 16:
            found.append(f"side must be a multiple of 16, found {self.side}")
        if self.margin < 1:
            found.append(f"margin must be at least 1, found {self.margin}")
        if found:
            raise ValueError("; ".join(found))
