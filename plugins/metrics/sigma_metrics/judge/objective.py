"""Objective ``judge``: per-pixel truth of renders, and which identity image belongs to which cut-out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sigma_framework import Example
from sigma_metrics.judge.architecture import VOTE_PIXELS, JudgeNetworks, build_networks
from sigma_metrics.judge.crops import cut_out, identity_tensor, picture_tensor
from sigma_metrics.judge.model import load_networks, save_networks, show_reading
from sigma_metrics.judge.options import JudgeOptions

_SMALLEST = 12
"""Pixels of a subject below which nobody could tell who it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelTruth:
    """What is known of one picture's pixels."""

    subject: Tensor
    """(H, W) 0 or 1."""
    nearness: Tensor
    """(H, W) 1 / z, 0 at the farthest and 1 at the nearest subject pixel."""
    votes: Tensor
    """(2, H, W) x and y from the pixel to the middle of its subject's visible pixels, in ``VOTE_PIXELS``."""


class JudgeObjective:
    """See ``options.JudgeOptions``; all randomness of example k comes from generator k."""

    picture_titles = ("picture", "subjects", "nearness", "instances")

    def __init__(self, networks: JudgeNetworks, options: JudgeOptions) -> None:
        self.networks = networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack it
        self.options = options

    def trainable_parameters(self) -> Mapping[str, nn.Parameter]:
        """All weights."""
        return dict(self.networks.named_parameters())

    def modules(self) -> Sequence[nn.Module]:
        """Both networks."""
        return (self.networks,)

    def loss(self, examples: Sequence[Example], generators: Sequence[torch.Generator]) -> Tensor:
        """(b,) per-pixel losses of each picture, and the identity comparison over the batch."""
        self.networks.train(torch.is_grad_enabled())
        drawn = [np.random.default_rng(int(torch.randint(2**62, (), generator=g))) for g in generators]
        pixel = self._pixel_loss(examples, drawn)
        return pixel + self.options.identity_weight * self._identity_loss(examples, drawn)

    @torch.no_grad()
    def pictures(self, examples: Sequence[Example], seed: int) -> list[list[NDArray[np.uint8]]]:
        """One row per example: the picture, its subjects, their nearness and the parts they fall into."""
        self.networks.eval()
        return [show_reading(self.networks.scene, example.target) for example in examples]

    def save(self, folder: Path) -> None:
        """``judge.safetensors``, bfloat16."""
        save_networks(self.networks, folder / "judge.safetensors")

    def _pixel_loss(self, examples: Sequence[Example], rngs: Sequence[np.random.Generator]) -> Tensor:
        pictures, truths = [], []
        for example, rng in zip(examples, rngs, strict=True):
            picture, truth = picture_tensor(example.target), pixel_truth(example)
            if rng.random() < self.options.noise_share:
                picture = _noise_picture(rng, picture)
                truth = PixelTruth(subject=0 * truth.subject, nearness=0 * truth.nearness, votes=0 * truth.votes)
            elif rng.random() < 0.5:
                picture, truth = picture.flip(-1), _mirrored(truth)
            pictures.append(self._worn(picture, rng))
            truths.append(truth)
        read = self._run(self.networks.scene, torch.stack(pictures))
        subject, nearness, votes = read[:, 0], read[:, 1], read[:, 2:]
        device = read.device
        is_subject = torch.stack([truth.subject for truth in truths]).to(device)
        near = torch.stack([truth.nearness for truth in truths]).to(device)
        toward = torch.stack([truth.votes for truth in truths]).to(device)
        count = is_subject.sum((1, 2)).clamp(min=1)
        cross = functional.binary_cross_entropy_with_logits(subject, is_subject, reduction="none").mean((1, 2))
        chance = subject.sigmoid()
        overlap = (chance * is_subject).sum((1, 2))
        dice = 1 - (2 * overlap + 1) / (chance.sum((1, 2)) + is_subject.sum((1, 2)) + 1)
        depth = ((nearness - near).abs() * is_subject).sum((1, 2)) / count
        vote = ((votes - toward).abs().sum(1) * is_subject).sum((1, 2)) / count
        return cross + dice + depth + vote

    def _identity_loss(self, examples: Sequence[Example], rngs: Sequence[np.random.Generator]) -> Tensor:
        """Cross-entropy both ways between cut-outs and identity images of the batch, a mean per example.

        Two subjects of different scenes that are called the same may look the same; they are no rivals.
        """
        crops, identities, owners, captions = [], [], [], []
        for number, (example, rng) in enumerate(zip(examples, rngs, strict=True)):
            picture = picture_tensor(example.target)
            for subject, identity in zip(example.subjects, example.identities, strict=True):
                if subject.mask.sum() < _SMALLEST:
                    continue
                crops.append(self._worn(_varied_cut_out(picture, subject.mask, rng), rng))
                identities.append(self._worn(identity_tensor(identity), rng))
                owners.append(number)
                captions.append(subject.caption)
        if not crops:
            return torch.zeros(len(examples))
        both = self._run(self.networks.crop, torch.stack([*crops, *identities]))
        found, wanted = both.chunk(2)
        alike = found @ wanted.T * self.networks.sharpness.exp().clamp(max=50)
        owner = torch.tensor(owners, device=alike.device)
        names = {caption: k for k, caption in enumerate(dict.fromkeys(captions))}
        name = torch.tensor([names[caption] for caption in captions], device=alike.device)
        twins = (name[:, None] == name[None]) & (owner[:, None] != owner[None])
        alike = alike.masked_fill(twins, -1e4)
        own = torch.arange(len(owners), device=alike.device)
        each = functional.cross_entropy(alike, own, reduction="none") + functional.cross_entropy(
            alike.T, own, reduction="none"
        )
        # Among the subjects of its own scene alone: what routing asks.
        rivals = alike.masked_fill(owner[:, None] != owner[None], -1e4)
        each = each + functional.cross_entropy(rivals, own, reduction="none")
        total = torch.zeros(len(examples), device=each.device).index_add_(0, owner, each)
        return total / torch.bincount(owner, minlength=len(examples)).clamp(min=1)

    def _run(self, network: nn.Module, images: Tensor) -> Tensor:
        device = next(network.parameters()).device
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            out: Tensor = network(images)
        return out.float()

    def _worn(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        """Now and then softened, roughened, or in a slightly other light."""
        if rng.random() >= self.options.blur_share:
            return picture
        if rng.random() < 0.5:
            size, small = picture.shape[-2:], float(rng.uniform(0.5, 1))
            picture = functional.interpolate(picture[None], scale_factor=small, mode="bilinear", antialias=True)
            picture = functional.interpolate(picture, size=size, mode="bilinear")[0]
        if rng.random() < 0.5:
            noise = rng.standard_normal(picture.shape, dtype=np.float32) * rng.uniform(0, 0.1)
            picture = picture + torch.from_numpy(noise)
        tint = rng.uniform(0.92, 1.08) * rng.uniform(0.96, 1.04, (3, 1, 1))
        return ((picture + 1) * torch.from_numpy(tint).float() - 1).clamp(-1, 1)


def build_objective(metric_config: object, options: JudgeOptions, seed: int) -> JudgeObjective:
    """Factory of the objective; the metric's own options are not read."""
    networks = build_networks(seed) if options.start is None else load_networks(Path(options.start))
    return JudgeObjective(networks.requires_grad_(True), options)


def pixel_truth(example: Example) -> PixelTruth:
    """Masks, depth and middles of all subjects as maps; subjects without depth are left at nearness 0."""
    height, width = example.target.shape[:2]
    subject, nearness = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    votes = np.zeros((2, height, width), np.float32)
    for annotation in example.subjects:
        rows, columns = np.nonzero(annotation.mask)
        if not len(rows):
            continue
        subject[annotation.mask] = 1
        votes[0][annotation.mask] = (columns.mean() - columns) / VOTE_PIXELS
        votes[1][annotation.mask] = (rows.mean() - rows) / VOTE_PIXELS
        if annotation.depth is not None:
            nearness[annotation.mask] = 1 / annotation.depth[annotation.mask]
    seen = nearness[subject > 0]
    if len(seen):
        low, high = float(seen.min()), float(seen.max())
        nearness = np.where(subject > 0, (nearness - low) / max(high - low, 1e-6), 0).astype(np.float32)
    return PixelTruth(
        subject=torch.from_numpy(subject), nearness=torch.from_numpy(nearness), votes=torch.from_numpy(votes)
    )


def _mirrored(truth: PixelTruth) -> PixelTruth:
    votes = truth.votes.flip(-1) * torch.tensor([-1.0, 1.0])[:, None, None]
    return PixelTruth(subject=truth.subject.flip(-1), nearness=truth.nearness.flip(-1), votes=votes)


def _noise_picture(rng: np.random.Generator, like: Tensor) -> Tensor:
    """Noise of a random grain and strength around a random grey."""
    height, width = like.shape[-2:]
    grain = int(2 ** rng.integers(0, 6))
    coarse = rng.standard_normal((3, -(-height // grain), -(-width // grain)), dtype=np.float32)
    noise = functional.interpolate(torch.from_numpy(coarse)[None], size=(height, width), mode="bilinear")[0]
    return (float(rng.uniform(-0.8, 0.8)) + float(rng.uniform(0.02, 1)) * noise).clamp(-1, 1)


def _varied_cut_out(picture: Tensor, mask: NDArray[np.bool_], rng: np.random.Generator) -> Tensor:
    """A cut-out as imprecise as the judge's own masks, sometimes with all of its surroundings."""
    soft = torch.from_numpy(mask).float()[None, None]
    kind = rng.random()
    if kind < 0.3:
        soft = functional.max_pool2d(soft, 3, 1, 1)
    elif kind < 0.5:
        thin = -functional.max_pool2d(-soft, 3, 1, 1)
        soft = thin if float(thin.sum()) >= _SMALLEST else soft
    padding, shift = float(rng.uniform(1.15, 1.45)), rng.uniform(-0.06, 0.06, 2)
    if kind > 0.9:
        box = torch.zeros_like(soft)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 1
        soft = box
    return cut_out(picture, soft[0, 0], padding, (float(shift[0]), float(shift[1])))
