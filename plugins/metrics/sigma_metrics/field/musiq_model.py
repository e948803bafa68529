"""MUSIQ (Ke et al. 2021) from its authors' checkpoints: sizes of a picture, patches of each, one transformer.

Written from the paper and from the names in the checkpoints (Apache-2.0). Arrays in a checkpoint have flax's layout:
kernels of convolutions (rows, columns, in, out), of linear layers (in, out), of attention (in, heads, width).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sigma_framework import WeightsError
from sigma_metrics.field.musiq_patches import PATCH, hashed, patches_of, resized

LONGER_SIDES = (224, 384)
"""The picture is seen at these sizes and at its own (section 4 of MUSIQ's paper)."""
_GROUPS = 32
_EPSILON, _UNIT_EPSILON = 1e-6, 1e-4
"""Of normalisation: everywhere, and inside the residual unit."""
_ROOT = "opt/target/"
_PLACES, _SIZES = "Transformer/posembed_input/pos_embedding", "Transformer/scaleembed_input/scale_embedding"
_EXPECTED = (
    *("conv_root/kernel", "gn_root/scale", "block1/unit1/conv2/kernel", "embedding/kernel", "head/kernel"),
    *(_PLACES, _SIZES, "Transformer/cls", "Transformer/encoder_norm/scale"),
    *("Transformer/encoderblock_0/LayerNorm_0/scale", "Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"),
)
"""Names by which a checkpoint is known for one of these."""


class MusiqModel:
    """A frozen checkpoint; float32."""

    def __init__(self, weights: Mapping[str, Tensor], device: torch.device) -> None:
        self._weights = {name: values.to(device) for name, values in weights.items()}
        self._layers = len({name.split("/")[1] for name in weights if name.startswith("Transformer/encoderblock_")})
        self._grid = round(weights[_PLACES].shape[1] ** 0.5)
        self._scales = weights[_SIZES].shape[1]
        self._device = device

    @torch.no_grad()
    def score(self, picture: NDArray[np.uint8]) -> float:
        """One number for a picture (h, w, 3): the score, or the mean of a distribution over 1, 2, ... 10."""
        shown = picture.astype(np.float32) / 127.5 - 1
        sizes = [*(resized(shown, side) for side in LONGER_SIDES[: self._scales - 1]), shown]
        parts = [self._tokens(one, number) for number, one in enumerate(sizes)]
        tokens = torch.cat([self._weights["Transformer/cls"][0], *parts])
        for number in range(self._layers):
            tokens = self._block(tokens, f"Transformer/encoderblock_{number}/")
        found = self._linear(self._norm(tokens, "Transformer/encoder_norm/")[0], "head/")
        if len(found) == 1:
            return float(found[0])
        return float((found.softmax(dim=0) * torch.arange(1, len(found) + 1, device=found.device)).sum())

    def _tokens(self, picture: NDArray[np.float32], scale: int) -> Tensor:
        """(n, d) of a picture at one size."""
        patches = torch.from_numpy(patches_of(picture)).to(self._device)
        rows, columns = (-(-side // PATCH) for side in picture.shape[:2])
        places = hashed(rows, self._grid)[:, None] * self._grid + hashed(columns, self._grid)[None]
        where = self._weights[_PLACES][0][torch.from_numpy(places.flatten()).to(self._device)]
        size = self._weights[_SIZES][0][scale]
        return self._linear(self._seen(patches), "embedding/") + where + size

    def _seen(self, patches: Tensor) -> Tensor:
        """(n, 3, 32, 32) -> (n, c), by the stem and one residual unit."""
        x = self._convolved(functional.pad(patches, (2, 3, 2, 3)), "conv_root/", stride=2)
        x = self._grouped(x, "gn_root/", _EPSILON).relu()
        x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)
        unit = "block1/unit1/"
        straight = self._grouped(self._convolved(x, unit + "conv_proj/"), unit + "gn_proj/", _UNIT_EPSILON)
        x = self._grouped(self._convolved(x, unit + "conv1/"), unit + "gn1/", _UNIT_EPSILON).relu()
        x = self._grouped(self._convolved(x, unit + "conv2/", padding=1), unit + "gn2/", _UNIT_EPSILON).relu()
        x = self._grouped(self._convolved(x, unit + "conv3/"), unit + "gn3/", _UNIT_EPSILON)
        return (straight + x).relu().permute(0, 2, 3, 1).flatten(1)  # channels last, as the embedding was learned

    def _block(self, x: Tensor, at: str) -> Tensor:
        """Attention, then two linear layers, each on normalised tokens and added."""
        x = x + self._attention(self._norm(x, at + "LayerNorm_0/"), at + self._attention_name(at))
        wide = self._linear(self._norm(x, at + "LayerNorm_2/"), at + "MlpBlock_3/Dense_0/")
        wide = functional.gelu(wide, approximate="tanh")
        return x + self._linear(wide, at + "MlpBlock_3/Dense_1/")

    def _attention_name(self, at: str) -> str:
        plain = "MultiHeadDotProductAttention_1/"
        return plain if f"{at}{plain}query/kernel" in self._weights else "SelfAttention_1/"

    def _attention(self, x: Tensor, at: str) -> Tensor:
        q, k, v = (
            torch.einsum("lc,chd->hld", x, self._weights[f"{at}{name}/kernel"])
            + self._weights[f"{at}{name}/bias"][:, None]
            for name in ("query", "key", "value")
        )
        seen = functional.scaled_dot_product_attention(q[None], k[None], v[None])[0]
        return torch.einsum("hld,hdc->lc", seen, self._weights[at + "out/kernel"]) + self._weights[at + "out/bias"]

    def _linear(self, x: Tensor, at: str) -> Tensor:
        return x @ self._weights[at + "kernel"] + self._weights[at + "bias"]

    def _norm(self, x: Tensor, at: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self._weights[at + "scale"], self._weights[at + "bias"], _EPSILON)

    def _grouped(self, x: Tensor, at: str, epsilon: float) -> Tensor:
        scale, bias = (self._weights[at + name].flatten() for name in ("scale", "bias"))
        return functional.group_norm(x, _GROUPS, scale, bias, epsilon)

    def _convolved(self, x: Tensor, at: str, stride: int = 1, padding: int = 0) -> Tensor:
        """With a kernel of mean 0 and deviation 1 per output channel."""
        kernel = self._weights[at + "kernel"]
        kernel = kernel - kernel.mean(dim=(0, 1, 2))
        kernel = kernel / (kernel.std(dim=(0, 1, 2), correction=0) + 1e-5)
        return functional.conv2d(x, kernel.permute(3, 2, 0, 1), stride=stride, padding=padding)


def read_musiq(file: Path) -> dict[str, Tensor]:
    """The arrays of a checkpoint, ``<variant>_ckpt.npz``, by name; optimizer state is left out.

    Raises:
        WeightsError: not there, damaged, or another model's.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            names = [name for name in stored.files if name.startswith(_ROOT)]
            found = {name.removeprefix(_ROOT): torch.from_numpy(stored[name].astype(np.float32)) for name in names}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"musiq: {file} cannot be read ({error}); expected a checkpoint of MUSIQ's authors, e.g. koniq_ckpt.npz; "
            "copy or download it again"
        ) from error
    missing = [name for name in _EXPECTED if name not in found]
    if missing:
        raise WeightsError(
            f"musiq: {file} has no {', '.join(missing)}; expected a checkpoint of MUSIQ's authors, e.g. koniq_ckpt.npz"
        )
    return found
