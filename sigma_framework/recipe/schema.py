"""What a recipe may say: one frozen dataclass per block of the core, with every default and its source.

Options of components are not here: each plugin's spec carries its own schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from sigma_framework.conditioning.control_image import Composition, Routing, StructureScale
from sigma_framework.dataclass_schema import Range
from sigma_framework.recipe.ranges import Count, Positive, Seed, Share, Weight, Whole
from sigma_framework.recipe.training_schema import StageBlock, TrainBlock
from sigma_framework.specs import Kind

Task = Literal["train", "generate", "insert", "evaluate", "build", "sweep", "inspect"]


@dataclass(frozen=True, kw_only=True)
class RunBlock:
    """``run:`` where a run writes, and its randomness."""

    dir: str | None = None
    """Run folder, relative to the current folder; null is ``runs/<recipe name>``."""
    seed: Seed = 0
    """Seed of everything random in the run."""
    log_every: Count = 10
    """Steps between two progress lines."""


@dataclass(frozen=True, kw_only=True)
class AdapterBlock:
    """``adapters.<name>:`` weights that are put onto the backbone."""

    path: str
    """File or folder of the adapter; a bare word names one that comes with the backbone's weights (``pocket``)."""
    weight: float = 1.0
    """Strength; 1.0 as trained, 0.0 off."""
    sha256: str | None = None
    """SHA-256 of the file, where its author publishes one; another file is refused."""


@dataclass(frozen=True, kw_only=True)
class GranularityBlock:
    """``granularities.<name>:`` a kind of control that training draws from (section 4.1)."""

    control: str | None = None
    """Name of a block under ``controls``, or of a registered control; one for all subjects of an example."""
    mixed: bool = False
    """Draw a control for each subject from the other granularities instead (A.5 mixes them)."""
    weight: Weight = 1.0
    """Relative probability of being drawn."""


@dataclass(frozen=True, kw_only=True)
class ConditioningBlock:
    """``conditioning:`` how the two condition images and the prompts of training are made."""

    identity_size: Annotated[int, Range(low=16, high=2048)] = 512
    """Height and width of each identity image, pixels."""
    identity_padding: Annotated[float, Range(low=1, high=4)] = 1.3
    """Side of the square identity crop, in sides of the subject's box."""
    channel_dropout: Share = 0.1
    """Probability that one of the three channels of the control image is zeroed in training (section 4.1)."""
    full_prompt_share: Share = 0.5
    """Share of training prompts that name the subjects (section 4.1)."""
    text_dropout: Share = 0.0
    """Probability of an empty prompt in training; the paper names none, 0.1 allows classifier-free guidance."""
    condition_dropout: Share = 0.0
    """Probability that both condition images are left out in training; the paper names none."""
    routing: Routing = "both_orders"
    """The proposed routing, the same paste order in both channels, or one intensity for all subjects (A.14)."""
    structure: StructureScale = "scene"
    """Depth is stretched over all subjects of a scene together, or over each by itself, which loses their order."""

    @property
    def composition(self) -> Composition:
        """How layers become the control image."""
        return Composition(routing=self.routing, structure=self.structure)


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """``sampler:`` the keys that the core reads; the rest of the block belongs to the sampler's plugin."""

    steps: Count = 28
    """Denoising steps."""
    guidance: Weight | None = 3.5
    """Distilled guidance; ignored by backbones without it."""
    true_cfg: Annotated[float, Range(low=1)] = 1.0
    """Classifier-free guidance scale; 1.0 is off."""
    negative_prompt: str = ""
    """Prompt to move away from; read when ``true_cfg`` is above 1."""


@dataclass(frozen=True, kw_only=True)
class EvaluateBlock:
    """``evaluate:`` what is generated and measured."""

    scenes: Count | None = 16
    """Number of scenes; null takes all that the source has."""
    subjects: Count | None = None
    """Take only scenes with this many subjects; null takes all."""
    control: str | None = None
    """A granularity, a block under ``controls`` or a registered control; null draws as in training."""
    source: str | None = None
    """Name of the block under ``datasources`` that gives the scenes; null is the first."""
    holdout: str | None = None
    """Part of the source that training never sees; its block must take it: ``holdout: ${evaluate.holdout}``."""
    also: Mapping[str, Count] = field(default_factory=dict)
    """Further blocks under ``datasources`` and how many of their scenes; their numbers are told beside the first's."""
    shuffle_identities: bool = False
    """Identities in random order, measured by the true one: gives chance; with ``made_by: target`` none stays."""
    batch_size: Count = 4
    """Images made at once."""
    prompt: Literal["background", "full"] = "background"
    """The prompt that tells the place alone, or the one that names the subjects too (Table 2)."""
    made_by: Literal["model", "target", "nobody"] = "model"
    """``target`` takes the ground truth for the image; ``nobody`` writes scenes and a manifest for another system."""
    images: Path | None = None
    """Folder with ``manifest.json`` and images that are there already, made by any system; null makes them."""
    system: str | None = None
    """Name of the row in tables; null is the manifest's, or the backbone's."""
    paper_table: Annotated[int, Range(low=1, high=7)] | None = None
    """Table of the paper whose rows stand beside ours."""
    beside: tuple[Path, ...] = ()
    """Run folders of earlier evaluations whose rows and curves stand beside these."""
    note: str = ""
    """What a reader must know before the numbers; stands above them."""
    validation_loss: bool = False
    """Also the fixed validation loss of the only adapter, per stage, as training with this recipe tells it."""
    structure: Literal["subjects", "scene"] = "subjects"
    """Depth of the subjects as their control says it, or the whole picture's as the source knows it (Table 3)."""


@dataclass(frozen=True, kw_only=True)
class BuildBlock:
    """``build:`` making a data set (section 3.1)."""

    count: Count | None = 8
    """Records to start with; stages may leave fewer. Null takes all of the source."""
    source: str | None = None
    """Name of the block under ``datasources`` that gives the records; null is the first, if there is one."""
    stages: tuple[str, ...] | None = None
    """Names of blocks under ``annotators``, in order; null is all of them as written."""
    engine: Literal["local", "array", "ray"] = "local"
    """Processes of this machine; this job's share of a job array; or Ray Data (extra ``ray``)."""
    workers: Whole = 0
    """Worker processes (or Ray actors); 0 works in this process."""
    worker_gpus: Weight = 0.0
    """GPUs of each worker (0.5 puts two on one): Ray reserves them, processes see their own alone. 0: all see all."""
    batch: Count = 1
    """Records that go through a stage together, and that are lost when the machine dies."""
    per_shard: Count = 256
    """Samples in a shard."""
    target: Literal["png", "jpg"] = "png"
    """How targets are stored."""
    identities: Literal["png", "jpg", "webp"] = "png"
    """How identity images are stored; PNG keeps every value and is slow to read."""
    quality: Annotated[int, Range(low=1, high=100)] = 95
    """Of JPEG and WebP."""


@dataclass(frozen=True, kw_only=True)
class SweepBlock:
    """``sweep:`` several variants of this recipe in one table."""

    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per variant, the overrides that make it: dotted key to value."""
    learning_curves: bool = False
    """Tell below the table how each variant's adapter learned, where its folder holds a ``learning_curve.csv``."""
    seeds: tuple[Seed, ...] | None = None
    """Seeds that every variant is run with, for the spread; null is ``run.seed`` alone."""
    train: bool = False
    """Train each variant through its stages first, and evaluate the adapter that it made in the place of all others."""
    budget: Positive = 1.0
    """Factor on the steps of every stage of every variant, so that all stay equal."""
    figure: tuple[str, ...] | None = None
    """Measures that ``figure.png`` shows; null shows all."""

    def __post_init__(self) -> None:
        if self.seeds is not None and (not self.seeds or len(set(self.seeds)) < len(self.seeds)):
            raise ValueError(f"seeds: found {list(self.seeds)}, expected different numbers, at least one")


@dataclass(frozen=True, kw_only=True)
class InspectBlock:
    """``inspect:`` where regions of a result look among the identity images (Figure 9)."""

    scenes: Count = 8
    """Scenes of the data source to look at when the recipe names no ``scene``."""
    subjects: Count | None = None
    """Take only scenes with this many subjects; null takes all."""
    control: str = "depth"
    """A block under ``controls`` or a registered control: how the data source's subjects are placed."""
    steps: tuple[Whole, ...] | None = None
    """Denoising steps to average over, 0 is the first; null is all."""
    layers: tuple[Whole, ...] | None = None
    """Attention layers to average over, as the backbone counts them; null is all."""
    heads: tuple[Whole, ...] | None = None
    """Heads of each layer to average over; null is all."""


@dataclass(frozen=True, kw_only=True)
class PluginsBlock:
    """``plugins:`` which plugins are used."""

    disable: tuple[str, ...] = ()
    """Distributions or entry points to leave out."""


@dataclass(frozen=True, kw_only=True)
class TopLevel:
    """The keys of a recipe that are neither blocks nor maps of components."""

    task: Task
    """What the recipe does when it is run."""
    scene: Path | None = None
    """Scene file, or a PNG made by this framework, for ``generate``, ``insert`` and ``inspect``; Python may give it."""
    background: Path | None = None
    """Photograph to insert into; null takes the scene's own."""
    source: str | None = None
    """Name of the block under ``datasources`` to read where ``evaluate.source`` or ``build.source`` names none."""
    images: Count = 1
    """Images to make; image k uses seed + k."""


BLOCKS: Mapping[str, type] = {
    "run": RunBlock,
    "conditioning": ConditioningBlock,
    "train": TrainBlock,
    "evaluate": EvaluateBlock,
    "build": BuildBlock,
    "sweep": SweepBlock,
    "inspect": InspectBlock,
    "plugins": PluginsBlock,
}
"""Blocks of plain core options."""
RECORD_MAPS: Mapping[str, type] = {"adapters": AdapterBlock, "granularities": GranularityBlock, "stages": StageBlock}
"""Maps of the user's own names to core records."""
COMPONENTS: Mapping[str, Kind] = {"backbone": "backbone", "sampler": "sampler"}
"""Blocks that hold one component: ``{type, ...options}``."""
COMPONENT_MAPS: Mapping[str, Kind] = {
    "controls": "control",
    "datasources": "datasource",
    "metrics": "metric",
    "annotators": "annotator",
}
"""Maps of the user's own names to components."""
OWN_NAMES: frozenset[tuple[str, ...]] = frozenset(
    [(name,) for name in (*RECORD_MAPS, *COMPONENT_MAPS)] + [("sweep", "variants"), ("evaluate", "also")]
)
"""Key paths of the maps whose keys are the user's own names."""
DATASOURCE_WEIGHT = "weight"
"""``datasources.<name>.weight`` belongs to the core: relative share of examples drawn from the source, default 1.0."""
