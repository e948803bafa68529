"""A whole backbone in a few thousand parameters, to test samplers, training and metrics without a real model.

Its latents are 2 x 2 means of pixels in patches of 8 x 8, so encoding and decoding are exact inverses on what it can
show; its network is one attention layer over all tokens. t = 1 is noise, velocity = eps - x_0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_framework.errors import WeightsError
from sigma_framework.specs import BackboneSpec
from sigma_framework.types import Role, TextTokens, Tokens

if TYPE_CHECKING:
    import torch

PATCH = 8
"""Pixels per token and side."""
POOL = 2
"""Pixels per latent value and side."""
CHANNELS = 3 * (PATCH // POOL) ** 2
"""Values per token."""
ADAPTER_FILE = "pytorch_lora_weights.safetensors"

_TEXT_LENGTH = 4
_LAYERS = ("query", "key", "value", "out")


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """Options of the tiny backbone."""

    width: int = 32
    """Width of the network."""
    seed: int = 0
    """Draws the base's weights."""


class TinyBackbone:
    """Satisfies ``Backbone``; weights are random, and an adapter on top can be trained."""

    def __init__(self, config: TinyConfig | None = None) -> None:
        import torch

        self.config = config or TinyConfig()
        self.network = _base(self.config)
        self.adapters = torch.nn.ModuleDict()
        self._strength: dict[str, float] = {}
        self._trainable: set[str] = set()
        self._share = 1.0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.network["embed"].weight.device
        return device

    @property
    def guidance_embedded(self) -> bool:
        """It reads no distilled guidance."""
        return False

    def modules(self) -> Sequence[torch.nn.Module]:
        """The base and its adapters."""
        return [self.network, self.adapters]

    def noise(self, size_hw: tuple[int, int], generators: Sequence[torch.Generator]) -> Tokens:
        """(b, l, d) Gaussian, image k from generator k alone."""
        import torch

        rows, columns = _grid(size_hw)
        drawn = [torch.randn(1, rows * columns, CHANNELS, generator=one, device=one.device) for one in generators]
        return Tokens(values=torch.cat(drawn).to(self.device), ids=_ids(rows, columns, 0).to(self.device))

    def encode_prompt(self, prompts: Sequence[str]) -> TextTokens:
        """Each prompt's hash as four tokens: equal texts are equal, others far apart."""
        import torch

        rows = [_text_values(prompt, self.config.width) for prompt in prompts]
        values = torch.tensor(rows, dtype=torch.float32, device=self.device)
        return TextTokens(values=values, ids=torch.zeros(_TEXT_LENGTH, 3, device=self.device))

    def encode_image(self, images: torch.Tensor, role: Role) -> Tokens:
        """2 x 2 means, packed by patch; identity tokens carry 1 in the first id."""
        import torch

        pooled = torch.nn.functional.avg_pool2d(images.to(self.device, torch.float32), POOL)
        values = torch.nn.functional.pixel_unshuffle(pooled, PATCH // POOL).flatten(2).transpose(1, 2)
        rows, columns = _grid((images.shape[-2], images.shape[-1]))
        ids = _ids(rows, columns, 1 if role == "identity" else 0)
        return Tokens(values=values.contiguous(), ids=ids.to(self.device))

    def velocity(
        self, x: Tokens, t: torch.Tensor, text: TextTokens, conditions: Sequence[Tokens], guidance: float | None = None
    ) -> torch.Tensor:
        """One attention layer over text, target and conditions; the answer is for the target's tokens."""
        import torch

        parts = [x, *conditions]
        image = self.network["embed"](torch.cat([part.values.to(x.values) for part in parts], dim=1))
        image = image + _positions(torch.cat([part.ids for part in parts]), self.config.width).to(image)
        when = self.network["time"](torch.stack([t, 1 - t], dim=-1).to(image))[:, None]
        tokens = torch.cat([image + when, text.values.to(image)], dim=1)
        mixed = torch.nn.functional.scaled_dot_product_attention(
            self._linear("query", tokens[:, : x.length]), self._linear("key", tokens), self._linear("value", tokens)
        )
        hidden = tokens[:, : x.length] + mixed
        answer: torch.Tensor = self._linear("out", torch.nn.functional.gelu(hidden))
        return answer

    def decode(self, values: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
        """(b, 3, h, w) in [-1, 1]."""
        import torch

        rows, columns = _grid(size_hw)
        grid = values.float().transpose(1, 2).reshape(len(values), CHANNELS, rows, columns)
        pooled = torch.nn.functional.pixel_shuffle(grid, PATCH // POOL)
        return torch.nn.functional.interpolate(pooled, scale_factor=POOL, mode="nearest").clamp(-1, 1)

    def region_tokens(self, region: torch.Tensor) -> torch.Tensor:
        """(1, l, d): 1 for every 2 x 2 block that the region touches."""
        import torch

        touched = torch.nn.functional.max_pool2d((region > 0).float()[None, None].expand(1, 3, -1, -1), POOL)
        packed = torch.nn.functional.pixel_unshuffle(touched, PATCH // POOL)
        return packed.flatten(2).transpose(1, 2).to(self.device)

    def timesteps(self, count: int, target_length: int) -> torch.Tensor:
        """Evenly from 1 to 0."""
        import torch

        return torch.linspace(1, 0, count + 1)

    def add_adapter(self, name: str, rank: int, alpha: float, targets: Sequence[str] | None, seed: int) -> None:
        """A LoRA on the named layers; its second matrix starts at zero."""
        import torch

        generator = torch.Generator("cpu").manual_seed(seed)
        pairs = torch.nn.ModuleDict()
        for layer in targets or _LAYERS:
            base = self.network[layer]
            pair = torch.nn.ParameterDict(
                {
                    "down": torch.randn(rank, base.in_features, generator=generator) / base.in_features**0.5,
                    "up": torch.zeros(base.out_features, rank),
                }
            )
            pairs[layer] = pair.to(self.device)
        self.adapters[name] = pairs
        self._strength[name] = alpha / rank
        self._trainable.add(name)

    def save_adapter(self, folder: Path, name: str, metadata: Mapping[str, str]) -> Path:
        """``folder/pytorch_lora_weights.safetensors``."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ADAPTER_FILE
        state = {key: value.detach().cpu().contiguous() for key, value in self.adapters[name].state_dict().items()}
        facts = {**metadata, "tiny_width": str(self.config.width), "tiny_strength": repr(self._strength[name])}
        save_file(state, str(path), metadata=facts)
        return path

    def load_adapter(self, path: Path, name: str, weight: float, trainable: bool = False) -> None:
        """Reads what ``save_adapter`` wrote.

        Raises:
            WeightsError: another file, or one for another width.
        """
        state, facts = _read_adapter(Path(path))
        if facts.get("tiny_width") != str(self.config.width):
            raise WeightsError(f"{path}: made for width {facts.get('tiny_width')}, expected {self.config.width}")
        layers = [layer for layer in _LAYERS if f"{layer}.down" in state]
        if not layers:
            raise WeightsError(f"{path}: holds none of the layers {', '.join(_LAYERS)}; give an adapter of this base")
        self.add_adapter(name, state[f"{layers[0]}.down"].shape[0], 1.0, layers, seed=0)
        self.adapters[name].load_state_dict(state)
        self._strength[name] = float(facts["tiny_strength"]) * weight
        if not trainable:
            self._trainable.discard(name)
            self.adapters[name].requires_grad_(False)

    @contextmanager
    def dim_adapters(self, share: float) -> Iterator[None]:
        """All adapters at ``share`` of their strength."""
        before = self._share
        self._share = before * share
        try:
            yield
        finally:
            self._share = before

    def trainable_parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """Parameters of the adapters that are trained."""
        found = self.adapters.named_parameters()
        return {name: value for name, value in found if name.split(".")[0] in self._trainable}

    def _linear(self, layer: str, tokens: torch.Tensor) -> torch.Tensor:
        """The base's layer with every adapter's share on top."""
        out: torch.Tensor = self.network[layer](tokens)
        for name, pairs in self.adapters.items():
            if layer in pairs:  # type: ignore[operator]
                pair = pairs[layer]  # type: ignore[index]
                out = out + self._share * self._strength[name] * (tokens @ pair["down"].T @ pair["up"].T)
        return out


TINY_SPEC = BackboneSpec(
    name="tiny",
    config=TinyConfig,
    factory="sigma_framework.testing.tiny_backbone:TinyBackbone",
    summary="a few thousand random weights, for tests",
    size_multiple=PATCH,
)
"""Register it by ``host.register`` in a test; it is no plugin."""


def _base(config: TinyConfig) -> Any:
    """The frozen network, drawn from the config's seed alone."""
    import torch

    sizes = {
        "embed": (CHANNELS, config.width),
        "time": (2, config.width),
        **dict.fromkeys(("query", "key", "value"), (config.width, config.width)),
        "out": (config.width, CHANNELS),
    }
    network = torch.nn.ModuleDict()
    generator = torch.Generator("cpu").manual_seed(config.seed)
    for name, (inputs, outputs) in sizes.items():
        layer = torch.nn.Linear(inputs, outputs, bias=False, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            layer.weight.copy_(torch.randn(outputs, inputs, generator=generator) / inputs**0.5)
        network[name] = layer
    return network.requires_grad_(False)


def _grid(size_hw: tuple[int, int]) -> tuple[int, int]:
    height, width = size_hw
    if height % PATCH or width % PATCH:
        raise ValueError(f"found {width} x {height} pixels, expected multiples of {PATCH}")
    return height // PATCH, width // PATCH


def _ids(rows: int, columns: int, first: int) -> torch.Tensor:
    """(rows * columns, 3): role, row, column."""
    import torch

    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.full_like(row, first), row, column], dim=-1).reshape(-1, 3).float()


def _positions(ids: torch.Tensor, width: int) -> torch.Tensor:
    """(l, k) ids -> (l, width) sines of several wavelengths."""
    import torch

    waves = 2.0 ** -torch.arange(width // 2, device=ids.device).remainder(4)
    phase = ids @ torch.tensor([5.0, 1.0, 2.5], device=ids.device)
    return torch.cat([torch.sin(phase[:, None] * waves), torch.cos(phase[:, None] * waves)], dim=-1)


def _text_values(prompt: str, width: int) -> list[list[float]]:
    """Four tokens in [-1, 1] from the text's hash."""
    values = b"".join(
        hashlib.sha256(f"{index}:{prompt}".encode()).digest() for index in range(_TEXT_LENGTH * width // 32 + 1)
    )
    scaled = [byte / 127.5 - 1 for byte in values]
    return [scaled[index * width : (index + 1) * width] for index in range(_TEXT_LENGTH)]


def _read_adapter(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    file = path / ADAPTER_FILE if path.is_dir() else path
    try:
        with safe_open(str(file), framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{file}: cannot be read as an adapter ({error}); give a file that save_adapter wrote"
        ) from error
