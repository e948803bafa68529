"""The six kinds of plugin as protocols. A component satisfies one by its shape; nothing is inherited.

Torch is named here for types alone and is not imported at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sigma_framework.types import (
    Canvas,
    ControlLayer,
    Example,
    OnStep,
    Result,
    RgbImage,
    Role,
    SampleRequest,
    SubjectAnnotation,
    TextTokens,
    Tokens,
)

if TYPE_CHECKING:
    import torch

    from sigma_framework.scene import Scene


@runtime_checkable
class ControlEncoder(Protocol):
    """One control type, one subject at a time; the core composes all layers into ``I^C``.

    Both methods are pure: equal input (and an equal generator) gives equal output, nothing given is written to, and the
    object can be pickled for data workers. An encoder never opens a file.
    """

    def encode(self, geometry: Any, canvas: Canvas) -> ControlLayer:
        """What a scene says -> region and depth.

        Args:
            geometry: an instance of the spec's ``geometry`` dataclass; ``Raster`` fields hold arrays of its size.
            canvas: size and camera.

        Raises:
            ValueError: the geometry makes no sense on this canvas; the core adds which subject it is.
        """
        ...

    def derive(self, subject: SubjectAnnotation, canvas: Canvas, rng: np.random.Generator) -> Any:
        """Ground truth -> what a scene would say of it, with training augmentation drawn from ``rng`` (section 4.1).

        Raises:
            ValueError: the annotation lacks what this control needs (e.g. no depth).
        """
        ...


@runtime_checkable
class Backbone(Protocol):
    """A frozen generative model with its VAE, text encoders, schedule and adapters.

    Time runs from t = 1 (noise) to t = 0 (image); the velocity is ``eps - x_0`` (section 3). All images are
    (b, 3, h, w) float in [-1, 1]; all tokens are batch first.
    """

    @property
    def device(self) -> torch.device:
        """Where the weights are and where tensors given to it are moved to."""
        ...

    @property
    def guidance_embedded(self) -> bool:
        """Whether ``velocity`` reads ``guidance``."""
        ...

    def modules(self) -> Sequence[torch.nn.Module]:
        """Everything with weights, for moving to a device and counting."""
        ...

    def noise(self, size_hw: tuple[int, int], generators: Sequence[torch.Generator]) -> Tokens:
        """Gaussian noise for ``len(generators)`` images, image k from generator k alone, with the target's ids."""
        ...

    def encode_prompt(self, prompts: Sequence[str]) -> TextTokens:
        """Prompts -> text tokens, batch ``len(prompts)``."""
        ...

    def encode_image(self, images: torch.Tensor, role: Role) -> Tokens:
        """Images -> normalised, packed latents with the position ids of ``role`` (section 4.1).

        ``spatial`` has exactly the ids of ``target``; ``identity`` starts at row 0, column 0 and shares no id with
        ``target``: it lies where the base was trained to find references (FLUX.1: first coordinate 1, FLUX.2: 10).
        """
        ...

    def velocity(
        self, x: Tokens, t: torch.Tensor, text: TextTokens, conditions: Sequence[Tokens], guidance: float | None = None
    ) -> torch.Tensor:
        """Velocity of the tokens of ``x`` alone, (b, l, d).

        Args:
            x: noisy target tokens.
            t: (b,) in [0, 1], 1 is noise.
            text: batch b.
            conditions: ``I^S`` then ``I^C``; every token attends to every token (section 3.2).
            guidance: distilled guidance, read when ``guidance_embedded``.
        """
        ...

    def decode(self, values: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
        """Tokens (b, l, d) -> images (b, 3, h, w) in [-1, 1]."""
        ...

    def region_tokens(self, region: torch.Tensor) -> torch.Tensor:
        """A pixel region (h, w) in [0, 1] -> (1, l, d) of 0 and 1 in the layout of the target's tokens.

        1 where any pixel that the value stands for is inside the region; samplers blend with it.
        """
        ...

    def timesteps(self, count: int, target_length: int) -> torch.Tensor:
        """(count + 1,) descending t from 1 (or near it) to exactly 0, shifted for the target's token count."""
        ...

    def add_adapter(self, name: str, rank: int, alpha: float, targets: Sequence[str] | None, seed: int) -> None:
        """A fresh trainable adapter (its effect is zero) on the frozen base; ``targets`` None is the default list."""
        ...

    def save_adapter(self, folder: Path, name: str, metadata: Mapping[str, str]) -> Path:
        """Writes one adapter as a file other tools read; returns its path."""
        ...

    def load_adapter(self, path: Path, name: str, weight: float, trainable: bool = False) -> Mapping[str, str] | None:
        """Loads one adapter from a file or folder and switches it on with ``weight``.

        Returns:
            The metadata that ``save_adapter`` wrote, which the core compares with the recipe; None to say nothing.

        Raises:
            WeightsError: not an adapter for this base.
        """
        ...

    def trainable_parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """The adapter parameters that training changes, by stable name; float32."""
        ...


AttentionReport = Callable[[int, "tuple[torch.Tensor, ...]"], None]
"""Called with (layer, per condition (b, heads, rows, l_condition) float probabilities; the rest goes to text and X)."""


@runtime_checkable
class AttentionReader(Protocol):
    """What a backbone may be able to do besides: tell where target tokens look.

    The task ``inspect`` and ``train.attention_loss_weight`` ask for it. Without it everything else works; a backbone
    whose attention gives no probabilities leaves the method out.
    """

    def watch_attention(
        self,
        rows: torch.Tensor,
        report: AttentionReport,
        *,
        layers: Collection[int] | None = None,
        gradients: bool = False,
    ) -> AbstractContextManager[None]:
        """While the context is open, every call of ``velocity`` reports once per attention layer, in order.

        What ``velocity`` gives stays the same. The tokens of ``I^S`` come in reading order, so those of its N blocks
        are N equal runs.

        Args:
            rows: (r,) indices of the target tokens that are asked for.
            report: receives the probabilities of these rows; they are not kept.
            layers: the attention layers that report, counted from 0; None is all.
            gradients: whether what is reported can be differentiated, for a loss on it.

        Raises:
            PluginError: the backbone cannot give gradients as it is set up.
        """
        ...


@runtime_checkable
class AdapterDimmer(Protocol):
    """What a backbone may be able to do besides: predict with weaker adapters.

    Guidance away from them (``adapter_guidance`` of a sampler) asks for it. Without it everything else works.
    """

    def dim_adapters(self, share: float) -> AbstractContextManager[None]:
        """While the context is open, every adapter works at ``share`` of its weight; afterwards exactly as before.

        Contexts may be nested: their shares are multiplied. An ``AttentionReader`` does not report these passes.

        Args:
            share: in [0, 1]; 0 is the base alone, 1 changes nothing.
        """
        ...


@runtime_checkable
class SelfPlacing(Protocol):
    """What a backbone may be able to do besides: decide where its frozen models are.

    Training then moves only what holds trained weights, and lets the text encoders go when the cache has all prompts.
    Without it all models stay on the training device.
    """

    def to(self, device: torch.device | str) -> Any:
        """Moves what shall be on ``device`` from the start; the rest comes when it is used."""
        ...

    def rest_text_encoders(self) -> None:
        """They leave the device until a prompt is encoded again, which gives the same tokens as before."""
        ...


@runtime_checkable
class Objective(Protocol):
    """What a training run minimises and what it saves; adapters are the core's, others come with a backbone's spec.

    An objective is built once per run by ``factory(backbone_config, options, seed)``.
    """

    def trainable_parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """Everything the optimizer changes, by stable name."""
        ...

    def modules(self) -> Sequence[torch.nn.Module]:
        """Modules to move to the training device; of those without a frozen weight, checkpoints keep the buffers."""
        ...

    def loss(self, examples: Sequence[Example], generators: Sequence[torch.Generator]) -> torch.Tensor:
        """(b,) loss per example; all randomness of example k comes from generator k."""
        ...

    def pictures(self, examples: Sequence[Example], seed: int) -> list[list[RgbImage]]:
        """Rows of pictures that show people how far training is."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what the run is for (weights in their final format) into ``folder``."""
        ...


@runtime_checkable
class DataSource(Protocol):
    """Map-style examples; what stages filter on is known without decoding anything.

    ``source[i]`` depends on ``i`` and the config alone. The object can be pickled for data workers.
    """

    @property
    def subject_counts(self) -> NDArray[np.int64]:
        """(len,) number of subjects of each example."""
        ...

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(len, 2) target height and width of each example, pixels."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@runtime_checkable
class WholeDepth(Protocol):
    """What a data source may know besides: depth of the whole picture, which ``evaluate.structure: scene`` asks for."""

    def whole_depth(self, index: int) -> NDArray[np.float32]:
        """(H, W) metres of example ``index``; what is not finite and positive is not known."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """Turns noise into images with a backbone; touches no global random state."""

    def sample(self, backbone: Backbone, request: SampleRequest, on_step: OnStep | None = None) -> torch.Tensor:
        """Images (b, 3, h, w) in [-1, 1]; ``on_step`` after each step may replace the latents."""
        ...


@runtime_checkable
class Metric(Protocol):
    """One or several numbers per image.

    A metric may also have ``markdown(self) -> str``: what its numbers cannot say, e.g. a matrix; an evaluation puts it
    below the tables of ``results.md``. And ``facts(self) -> Mapping[str, Any]``, plain data: what its numbers were made
    with (weights, preprocessing, versions), which reports print beside them. Numbers made in different ways want
    different names, e.g. with the variant in brackets.
    """

    def update(self, result: Result, scene: Scene, target: RgbImage | None) -> None:
        """Takes in one result; ``target`` is the ground-truth image where there is one."""
        ...

    def compute(self) -> Mapping[str, Sequence[float]]:
        """Values per image, in the order of the updates, by metric name; NaN where it does not apply."""
        ...


@runtime_checkable
class Annotator(Protocol):
    """One stage of data making: takes records, gives them back with more in them (section 3.1, A.1)."""

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterable[Mapping[str, Any]]:
        """One batch; may drop records (a filter) or add keys. Values are plain data, strings or NumPy arrays."""
        ...
