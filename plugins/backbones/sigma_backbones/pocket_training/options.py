"""Options of the two pocket objectives; plain records, no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

KINDS = ("scenes", "identities", "controls", "textures")
"""Kinds of picture that the VAE is trained on."""


@dataclass(frozen=True, kw_only=True)
class PocketVaeOptions:
    """Training of the pocket VAE (an ``AutoencoderTiny``, factor 8, 16 latent channels)."""

    encoder_width: int = 48
    """Channels of the encoder's convolutions, at least 8."""
    encoder_blocks: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Residual blocks at 1, 1/2, 1/4, 1/8 of the picture's size; none: linear, and it starts as a patch code."""
    decoder_width: int = 48
    """Channels of the decoder's convolutions, at least 8."""
    decoder_blocks: tuple[int, int, int, int] = (3, 3, 1, 0)
    """Residual blocks at 1/8, 1/4, 1/2, 1 of the picture's size."""
    start: str | None = None
    """A diffusers folder of the VAE to go on from (then the architecture is that folder's); None starts anew."""
    picture_size: int = 128
    """Side of a training picture, pixels, a multiple of 16."""
    scenes: float = 0.5
    """Share of target images."""
    identities: float = 0.125
    """Share of mosaics of identity images."""
    controls: float = 0.25
    """Share of spatial control images."""
    textures: float = 0.125
    """Share of procedural textures."""
    mean_weight: float = 0.5
    """Weight of the absolute error of 4 x 4 and of 8 x 8 averages: it keeps routing levels."""
    square_weight: float = 4.0
    """Weight of the squared error beside the absolute one."""
    latent_weight: float = 0.01
    """Weight that pulls each latent channel to mean 0 and its variance below 1."""
    latent_noise: float = 0.03
    """Standard deviation of the noise added to the latents before decoding."""
    compose_linear: bool = True
    """Multiply neighbouring linear layers at full size before applying them: faster, exact but for the border."""

    def __post_init__(self) -> None:
        shares = [getattr(self, kind) for kind in KINDS]
        if min(shares) < 0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
            raise ValueError(f"{', '.join(KINDS)} must be at least 0 and add up to 1, found {shares}")
        if min(self.encoder_width, self.decoder_width) < 8:
            raise ValueError(f"widths must be at least 8, found {self.encoder_width} and {self.decoder_width}")
        if self.picture_size < 32 or self.picture_size % 16:
            raise ValueError(f"picture_size must be a multiple of 16 and at least 32, found {self.picture_size}")
        for name in ("mean_weight", "square_weight", "latent_weight", "latent_noise"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, found {getattr(self, name)}")

    @property
    def shares(self) -> tuple[float, ...]:
        """Probabilities in the order of ``KINDS``."""
        return tuple(getattr(self, kind) for kind in KINDS)


@dataclass(frozen=True, kw_only=True)
class PocketSizes:
    """Sizes of the pocket transformer and text encoders."""

    heads: int = 6
    """Attention heads; the width is heads times the sum of ``axes``."""
    axes: tuple[int, int, int] = (8, 12, 12)
    """Dimensions of a head that turn with the three position coordinates, each even."""
    double_blocks: int = 1
    """Blocks with separate weights for text and image."""
    single_blocks: int = 5
    """Blocks with shared weights."""
    text_width: int = 128
    """Width of the token sequence's encoder."""
    pooled_width: int = 128
    """Width of the pooled text's encoder."""
    text_layers: int = 2
    """Layers of each text encoder."""
    text_heads: int = 4
    """Attention heads of each text encoder."""
    vae_width: int = 16
    """Channels of a fresh VAE, where no trained one is given."""

    def __post_init__(self) -> None:
        if any(axis < 2 or axis % 2 for axis in self.axes):
            raise ValueError(f"axes must be even numbers of at least 2, found {self.axes}")
        for name in ("heads", "double_blocks", "single_blocks", "text_layers", "text_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.text_width % self.text_heads or self.pooled_width % self.text_heads:
            raise ValueError(f"text_width and pooled_width must be multiples of text_heads ({self.text_heads})")


@dataclass(frozen=True, kw_only=True)
class PocketBaseOptions:
    """Training of the pocket base from scratch: text to image, and one reference as FLUX.1 Kontext knows it."""

    vae: str | None = None
    """Diffusers folder of the trained VAE; None is the shipped one."""
    start: str | None = None
    """A pocket folder to go on from; None starts anew."""
    sizes: PocketSizes = field(default_factory=PocketSizes)
    """Sizes of what is trained; read only without ``start``."""
    reference_share: float = 0.6
    """Probability that one subject's identity image is given as the reference."""
    collage_share: float = 0.5
    """Share of the references that show all subjects, stacked into one tall picture, instead of one subject."""
    timesteps: Literal["logit_normal", "shifted"] = "shifted"
    """Distribution of t: sigmoid of a normal number, or that shifted by 3 towards noise, which decides the layout."""
    reference_dropout: float = 0.1
    """Probability that a drawn reference is left out again, with the prompt kept."""
    text_dropout: float = 0.1
    """Probability of an empty prompt, for classifier-free guidance."""
    subject_weight: float = 1.0
    """A token covered by subjects weighs up to 1 + this much; the weights of an image average 1."""
    picture_steps: int = 12
    """Euler steps of the pictures that show progress."""
    attention: str | None = None
    """diffusers' attention backend, as in the backbone's own options."""
    keep_latents: int = 0
    """Latents kept in memory by example key, for sources that give each example many times; 0 keeps none."""

    def __post_init__(self) -> None:
        for name in ("reference_share", "collage_share", "reference_dropout", "text_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, found {getattr(self, name)}")
        if self.subject_weight < 0:
            raise ValueError(f"subject_weight must be at least 0, found {self.subject_weight}")
        if self.picture_steps < 1 or self.keep_latents < 0:
            raise ValueError("picture_steps must be at least 1 and keep_latents at least 0")
