"""The paper's training objective: flow matching of an adapter under ``I^S`` and ``I^C`` (section 4.1).

``v = eps - x_0``, ``x_t = (1 - t) x_0 + t eps``, t = 1 is noise; mean squared error on the target's tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from sigma_framework.adapter_facts import compare_facts
from sigma_framework.conditioning.augment import draw_dropped_channel
from sigma_framework.conditioning.control_image import PROPOSED, Composition, compose
from sigma_framework.conditioning.identity_image import square_on_white, stack
from sigma_framework.conditioning.layout_picture import draw_layout
from sigma_framework.conditioning.prompts import draw_prompt_kind, render_prompt
from sigma_framework.errors import DataError
from sigma_framework.generation import image_tensor, picture_of
from sigma_framework.protocols import Backbone, ControlEncoder, Sampler, SelfPlacing
from sigma_framework.training.attention_loss import AttentionLoss
from sigma_framework.training.encoding_cache import EncodingCache
from sigma_framework.training.position import numpy_from_torch
from sigma_framework.types import (
    BoolMap,
    Canvas,
    ControlLayer,
    Example,
    RgbImage,
    Role,
    SampleRequest,
    TextTokens,
    Tokens,
)

ADAPTER = "main"
"""Name of the adapter that training makes."""
TIME_SHIFT = 3.0
"""``shifted`` timesteps: t' = s t / (1 + (s - 1) t). A picture's layout is decided near t = 1, which the plain
distribution hardly visits (1.4 % of draws above 0.9; shifted 14 %)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granularity:
    """One way of saying where subjects stand; one is drawn per example (section 4.1)."""

    name: str
    """The recipe's name."""
    controls: tuple[str, ...]
    """Control names; more than one means that each subject draws its own."""
    weight: float
    """Relative probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterOptions:
    """What the recipe says about the objective."""

    identity_size: int
    """Side of an identity block, pixels (section 6 of the method notes: 512 at full scale)."""
    channel_dropout: float
    """Probability that one of the three channels of ``I^C`` is set to 0 (section 4.1: 0.1)."""
    full_prompt_share: float
    """Share of examples that use the full prompt, the others the background prompt (section 4.1: half)."""
    text_dropout: float
    """Probability of an empty prompt; the paper names none."""
    condition_dropout: float
    """Probability that both condition images are blank; the paper names none."""
    guidance: float | None
    """Distilled guidance fed while training."""
    timesteps: str
    """``logit_normal`` (t = sigmoid(N(0, 1))), ``uniform`` or ``shifted``."""
    subject_loss_weight: float
    """Extra weight of the latents that show subjects; 0 is the paper's plain mean."""
    attention_loss_weight: float = 0.0
    """Weight of the loss on where regions look among the identities; 0, the paper's, has none."""
    rank: int
    """LoRA rank."""
    alpha: float
    """LoRA alpha; equal to rank so that all readers agree."""
    targets: tuple[str, ...] | None
    """Modules; None is the backbone's default list."""
    picture_steps: int
    """Denoising steps of sample pictures."""
    keep_latents: int = 0
    """Encoded targets and identity images kept in memory, for sources that give each example many times."""
    true_cfg: float = 1.0
    """Classifier-free guidance of sample pictures."""
    composition: Composition = PROPOSED
    """How routing and structure are drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Conditioned:
    """One example turned into what the backbone sees."""

    spatial: RgbImage
    identity: RgbImage
    regions: BoolMap
    prompt: str


class AdapterObjective:
    """Trains one adapter on a frozen backbone.

    Args:
        backbone: frozen base; the adapter is added here.
        controls: encoders by the names that granularities use.
        granularities: what is drawn per example.
        sampler: makes the sample pictures.
        options: see ``AdapterOptions``.
        seed: initial weights of the adapter.
        init_from: adapter file to start from instead of a fresh one.
        init_facts: ``same``: its facts must agree with ``metadata``; ``any``: it learns other ones now.
        metadata: what is written into the adapter's file.
        cache: encoded targets, identities and prompts on the disk; ``I^C`` is drawn anew each time and never cached.
    """

    def __init__(
        self,
        backbone: Backbone,
        controls: Mapping[str, ControlEncoder],
        granularities: Sequence[Granularity],
        sampler: Sampler,
        options: AdapterOptions,
        *,
        seed: int,
        init_from: Path | None = None,
        init_facts: Literal["same", "any"] = "same",
        metadata: Mapping[str, str] | None = None,
        cache: EncodingCache | None = None,
    ) -> None:
        self.cache = cache
        self.backbone, self.controls, self.sampler, self.options = backbone, controls, sampler, options
        self.granularities = [g for g in granularities if g.weight > 0]
        self.metadata = dict(metadata or {})
        self._kept: dict[tuple[str, str], torch.Tensor] = {}
        self._ids: dict[tuple[str, tuple[int, ...]], torch.Tensor] = {}
        self.picture_titles = ("identities", "layout", "I^C", "result", "target")
        if init_from is not None:
            found = backbone.load_adapter(init_from, ADAPTER, 1.0, trainable=True)
            if init_facts == "same":
                compare_facts(f"adapter {init_from} (train.init_from)", found, self.metadata)
        else:
            backbone.add_adapter(ADAPTER, options.rank, options.alpha, options.targets, seed)

    def trainable_parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """The adapter's weights."""
        return self.backbone.trainable_parameters()

    def modules(self) -> Sequence[torch.nn.Module]:
        """The backbone's modules."""
        return self.backbone.modules()

    @property
    def places_itself(self) -> bool:
        """Whether ``place`` is to be called in the place of moving all modules."""
        return isinstance(self.backbone, SelfPlacing)

    def remark(self) -> str:
        """What people should know by now; empty when there is nothing."""
        return self.cache.remark() if self.cache is not None else ""

    def place(self, device: torch.device) -> None:
        """Has the backbone bring to the device what it wants there; text encoders may rest from now on."""
        assert isinstance(self.backbone, SelfPlacing)
        self.backbone.to(device)
        if self.cache is not None:
            self.cache.rests_encoders = True

    def loss(self, examples: Sequence[Example], generators: Sequence[torch.Generator]) -> torch.Tensor:
        """(b,) flow-matching loss; all examples have one shape and subject count."""
        drawn = [numpy_from_torch(generator) for generator in generators]
        made = [self.condition(example, rng, training=True) for example, rng in zip(examples, drawn, strict=True)]
        size_hw = examples[0].target.shape[:2]
        with torch.no_grad():
            keys = [example.key for example in examples]
            clean = self._encode_kept([e.target for e in examples], keys, "target")
            noise = self.backbone.noise((size_hw[0], size_hw[1]), generators)
            conditions = self._encode(made, keys if self.options.condition_dropout == 0 else None)
            text = self._encode_prompts([one.prompt for one in made])
            t = self._draw_times(generators).to(clean.values.device)
            spread = t.view(-1, 1, 1).to(clean.values.dtype)
            noisy = (1 - spread) * clean.values + spread * noise.values
        x = Tokens(values=noisy, ids=clean.ids)
        looks = self._attention_loss(made)
        with looks.watching() if looks else nullcontext():
            velocity = self.backbone.velocity(x, t, text, conditions, self.options.guidance)
        error = (velocity.float() - (noise.values - clean.values).float()) ** 2
        loss = self._weighted(error, made)
        return loss + self.options.attention_loss_weight * looks.value().to(loss) if looks else loss

    def _attention_loss(self, made: Sequence[Conditioned]) -> AttentionLoss | None:
        """Only where gradients are computed: the validation loss stays comparable with and without it."""
        if self.options.attention_loss_weight == 0 or not torch.is_grad_enabled():
            return None
        return AttentionLoss(self.backbone, [one.regions & bool(one.spatial.any()) for one in made])

    def pictures(self, examples: Sequence[Example], seed: int) -> list[list[RgbImage]]:
        """Per example: identities, layout, ``I^C``, result, target."""
        rows = []
        for number, example in enumerate(examples):
            made = self.condition(example, np.random.default_rng((seed, number)), training=False)
            request = SampleRequest(
                text=self._encode_prompts([made.prompt]),
                negative_text=self._encode_prompts([""]) if self.options.true_cfg != 1.0 else None,
                conditions=self._encode([made]),
                size_hw=(example.target.shape[0], example.target.shape[1]),
                steps=self.options.picture_steps,
                guidance=self.options.guidance,
                true_cfg=self.options.true_cfg,
                generators=(torch.Generator("cpu").manual_seed(seed + number),),
            )
            with torch.no_grad():
                image = picture_of(self.sampler.sample(self.backbone, request)[0])
            names = [subject.caption for subject in example.subjects]
            layout = draw_layout(made.regions, names, labels=False)
            rows.append([made.identity, layout, made.spatial, image, example.target])
        return rows

    def save(self, folder: Path) -> None:
        """``folder/pytorch_lora_weights.safetensors``, readable by diffusers."""
        self.backbone.save_adapter(folder, ADAPTER, self.metadata)

    def condition(self, example: Example, rng: np.random.Generator, *, training: bool) -> Conditioned:
        """The road from ground truth to condition images, the same that generation takes from a scene."""
        height, width = example.target.shape[:2]
        canvas = Canvas(width=width, height=height, camera=example.subjects[0].camera)
        layers = self._draw_layers(example, canvas, rng)
        names = [subject.caption for subject in example.subjects]
        dropped = draw_dropped_channel(rng, self.options.channel_dropout) if training else None
        composed = compose(layers, names, canvas, dropped_channel=dropped, composition=self.options.composition)
        side = self.options.identity_size
        identity = stack([square_on_white(one, side) for one in example.identities])
        kind = draw_prompt_kind(rng, self.options.full_prompt_share)
        text = render_prompt(example.prompt_full if kind == "full" else example.prompt_background, kind)
        spatial = composed.spatial
        if training and rng.random() < self.options.text_dropout:
            text = ""
        if training and rng.random() < self.options.condition_dropout:
            spatial, identity = np.zeros_like(spatial), np.full_like(identity, 255)
        return Conditioned(spatial, identity, composed.regions, text)

    def _draw_layers(self, example: Example, canvas: Canvas, rng: np.random.Generator) -> list[ControlLayer]:
        """Layers of one granularity; one that the annotation cannot serve (no depth, no 3D box) is not drawn."""
        left = list(self.granularities)
        reasons: list[str] = []
        while left:
            weights = np.array([g.weight for g in left])
            chosen = left.pop(int(rng.choice(len(left), p=weights / weights.sum())))
            try:
                layers = []
                for subject in example.subjects:
                    control = self.controls[chosen.controls[int(rng.integers(len(chosen.controls)))]]
                    layers.append(control.encode(control.derive(subject, canvas, rng), canvas))
                return layers
            except ValueError as error:
                reasons.append(f"{chosen.name}: {error}")
        raise DataError(f"{example.key}: no granularity can be derived from its annotation ({'; '.join(reasons)})")

    def _encode(self, made: Sequence[Conditioned], keys: Sequence[str] | None = None) -> tuple[Tokens, Tokens]:
        """``I^S`` then ``I^C``, in the order of the token sequence; with keys, ``I^S`` may be looked up."""
        stacks = [one.identity for one in made]
        spatial = self.backbone.encode_image(image_tensor([one.spatial for one in made]), "spatial")
        if keys is None:
            return self._encode_pictures(stacks, "identity"), spatial
        return self._encode_kept(stacks, keys, "identity"), spatial

    def _encode_prompts(self, prompts: Sequence[str]) -> TextTokens:
        return self.cache.prompts(prompts) if self.cache is not None else self.backbone.encode_prompt(prompts)

    def _encode_kept(self, pictures: Sequence[RgbImage], keys: Sequence[str], role: Role) -> Tokens:
        """Tokens of pictures of one size; what was encoded before is looked up where latents are kept."""
        missing = [k for k, key in enumerate(keys) if (key, role) not in self._kept]
        values = {k: self._kept[key, role] for k, key in enumerate(keys) if k not in missing}
        if missing:
            found = self._encode_missing([pictures[k] for k in missing], role)
            values |= dict(zip(missing, found.values, strict=True))
            self._ids[role, pictures[0].shape[:2]] = found.ids
            room = max(0, self.options.keep_latents - len(self._kept))
            self._kept |= {(keys[k], role): values[k].clone() for k in missing[:room]}
        stacked = torch.stack([values[k] for k in range(len(keys))])
        return Tokens(values=stacked, ids=self._ids[role, pictures[0].shape[:2]])

    def _encode_missing(self, pictures: Sequence[RgbImage], role: Role) -> Tokens:
        """Where latents are kept each picture by itself: which others are missing must not show in its last bits."""
        if self.options.keep_latents == 0:
            return self._encode_pictures(pictures, role)
        each = [self._encode_pictures([one], role) for one in pictures]
        return Tokens(values=torch.cat([one.values for one in each]), ids=each[0].ids)

    def _encode_pictures(self, pictures: Sequence[RgbImage], role: Role) -> Tokens:
        """Pictures that are the same each time their example comes."""
        if self.cache is not None:
            return self.cache.images(pictures, role)
        return self.backbone.encode_image(image_tensor(pictures), role)

    def _draw_times(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """(b,) t: ``sigmoid(N(0, 1))`` as in the OminiControl lineage, uniform, or shifted towards noise."""
        if self.options.timesteps == "uniform":
            return torch.cat([torch.rand(1, generator=generator) for generator in generators])
        normal = torch.cat([torch.randn(1, generator=generator) for generator in generators])
        return torch.sigmoid(normal + (math.log(TIME_SHIFT) if self.options.timesteps == "shifted" else 0.0))

    def _weighted(self, error: torch.Tensor, made: Sequence[Conditioned]) -> torch.Tensor:
        """Mean over tokens and channels, subjects' latents counting ``1 + subject_loss_weight`` times."""
        if self.options.subject_loss_weight == 0:
            return error.mean(dim=(1, 2))
        shown = [torch.from_numpy(one.regions.any(axis=0).astype(np.float32)) for one in made]
        inside = torch.cat([self.backbone.region_tokens(one) for one in shown]).to(error)
        weights = (1 + self.options.subject_loss_weight * inside).expand_as(error)
        return (error * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2))
