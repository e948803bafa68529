"""Objective ``pocket_base``: what FLUX.1 Kontext can do, from scratch and small: text to image, and one reference.

The reference picture shows one subject, or several stacked into a collage, as users of Kontext give it several; where
they stand is the base's own choice. The base never sees a spatial control image: routing is what the adapter learns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, FluxKontextPipeline
from torch import Tensor, nn
from torch.nn import functional

from sigma_backbones import pocket_folder
from sigma_backbones.arrays import RgbImage
from sigma_backbones.flux_kontext.backbone import FluxKontextBackbone
from sigma_backbones.flux_kontext.config import FluxKontextConfig
from sigma_backbones.flux_kontext.loading import FluxKontextParts, load_parts
from sigma_backbones.flux_kontext.position_ids import image_ids
from sigma_backbones.flux_kontext.text import encode_prompts
from sigma_backbones.pocket_training.architecture import build_pipeline, portable_copy
from sigma_backbones.pocket_training.options import PocketBaseOptions
from sigma_backbones.token_grid import TOKEN_PIXELS
from sigma_framework import Example, Tokens, WeightsError

PLACE_TEMPLATE = "Place these subjects in {prompt}"
"""With the prompt of the place (section 4.1)."""
COMPOSE_TEMPLATE = "Place these subjects to compose: {prompt}"
"""With the full prompt (section 4.1)."""
TIME_SHIFT = 3.0
"""``shifted`` timesteps: t' = s t / (1 + (s - 1) t); a picture's layout is decided near t = 1."""
PROMPT_SHARES = (0.3, 0.15, 0.25, 0.3)
"""How often the full prompt, the place's, the place template and the compose template are drawn."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What chance decided for one example."""

    prompt: str
    """Empty: text dropout."""
    references: tuple[int, ...]
    """Indices of the subjects that the reference picture shows, none, one or all of them."""
    t: float
    """Time of the noisy image, 1 is noise."""


class PocketBaseObjective:
    """Flow matching on X's tokens; trains the transformer and both text encoders, the VAE is frozen."""

    def __init__(self, parts: FluxKontextParts, options: PocketBaseOptions) -> None:
        self.backbone = FluxKontextBackbone(parts, FluxKontextConfig(device="cpu", attention=options.attention))
        self.options = options
        self._latents: dict[str, Tensor] = {}
        for model in self._trained():
            model.float().requires_grad_(True).train()
        parts.vae.float().requires_grad_(False).eval()

    def trainable_parameters(self) -> Mapping[str, nn.Parameter]:
        """All weights of the transformer and of both text encoders."""
        names = ("transformer", "text_encoder", "text_encoder_2")
        pairs = zip(names, self._trained(), strict=True)
        return {f"{name}.{key}": value for name, model in pairs for key, value in model.named_parameters()}

    def modules(self) -> Sequence[nn.Module]:
        """Everything with weights, the frozen VAE too."""
        return self.backbone.modules()

    def loss(self, examples: Sequence[Example], generators: Sequence[torch.Generator]) -> Tensor:
        """(b,) weighted mean squared error of the velocity ``eps - x_0`` (section 4.1).

        Examples with references of unlike size run as batches of their own: the transformer has no padding mask.
        """
        draws = [draw_inputs(e, self.options, g) for e, g in zip(examples, generators, strict=True)]
        losses: dict[int, Tensor] = {}
        for count in sorted({len(draw.references) for draw in draws}):
            chosen = [k for k, draw in enumerate(draws) if len(draw.references) == count]
            grouped = self._group_loss(
                [examples[k] for k in chosen], [draws[k] for k in chosen], [generators[k] for k in chosen]
            )
            losses |= dict(zip(chosen, grouped, strict=True))
        return torch.stack([losses[k] for k in range(len(examples))])

    @torch.no_grad()
    def pictures(self, examples: Sequence[Example], seed: int) -> list[list[RgbImage]]:
        """Rows of target, reference (white when there is none), and what the base makes of the same prompt."""
        rows = []
        for index, example in enumerate(examples):
            count = len(example.identities)
            references = ((), (0,), tuple(range(count)))[index % 3][:count]
            shown = np.concatenate([example.identities[k] for k in references] or [np.full_like(example.target, 255)])
            rows.append([example.target, shown, self._generate(example, references, seed + index)])
        return rows

    def save(self, folder: Path) -> None:
        """The complete diffusers folder in bfloat16; ``FluxKontextPipeline.from_pretrained`` reads it."""
        parts = self.backbone.parts
        FluxKontextPipeline(
            scheduler=parts.scheduler,
            vae=portable_copy(parts.vae),
            text_encoder=portable_copy(parts.text_encoder),
            tokenizer=parts.tokenizer,
            text_encoder_2=portable_copy(parts.text_encoder_2),
            tokenizer_2=parts.tokenizer_2,
            transformer=portable_copy(parts.transformer),
        ).save_pretrained(folder)

    def _trained(self) -> tuple[nn.Module, ...]:
        parts = self.backbone.parts
        return parts.transformer, parts.text_encoder, parts.text_encoder_2

    def _group_loss(
        self, examples: Sequence[Example], draws: Sequence[Draw], generators: Sequence[torch.Generator]
    ) -> Tensor:
        """(b,) losses of examples whose references have one size."""
        backbone = self.backbone
        text = encode_prompts(backbone.parts, [draw.prompt for draw in draws], backbone.device)
        clean = self._encoded([e.target for e in examples], [e.key for e in examples], "target")
        conditions = self._references(examples, draws)
        noise = backbone.noise(examples[0].target.shape[:2], generators)
        t = torch.tensor([draw.t for draw in draws], device=backbone.device)
        mixed = (1 - t[:, None, None]) * clean.values + t[:, None, None] * noise.values
        velocity = backbone.velocity(Tokens(values=mixed, ids=noise.ids), t, text, conditions)
        error = (velocity - (noise.values - clean.values)).square().mean(-1)
        return (error * self._token_weights(examples)).mean(1)

    def _references(self, examples: Sequence[Example], draws: Sequence[Draw]) -> list[Tokens]:
        """The reference picture's tokens; none when the examples have none. A collage's blocks are encoded alone."""
        count = len(draws[0].references)
        if count == 0:
            return []
        chosen = [(e, index) for e, draw in zip(examples, draws, strict=True) for index in draw.references]
        keys = [f"{example.key}#{index}" for example, index in chosen]
        blocks = self._encoded([example.identities[index] for example, index in chosen], keys, "identity")
        height, width = chosen[0][0].identities[chosen[0][1]].shape[:2]
        ids = image_ids("identity", count * height // TOKEN_PIXELS, width // TOKEN_PIXELS, self.backbone.device)
        return [Tokens(values=blocks.values.unflatten(0, (len(examples), count)).flatten(1, 2), ids=ids)]

    def _encoded(self, pictures: Sequence[RgbImage], keys: Sequence[str], role: str) -> Tokens:
        """Tokens of pictures of one size; looked up by key where they are kept."""
        missing = [k for k, key in enumerate(keys) if key not in self._latents]
        values = {k: self._latents[key] for k, key in enumerate(keys) if k not in missing}
        values |= dict(zip(missing, self._encode_missing([pictures[k] for k in missing], role), strict=True))
        room = max(0, self.options.keep_latents - len(self._latents))
        self._latents |= {keys[k]: values[k].clone() for k in missing[:room]}
        height, width = pictures[0].shape[:2]
        ids = image_ids(role, height // TOKEN_PIXELS, width // TOKEN_PIXELS, self.backbone.device)
        stacked = torch.stack([values[k] for k in range(len(keys))])
        return Tokens(values=stacked.to(self.backbone.device), ids=ids)

    @torch.no_grad()
    def _encode_missing(self, pictures: Sequence[RgbImage], role: str) -> Sequence[Tensor]:
        """Where latents are kept each picture by itself: which others are missing must not show in its last bits."""
        if self.options.keep_latents and len(pictures) > 1:
            return [self.backbone.encode_image(as_images([one]), role).values[0] for one in pictures]
        return [*self.backbone.encode_image(as_images(pictures), role).values] if pictures else []

    def _token_weights(self, examples: Sequence[Example]) -> Tensor:
        """(b, l) with mean 1 per example: more where subjects are."""
        masks = np.stack(
            [np.any([s.mask for s in e.subjects] or [np.zeros(e.target.shape[:2], bool)], 0) for e in examples]
        )
        coverage = functional.avg_pool2d(torch.from_numpy(masks).float()[:, None], TOKEN_PIXELS).flatten(1)
        weights = 1 + self.options.subject_weight * coverage
        return (weights / weights.mean(1, keepdim=True)).to(self.backbone.device)

    def _generate(self, example: Example, references: Sequence[int], seed: int) -> RgbImage:
        """Euler steps from noise under the compose prompt and at most one reference picture."""
        backbone, size_hw = self.backbone, example.target.shape[:2]
        text = backbone.encode_prompt([COMPOSE_TEMPLATE.format(prompt=example.prompt_full)])
        draw = Draw(prompt="", references=tuple(references), t=1.0)
        conditions = self._references([example], [draw])
        x = backbone.noise(size_hw, [torch.Generator().manual_seed(seed)])
        times = backbone.timesteps(self.options.picture_steps, x.length)
        for now, then in pairwise(times):
            velocity = backbone.velocity(x, now[None], text, conditions)
            x = Tokens(values=x.values + (then - now) * velocity, ids=x.ids)
        image = backbone.decode(x.values, size_hw)[0]
        return ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def build_objective(backbone_config: FluxKontextConfig, options: PocketBaseOptions, seed: int) -> PocketBaseObjective:
    """Factory of the objective. The VAE is the one that the options name, else the one of the backbone's weights."""
    if options.start is not None:
        parts = load_parts(options.start, None, torch.float32)
        vae = parts.vae if options.vae is None else _read_vae(Path(options.vae))
        return PocketBaseObjective(replace(parts, vae=vae), options)
    vae = _read_vae(Path(options.vae) if options.vae is not None else pocket_folder() / "vae")
    pipeline = build_pipeline(seed, options.sizes, vae)
    parts = FluxKontextParts(**{field.name: getattr(pipeline, field.name) for field in fields(FluxKontextParts)})
    return PocketBaseObjective(parts, options)


def draw_inputs(example: Example, options: PocketBaseOptions, generator: torch.Generator) -> Draw:
    """Prompt, reference and time of one example; always the same number of draws."""
    prompts = (
        example.prompt_full,
        example.prompt_background,
        PLACE_TEMPLATE.format(prompt=example.prompt_background),
        COMPOSE_TEMPLATE.format(prompt=example.prompt_full),
    )
    chance = torch.rand(5, generator=generator).tolist()
    kind = int(torch.multinomial(torch.tensor(PROMPT_SHARES), 1, generator=generator))
    shift = math.log(TIME_SHIFT) if options.timesteps == "shifted" else 0.0
    time = float(torch.sigmoid(torch.randn((), generator=generator) + shift))
    count = len(example.identities)
    references: tuple[int, ...] = ()
    if count and chance[0] < options.reference_share and chance[1] >= options.reference_dropout:
        references = tuple(range(count)) if chance[4] < options.collage_share else (int(chance[3] * count),)
    return Draw(prompt="" if chance[2] < options.text_dropout else prompts[kind], references=references, t=time)


def as_images(pictures: Sequence[RgbImage]) -> Tensor:
    """uint8 pictures of one size -> (b, 3, h, w) float32 in [-1, 1]."""
    stacked = torch.from_numpy(np.ascontiguousarray(np.stack(pictures)))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1


def _read_vae(folder: Path) -> AutoencoderTiny:
    if not (folder / "config.json").is_file():
        raise WeightsError(
            f"objective_options.vae: {folder} holds no VAE; expected a diffusers folder with config.json"
        )
    return AutoencoderTiny.from_pretrained(folder, torch_dtype=torch.float32)
