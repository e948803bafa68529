"""Options of the measures of the field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DINO = "facebook/dinov2-base"
"""The paper cites DINOv2 (section 4.2) without a size; the base model is the field's habit."""
SIGLIP = "google/siglip-so400m-patch14-384"
"""The paper cites SigLIP (section 4.2); its SigLIP-T near 17 fits raw cosines x 100 of this model."""
CLIP = "openai/clip-vit-base-patch16"
"""For antonym prompts; the authors of CLIP-IQA took a ResNet that transformers does not have."""
ESTIMATORS = {
    "depth_anything_v2_small": ("depth-anything/Depth-Anything-V2-Small-hf", "disparity"),
    "depth_anything_v2_large": ("depth-anything/Depth-Anything-V2-Large-hf", "disparity"),
    "dpt_large": ("Intel/dpt-large", "disparity"),
    "zoedepth_nyu_kitti": ("Intel/zoedepth-nyu-kitti", "metric"),
}
"""Hub id and what its map says, by the name that the number carries."""

Device = Literal["auto", "cpu", "cuda"]
MusiqVariant = Literal["koniq", "spaq", "paq2piq", "ava"]


@dataclass(frozen=True, kw_only=True)
class DinoIConfig:
    """Options of ``dino_i``."""

    weights: str = DINO
    """Hub id or folder (``./`` in front makes it relative to the recipe) of an image encoder of transformers."""
    revision: str | None = None
    """Commit, tag or branch of a hub id."""
    pooling: Literal["cls", "mean"] = "cls"
    """The class token, or the mean over the patch tokens."""
    label: str | None = None
    """Name of the weights in the number's name; null takes the last part of ``weights``."""
    device: Device = "auto"
    """Where the encoder runs; auto is an accelerator where there is one."""


@dataclass(frozen=True, kw_only=True)
class SiglipIConfig:
    """Options of ``siglip_i``."""

    weights: str = SIGLIP
    """Hub id or folder of a SigLIP model."""
    revision: str | None = None
    """Commit, tag or branch of a hub id."""
    label: str | None = None
    """Name of the weights in the number's name; null takes the last part of ``weights``."""
    device: Device = "auto"
    """Where the encoder runs."""


@dataclass(frozen=True, kw_only=True)
class SiglipTConfig:
    """Options of ``siglip_t``."""

    weights: str = SIGLIP
    """Hub id or folder of a SigLIP model."""
    revision: str | None = None
    """Commit, tag or branch of a hub id."""
    label: str | None = None
    """Name of the weights in the number's name; null takes the last part of ``weights``."""
    device: Device = "auto"
    """Where the model runs."""


@dataclass(frozen=True, kw_only=True)
class DepthMseConfig:
    """Options of ``depth_mse``."""

    estimator: str = "depth_anything_v2_small"
    """Name of a known estimator, or one of your own beside ``weights`` and ``gives``."""
    weights: str | None = None
    """Hub id or folder of a depth estimator of transformers; null is the named one's."""
    gives: Literal["disparity", "metric"] | None = None
    """What its map says: relative inverse depth, or metres; null is what is known of the named one."""
    revision: str | None = None
    """Commit, tag or branch of a hub id."""
    controls: tuple[str, ...] = ("depth", "mesh")
    """Controls whose depth is exact; an image with any other control has no number (the paper's dash)."""
    device: Device = "auto"
    """Where the estimator runs."""

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS and (self.weights is None or self.gives is None):
            raise ValueError(
                f'estimator: found "{self.estimator}", expected one of {", ".join(sorted(ESTIMATORS))}; or give '
                "weights and gives for one of your own"
            )


@dataclass(frozen=True, kw_only=True)
class ClipIqaConfig:
    """Options of ``clip_iqa``."""

    implementation: Literal["transformers", "pyiqa"] = "transformers"
    """CLIP of transformers with antonym prompts; or pyiqa's (the authors' ResNet; non-commercial, bring your own)."""
    weights: str = CLIP
    """Hub id or folder of a CLIP model; read by ``transformers`` alone."""
    revision: str | None = None
    """Commit, tag or branch of a hub id."""
    prompts: tuple[str, str] = ("Good photo.", "Bad photo.")
    """What is likened to the image: the good one first (Wang et al. 2023)."""
    label: str | None = None
    """Name of the weights in the number's name; null takes the last part of ``weights``."""
    device: Device = "auto"
    """Where the model runs."""


@dataclass(frozen=True, kw_only=True)
class MusiqConfig:
    """Options of ``musiq``."""

    implementation: Literal["checkpoint", "pyiqa"] = "checkpoint"
    """The authors' checkpoint by code of ours; or pyiqa's port (non-commercial, bring your own)."""
    variant: MusiqVariant = "koniq"
    """Data set that the model learned from; KonIQ-10k (0 to 100) is what papers report."""
    weights: str | None = None
    """Checkpoint file (``./`` in front makes it relative to the recipe); null fetches the authors', or pyiqa's own."""
    device: Device = "auto"
    """Where the model runs."""
