"""What a recipe says about training: ``stages:`` and ``train:``, with every default and its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from sigma_framework.dataclass_schema import Range
from sigma_framework.recipe.ranges import Count, Positive, Share, Weight, Whole


@dataclass(frozen=True, kw_only=True)
class SubjectRange:
    """``stages.<name>.subjects:`` which examples a stage takes."""

    min: Count = 1
    """Fewest subjects."""
    max: Count | None = None
    """Most subjects; null is no limit."""

    def __post_init__(self) -> None:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"found min {self.min} and max {self.max}, expected min to be at most max")


@dataclass(frozen=True, kw_only=True)
class StageBlock:
    """``stages.<name>:`` one step of the curriculum; stages run in the order written (section 4.1)."""

    steps: Count
    """Optimizer steps."""
    subjects: SubjectRange = field(default_factory=SubjectRange)
    """How many subjects its examples have."""
    datasources: tuple[str, ...] | None = None
    """Names of blocks under ``datasources``; null is all of them."""
    optimizer: Literal["keep", "carry_d", "reset"] = "carry_d"
    """At the start of the stage: keep the optimizer, carry only Prodigy's d over, or start anew."""


@dataclass(frozen=True, kw_only=True)
class OptimizerBlock:
    """``train.optimizer:`` defaults are Prodigy's for diffusion models."""

    type: Literal["prodigy", "adamw", "muon"] = "prodigy"
    """Which optimizer (section 4.1: Prodigy); ``muon`` is Muon for matrices and AdamW for the rest."""
    lr: Positive = 1.0
    """Learning rate; 1.0 for Prodigy, the others must be given one (e.g. 1e-4)."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay."""
    d0: Positive = 1e-6
    """Prodigy: first estimate of the step size; it only grows, so a larger one shortens the idle start of a run."""
    d_coef: Positive = 1.0
    """Prodigy: factor on the estimated step size."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay of the first and second moment."""
    warmup_steps: Whole = 0
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant, or a cosine down to 0 at the last step."""
    use_bias_correction: bool = True
    """Prodigy: Adam's bias correction."""
    safeguard_warmup: bool = True
    """Prodigy: leave the learning rate out of d's estimate while it warms up."""
    slice_p: Count = 1
    """Prodigy: estimate d from every n-th number alone; 11 keeps almost half of the optimizer's memory free."""
    fused: bool = False
    """AdamW: one kernel for the whole update; the same formula, rounded otherwise. Prodigy and Muon have none."""
    adamw_for: tuple[str, ...] = ("*embed*", "*shared*")
    """Muon: patterns of weight names that AdamW updates although they are matrices (embeddings, output layers)."""


@dataclass(frozen=True, kw_only=True)
class LoraBlock:
    """``train.lora:`` the adapter's shape."""

    rank: Count = 128
    """Rank (section 4.1)."""
    alpha: Positive = 128.0
    """Scale numerator; the effect is alpha / rank (section 4.1: alpha = rank)."""
    targets: tuple[str, ...] | None = None
    """Module names to adapt; null is the backbone's list."""


@dataclass(frozen=True, kw_only=True)
class TrainBlock:
    """``train:`` how a run learns."""

    objective: str = "adapter"
    """``adapter``, or an objective that the backbone or one of the ``metrics`` brings."""
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of that objective; none for ``adapter``."""
    batch_size: Count = 8
    """Examples per step over all devices (section 4.1)."""
    optimizer: OptimizerBlock = field(default_factory=OptimizerBlock)
    """Optimizer and learning rate schedule."""
    gradient_clip: Weight = 0.5
    """Largest gradient norm; 0 switches clipping off."""
    lora: LoraBlock = field(default_factory=LoraBlock)
    """The adapter's shape."""
    guidance: float | None = 1.0
    """Distilled guidance fed to the backbone in training."""
    timesteps: Literal["logit_normal", "uniform", "shifted"] = "logit_normal"
    """Distribution of t: sigmoid of a normal number; uniform; or the first shifted by 3 towards noise."""
    devices: Count = 1
    """Accelerators, or processes on the CPU."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of a training step: the weights' own, or bfloat16 autocast (faster on AVX512-BF16 and GPUs)."""
    num_workers: Whole = 0
    """Data worker processes per device; 0 loads in the training process."""
    threads: Count | None = None
    """CPU threads of the training process; null leaves it to torch."""
    keep_latents: Whole = 0
    """Encoded pictures kept in memory by a process, for sources that give each example often (pocket: 20 kB each)."""
    checkpoint_every: Count = 500
    """Steps between two checkpoints."""
    grid_every: Whole = 0
    """Steps between two picture grids; 0 draws none."""
    validate_every: Whole = 0
    """Steps between two validation losses; 0 computes none."""
    validation_scenes: Count = 64
    """Examples of a validation loss."""
    validation_batch_size: Count = 16
    """Examples at once in validation."""
    init_from: Path | str | None = None
    """Adapter to start from: file, folder, or the name of one with the backbone's weights; null: one without effect."""
    init_facts: Literal["same", "any"] = "same"
    """any: ``init_from`` may be trained with another routing, structure or block size; it learns this recipe's."""
    subject_loss_weight: Weight = 0.0
    """Extra weight of the loss on the subjects' pixels; 0 is the paper's plain mean."""
    attention_loss_weight: Weight = 0.0
    """Weight of a loss on where regions look: all at their own identity. 0, the paper's, learns it by the result."""
    time_limit_minutes: Positive | None = None
    """Save and stop after this many minutes; null is no limit."""
    grid_scenes: Count = 4
    """Scenes in a picture grid."""
    grid_steps: Count = 8
    """Sampling steps of a picture grid."""
    accumulate: Count = 1
    """Parts of a step computed one after another, for less memory; the gradient is that of the whole step."""
    tokens_per_batch: Count | None = None
    """Image tokens per step: the fewer subjects, the more examples, in multiples of ``batch_size``; null: as many."""
    num_nodes: Count = 1
    """Machines; ``devices`` counts those of one of them."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How processes share a step; auto is ddp when there are several; fsdp: they share the frozen weights too."""
    cache: str | None = None
    """Folder for encoded targets, identities and prompts, relative to the current folder; null encodes every time."""
    cache_gb: Positive = 50.0
    """Size at which nothing more is added to the cache."""
    keep_last: Annotated[int, Range(low=2)] = 2
    """Checkpoints kept: the newest, and at least one to fall back on."""
    ema_decay: Share | None = None
    """Save a running average of the weights with this memory (e.g. 0.999) as the result; null saves the last ones."""
    loggers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    """Where numbers are shown besides metrics.csv: tensorboard, and with the extras of their names wandb, trackio."""
    max_bad_steps: Whole = 3
    """Steps among the last 100 that may be skipped for a loss or gradient that is not finite, before the run stops."""
    spike_factor: Weight = 10.0
    """Name the examples of a loss above this multiple of the last 100 losses' median; 0 names none."""
