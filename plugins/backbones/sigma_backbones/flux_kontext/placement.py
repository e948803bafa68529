"""Where the models are while they wait, and how little of them is on the accelerator at once (``backbone.memory``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from sigma_backbones.flux_kontext.config import FluxKontextConfig, memory_options
from sigma_backbones.flux_kontext.loading import FluxKontextParts
from sigma_backbones.resting_text import RestingText, send_away
from sigma_backbones.token_grid import VAE_FACTOR
from sigma_framework import WeightsError

Turn = Literal["text", "image"]
"""Text encoders, or transformer and VAE: nothing needs both at once."""
TILE_PIXELS = 512
"""Side of what a tiled decoding sees at once; a FLUX VAE's own tile is 1024, which tiles nothing at 1024 pixels."""


class Placement:
    """Moves models between the CPU and the device as the options say; without options everything stays there."""

    def __init__(self, parts: FluxKontextParts, config: FluxKontextConfig, device: torch.device) -> None:
        self._parts = parts
        self._options = memory_options(config)
        self._turn: Turn | None = None
        self._grouped = False
        self._text_encoders = (parts.text_encoder, parts.text_encoder_2)
        self._text = RestingText(self._text_encoders)
        self.device = device

    def settle(self, device: torch.device) -> None:
        """Chooses the device; moves everything there, or what is used first when it is used."""
        self.device = device
        self._turn = None
        self._text.moved()
        if self._options.offload == "none":
            for model in self._parts.models():
                model.to(device)

    def take_turn(self, turn: Turn) -> None:
        """Brings the models of this turn to the device and the others to the CPU; nothing when they are there."""
        if turn == "text":
            self._text.wake(self.device)
        if self._options.offload == "none" or turn == self._turn:
            return
        whole = [self._parts.vae] if self._options.offload == "group" else [self._parts.transformer, self._parts.vae]
        come, leave = (self._text_encoders, whole) if turn == "text" else (whole, self._text_encoders)
        send_away(leave, self.device)
        for model in come:
            model.to(self.device)
        if turn == "image" and self._options.offload == "group" and not self._grouped:
            self._group()
        self._turn = turn

    def rest_text(self) -> None:
        """Brings text encoders that stay on the device to the CPU, until it is their turn again."""
        if self._options.offload == "none":
            self._text.rest(self.device)

    def _group(self) -> None:
        """One block of the transformer on the device at a time; the next one travels while this one computes."""
        self._parts.transformer.enable_group_offload(
            onload_device=self.device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=self.device.type == "cuda",
        )
        self._grouped = True

    def refuse_changes(self) -> None:
        """Raises ``WeightsError`` when blocks travel already: what is put on them now would stay behind."""
        if self._grouped:
            raise WeightsError(
                "backbone.memory: adapters cannot be loaded or exchanged after the first image while the transformer "
                "comes block by block; name them in the recipe, or write backbone.memory=balanced"
            )

    @contextmanager
    def decoding(self) -> Iterator[Any]:
        """The VAE, tiled inside where the options say so; an encoding never is, it would change identities."""
        vae = self._parts.vae
        if not self._options.vae_tiling:
            yield vae
            return
        before = {name: getattr(vae, name) for name in ("tile_sample_min_size", "tile_latent_min_size")}
        vae.tile_sample_min_size, vae.tile_latent_min_size = TILE_PIXELS, TILE_PIXELS // VAE_FACTOR
        vae.enable_tiling()
        try:
            yield vae
        finally:
            vae.disable_tiling()
            for name, value in before.items():
                setattr(vae, name, value)
