"""Options of the annotators that run models. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

BOX_THRESHOLD = 0.35
"""Of GroundingDINO's detections; the paper gives none, this is the IMIG pipeline's."""
TEXT_THRESHOLD = 0.25
"""Of the words that a detection answers to; likewise."""
DTypeName = Literal["auto", "float32", "bfloat16"]
"""``auto``: bfloat16 on an accelerator, float32 on a CPU."""
Offload = Literal["none", "model", "sequential"]
"""What of a pipeline leaves the device while it is not needed."""

THEMES = (
    "a kitchen", "a workshop", "a garden", "a beach", "a living room", "a market stall", "a library",
    "a forest clearing", "a city street",
    "a child's room", "a farm yard", "a cafe terrace", "a mountain meadow", "a harbour", "an office desk",
    "a greenhouse", "a music room", "a snowy park", "a museum hall", "a camping place", "a bakery", "a garage",
    "a river bank", "a rooftop",
)  # fmt: skip
"""Places that requests name in turn, so that a model does not write the same scene for ever."""
PLACES = (
    "on a wooden table by a window in the morning", "on a beach at sunset", "on a street at night under neon light",
    "in a meadow on an overcast day", "in a bright studio with a soft shadow", "on a stone floor in hard midday sun",
    "in a dim room beside a warm lamp", "in fresh snow in cold blue light", "on a balcony after rain",
    "in a forest with light falling through the leaves",
)  # fmt: skip
"""Where reposing puts a subject."""
REPOSE_PROMPTS = {
    "Place {subject} {place}, keeping it exactly the same": 0.40,
    "Make {subject} look like it is in motion, keeping it exactly the same": 0.10,
    "Rotate the camera by 30 degrees around {subject}, keeping it exactly the same": 0.15,
    "Rotate the camera by 45 degrees around {subject}, keeping it exactly the same": 0.15,
    "Rotate the camera by 60 degrees around {subject}, keeping it exactly the same": 0.10,
    "Rotate the camera by 90 degrees around {subject}, keeping it exactly the same": 0.10,
}
"""The mix of kinds is the IMIG pipeline's (method.md section 6); the words are ours."""


DEPTH_WEIGHTS = {
    "transformers": "depth-anything/Depth-Anything-V2-Metric-Indoor-Large-hf",
    "moge": "Ruicheng/moge-2-vitl-normal",
}
"""Of each estimator, where a recipe names none."""


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """``annotators.<name>: {type: captioner, ...}``."""

    server: str
    """Address of an OpenAI-compatible server whose model reads pictures, e.g. ``http://localhost:8000/v1``."""
    weights: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    """The model's name there (section A.10: Qwen2.5-VL)."""
    key_variable: str | None = None
    """Environment variable that holds the server's key; the key itself never stands in a recipe."""
    timeout: float = 120.0
    """Seconds to wait for one answer."""
    attempts: int = 3
    """How often a prompt is asked for before the record is rejected."""
    longest: int = 60
    """Most words of a prompt."""
    temperature: float = 0.2
    """Of sampling; asked again, a model without any would say the same."""
    top_p: float = 0.9
    """Of sampling."""
    max_tokens: int = 256
    """Longest answer."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.longest < 3 or self.max_tokens < 16 or self.timeout <= 0:
            raise ValueError("attempts >= 1, longest >= 3, max_tokens >= 16 and timeout > 0 are expected")
        if not (0 <= self.temperature <= 2 and 0 < self.top_p <= 1):
            raise ValueError("0 <= temperature <= 2 and 0 < top_p <= 1 are expected")
        _require_address(self.server)


@dataclass(frozen=True, kw_only=True)
class PromptWriterConfig:
    """``annotators.<name>: {type: prompt_writer, ...}``."""

    weights: str = "Qwen/Qwen3-8B"
    """A causal language model: folder of transformers, or hub id; with ``server``, the model's name there."""
    revision: str | None = None
    """Of a hub id; null is the newest."""
    server: str | None = None
    """Address of an OpenAI-compatible server, e.g. ``http://localhost:8000/v1``; null runs the model here."""
    key_variable: str | None = None
    """Environment variable that holds the server's key; the key itself never stands in a recipe."""
    timeout: float = 120.0
    """Seconds to wait for one answer of the server."""
    min_subjects: int = 3
    """Fewest subjects (section A.1: 3)."""
    max_subjects: int = 10
    """Most subjects (section A.1: 10); the count asked for is drawn evenly."""
    themes: tuple[str, ...] = THEMES
    """Places of which each request names one."""
    attempts: int = 3
    """How often a record is asked for before it is rejected."""
    temperature: float = 0.7
    """Of sampling; Qwen3's own advice without thinking."""
    top_p: float = 0.8
    """Of sampling; likewise."""
    max_tokens: int = 1024
    """Longest answer."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` ..."""
    dtype: DTypeName = "auto"
    """Of the weights."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_subjects <= self.max_subjects <= 25:
            raise ValueError(
                f"found min_subjects {self.min_subjects} and max_subjects {self.max_subjects}, expected "
                "1 <= min_subjects <= max_subjects <= 25"
            )
        if self.attempts < 1 or self.max_tokens < 16 or not self.themes or self.timeout <= 0:
            raise ValueError("attempts >= 1, max_tokens >= 16, timeout > 0 and one theme or more are expected")
        if not (0 < self.temperature <= 2 and 0 < self.top_p <= 1):
            raise ValueError("0 < temperature <= 2 and 0 < top_p <= 1 are expected")
        if self.server is not None:
            _require_address(self.server)


@dataclass(frozen=True, kw_only=True)
class TextToImageConfig:
    """``annotators.<name>: {type: text_to_image, ...}``."""

    weights: str = "black-forest-labs/FLUX.1-dev"
    """A text-to-image pipeline: folder of diffusers, or hub id."""
    revision: str | None = None
    """Of a hub id; null is the newest."""
    width: int = 1024
    """Pixels."""
    height: int = 1024
    """Pixels."""
    steps: int = 28
    """Denoising steps."""
    guidance: float | None = 3.5
    """Null takes the pipeline's own."""
    licence: str = ""
    """Of the pictures; goes into every sample."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` ..."""
    dtype: DTypeName = "auto"
    """Of the weights."""
    offload: Offload = "none"
    """``model`` and ``sequential`` keep less on the device and are slower."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not all(16 <= side <= 4096 for side in (self.width, self.height)):
            raise ValueError("steps >= 1 and sides from 16 to 4096 pixels are expected")


@dataclass(frozen=True, kw_only=True)
class FinderConfig:
    """Which models find a subject by its caption."""

    detector: str = "IDEA-Research/grounding-dino-base"
    """GroundingDINO: folder of transformers, or hub id."""
    detector_revision: str | None = None
    """Of a hub id; null is the newest."""
    masks: str = "facebook/sam-vit-huge"
    """SAM (the first; its image processor needs no torchvision): folder of transformers, or hub id."""
    masks_revision: str | None = None
    """Of a hub id; null is the newest."""
    box_threshold: float = BOX_THRESHOLD
    """Detections with a lower score do not count, 0..1."""
    text_threshold: float = TEXT_THRESHOLD
    """Words with a lower score are not what a detection answers to; one that answers to none does not count, 0..1."""

    def __post_init__(self) -> None:
        for name in ("box_threshold", "text_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """``annotators.<name>: {type: segmenter, ...}``."""

    finder: FinderConfig = field(default_factory=FinderConfig)
    """Detector, mask model and their thresholds."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` ..."""
    dtype: DTypeName = "float32"
    """Of the weights; the detector's scores move in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """``annotators.<name>: {type: depth, ...}``."""

    estimator: Literal["transformers", "moge"] = "transformers"
    """``transformers``: Depth-Anything-V2 and its like; ``moge``: MoGe-2 (own package), which also finds the camera."""
    weights: str | None = None
    """Folder or hub id; null is the estimator's own: ``depth-anything/Depth-Anything-V2-Metric-Indoor-Large-hf``, or
    ``Ruicheng/moge-2-vitl-normal``. A relative checkpoint is taken too: its depth serves controls, but ``box_fitter``
    refuses it."""
    revision: str | None = None
    """Of a hub id; null is the newest."""
    fov_y: float = 50.0
    """Vertical field of view that pictures are taken to have, degrees; ``moge`` finds it itself."""
    saturated: float = 0.99
    """Metric depth beyond this share of the checkpoint's largest is unknown: the sky has none, 0..1."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` ..."""
    dtype: DTypeName = "float32"
    """Of the weights."""

    @property
    def source(self) -> str:
        """The weights that are read."""
        return self.weights if self.weights is not None else DEPTH_WEIGHTS[self.estimator]

    def __post_init__(self) -> None:
        if not 0 < self.fov_y < 180:
            raise ValueError(f"fov_y: found {self.fov_y}, expected a number between 0 and 180 degrees")
        if not 0 < self.saturated <= 1:
            raise ValueError(f"saturated: found {self.saturated}, expected a number above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class ReposerConfig:
    """``annotators.<name>: {type: reposer, ...}``."""

    weights: str = "black-forest-labs/FLUX.1-Kontext-dev"
    """An editing pipeline that takes ``image`` and ``prompt``: folder of diffusers, or hub id."""
    revision: str | None = None
    """Of a hub id; null is the newest."""
    prompts: Mapping[str, float] = field(default_factory=lambda: dict(REPOSE_PROMPTS))
    """Instruction -> how often it is drawn; ``{subject}`` and ``{place}`` are filled in."""
    places: tuple[str, ...] = PLACES
    """What may stand for ``{place}``."""
    size: int = 1024
    """Side of the square picture that is edited, pixels."""
    identity_size: int = 512
    """Side of the square identity images, pixels."""
    padding: float = 1.3
    """Side of the square over the longer side of the subject."""
    steps: int = 28
    """Denoising steps."""
    guidance: float | None = 2.5
    """Null takes the pipeline's own."""
    attempts: int = 2
    """How often a subject is reposed until it is found again; then it goes."""
    finder: FinderConfig = field(default_factory=FinderConfig)
    """What finds the subject again and cuts it out."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` ..."""
    dtype: DTypeName = "auto"
    """Of the editing pipeline's weights."""
    offload: Offload = "none"
    """``model`` and ``sequential`` keep less on the device and are slower."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.attempts < 1 or not 1 <= self.padding <= 4:
            raise ValueError("steps >= 1, attempts >= 1 and padding from 1 to 4 are expected")
        if not all(16 <= side <= 4096 for side in (self.size, self.identity_size)):
            raise ValueError("size and identity_size from 16 to 4096 are expected")
        if not self.prompts or min(self.prompts.values()) < 0 or sum(self.prompts.values()) <= 0 or not self.places:
            raise ValueError("prompts need weights of 0 or more and one above it, and places one entry")
        for text in self.prompts:
            try:
                text.format(subject="x", place="y")
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"prompts: {text!r}: only {{subject}} and {{place}} may stand in braces") from error


def _require_address(server: str) -> None:
    if not server.startswith(("http://", "https://")):
        raise ValueError(f"server: found {server}, expected an address that starts with http:// or https://")
