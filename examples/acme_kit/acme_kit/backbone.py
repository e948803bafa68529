"""``acme_mixer``: a base model in plain torch; pixels are its latents, tokens of 4 x 4 pixels."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from acme_kit.config import MixerConfig
from sigma_framework import TextTokens, Tokens, WeightsError

PATCH = 4
CHANNELS = 3 * PATCH**2
FILE = "pytorch_lora_weights.safetensors"


class Mixer(nn.Module):
    """Tokens look at one another once; every linear layer can carry a low-rank addition."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shapes = {
            "read": (CHANNELS + 10, width),
            "ask": (width, width),
            "tell": (width, width),
            "write": (2 * width, CHANNELS),
        }
        self.base = nn.ParameterDict(
            {name: torch.randn(out, into, generator=generator) / into**0.5 for name, (into, out) in shapes.items()}
        ).requires_grad_(False)
        self.extra = nn.ModuleDict()
        self.strength: dict[str, float] = {}

    def linear(self, layer: str, tokens: torch.Tensor) -> torch.Tensor:
        """The base's layer plus every adapter's ``up @ down``."""
        out = tokens @ self.base[layer].T
        for name, pairs in self.extra.items():
            if f"{layer}_down" in pairs:
                out = out + self.strength[name] * (tokens @ pairs[f"{layer}_down"].T @ pairs[f"{layer}_up"].T)
        return out

    def forward(self, tokens: torch.Tensor, length: int) -> torch.Tensor:
        """(b, all, CHANNELS + 10) -> (b, length, CHANNELS)."""
        hidden = F.silu(self.linear("read", tokens))
        asked, told = self.linear("ask", hidden[:, :length]), self.linear("tell", hidden)
        weights = (asked @ told.transpose(1, 2) / hidden.shape[-1] ** 0.5).softmax(dim=-1)
        return self.linear("write", torch.cat([hidden[:, :length], weights @ hidden], dim=-1))


class MixerBackbone:
    """Satisfies ``Backbone`` by its shape."""

    def __init__(self, config: MixerConfig) -> None:
        self.mixer = Mixer(config.width, config.seed)
        self._training: set[str] = set()

    @property
    def device(self) -> torch.device:
        return self.mixer.base["read"].device

    @property
    def guidance_embedded(self) -> bool:
        return False

    def modules(self) -> Sequence[nn.Module]:
        return [self.mixer]

    def noise(self, size_hw: tuple[int, int], generators: Sequence[torch.Generator]) -> Tokens:
        rows, columns = size_hw[0] // PATCH, size_hw[1] // PATCH
        drawn = [torch.randn(1, rows * columns, CHANNELS, generator=generator) for generator in generators]
        return Tokens(values=torch.cat(drawn).to(self.device), ids=self._ids(rows, columns, 0))

    def encode_prompt(self, prompts: Sequence[str]) -> TextTokens:
        drawn = [torch.Generator().manual_seed(zlib.crc32(prompt.encode())) for prompt in prompts]
        values = torch.stack([torch.randn(2, CHANNELS, generator=generator) for generator in drawn])
        return TextTokens(values=values.to(self.device), ids=torch.zeros(2, 3, device=self.device))

    def encode_image(self, images: torch.Tensor, role: str) -> Tokens:
        values = F.pixel_unshuffle(images.to(self.device).float(), PATCH).flatten(2).transpose(1, 2)
        rows, columns = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        return Tokens(values=values, ids=self._ids(rows, columns, 1 if role == "identity" else 0))

    def decode(self, values: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
        grid = values.transpose(1, 2).reshape(len(values), CHANNELS, size_hw[0] // PATCH, size_hw[1] // PATCH)
        return F.pixel_shuffle(grid, PATCH).clamp(-1, 1)

    def region_tokens(self, region: torch.Tensor) -> torch.Tensor:
        inside = (region > 0).float().expand(1, 3, *region.shape)
        return F.pixel_unshuffle(inside, PATCH).flatten(2).transpose(1, 2).to(self.device)

    def timesteps(self, count: int, target_length: int) -> torch.Tensor:
        return torch.linspace(1, 0, count + 1)

    def velocity(
        self, x: Tokens, t: torch.Tensor, text: TextTokens, conditions: Sequence[Tokens], guidance: float | None = None
    ) -> torch.Tensor:
        parts = [x, *conditions]
        values = torch.cat([part.values.to(x.values) for part in (*parts, text)], dim=1)
        ids = torch.cat([*(part.ids for part in parts), text.ids])
        where = torch.cat([ids / 16, torch.sin(ids), torch.cos(ids)], dim=-1).expand(len(values), -1, -1)
        when = t.to(values)[:, None, None].expand(-1, values.shape[1], 1)
        return self.mixer(torch.cat([values, where, when], dim=-1), x.length)

    def add_adapter(self, name: str, rank: int, alpha: float, targets: Sequence[str] | None, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        pairs = nn.ParameterDict()
        for layer in targets or self.mixer.base:
            out, into = self.mixer.base[layer].shape
            pairs[f"{layer}_down"] = nn.Parameter(torch.randn(rank, into, generator=generator) / into**0.5)
            pairs[f"{layer}_up"] = nn.Parameter(torch.zeros(out, rank))
        self.mixer.extra[name] = pairs.to(self.device)
        self.mixer.strength[name] = alpha / rank
        self._training.add(name)

    def save_adapter(self, folder: Path, name: str, metadata: Mapping[str, str]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        state = {key: value.detach().cpu().contiguous() for key, value in self.mixer.extra[name].items()}
        save_file(state, str(folder / FILE), {**metadata, "acme.strength": repr(self.mixer.strength[name])})
        return folder / FILE

    def load_adapter(self, path: Path, name: str, weight: float, trainable: bool = False) -> None:
        file = path / FILE if path.is_dir() else path
        try:
            with safe_open(str(file), "pt") as opened:
                facts, keys = opened.metadata() or {}, opened.keys()
                state = {key: opened.get_tensor(key) for key in keys}
            layers = [key.removesuffix("_down") for key in state if key.endswith("_down")]
            self.add_adapter(name, state[f"{layers[0]}_down"].shape[0], 1.0, layers, seed=0)
            self.mixer.extra[name].load_state_dict(state)
            self.mixer.strength[name] = float(facts["acme.strength"]) * weight
        except (OSError, SafetensorError, LookupError, RuntimeError) as error:
            raise WeightsError(f"{file}: is no adapter of acme_mixer of this width ({error})") from error
        if not trainable:
            self.mixer.extra[name].requires_grad_(False)
            self._training.discard(name)

    def trainable_parameters(self) -> Mapping[str, nn.Parameter]:
        named = self.mixer.extra.named_parameters()
        return {name: parameter for name, parameter in named if name.partition(".")[0] in self._training}

    def _ids(self, rows: int, columns: int, first: int) -> torch.Tensor:
        grid = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), dim=-1)
        return F.pad(grid.reshape(-1, 2), (1, 0), value=first).float().to(self.device)
