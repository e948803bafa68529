"""MUSIQ from a small random checkpoint against a computation of its own, in float64 and by other means."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image

from sigma_framework import ControlImages, Result, Scene, WeightsError
from sigma_framework.testing import MetricConformance
from sigma_metrics.field.config import MusiqConfig
from sigma_metrics.field.musiq import Musiq
from sigma_metrics.field.musiq_patches import hashed
from sigma_metrics.plugin import sigma_register_metrics

WIDTH, HEADS, LAYERS, GRID, CHANNELS = 8, 2, 2, 10, 32
UNIT = "block1/unit1/"
PICTURE = np.random.default_rng(3).integers(0, 256, (40, 72, 3)).astype(np.uint8)


def arrays(outputs: int, attention: str = "MultiHeadDotProductAttention_1") -> dict[str, np.ndarray]:
    """A checkpoint as flax stored it, with a little optimizer state beside."""
    rng = np.random.default_rng(1)
    shapes: dict[str, tuple[int, ...]] = {
        "conv_root/kernel": (7, 7, 3, CHANNELS),
        UNIT + "conv_proj/kernel": (1, 1, CHANNELS, 2 * CHANNELS),
        UNIT + "conv1/kernel": (1, 1, CHANNELS, CHANNELS),
        UNIT + "conv2/kernel": (3, 3, CHANNELS, CHANNELS),
        UNIT + "conv3/kernel": (1, 1, CHANNELS, 2 * CHANNELS),
        "embedding/kernel": (8 * 8 * 2 * CHANNELS, WIDTH),
        "embedding/bias": (WIDTH,),
        "Transformer/posembed_input/pos_embedding": (1, GRID * GRID, WIDTH),
        "Transformer/scaleembed_input/scale_embedding": (1, 3, WIDTH),
        "Transformer/cls": (1, 1, WIDTH),
        "head/kernel": (WIDTH, outputs),
        "head/bias": (outputs,),
    }
    norms = {"gn_root": CHANNELS, UNIT + "gn_proj": 2 * CHANNELS, UNIT + "gn1": CHANNELS, UNIT + "gn2": CHANNELS}
    norms |= {UNIT + "gn3": 2 * CHANNELS, "Transformer/encoder_norm": WIDTH}
    for layer in range(LAYERS):
        at = f"Transformer/encoderblock_{layer}/"
        norms |= {at + "LayerNorm_0": WIDTH, at + "LayerNorm_2": WIDTH}
        shapes |= {f"{at}{attention}/{n}/kernel": (WIDTH, HEADS, WIDTH // HEADS) for n in ("query", "key", "value")}
        shapes |= {f"{at}{attention}/{n}/bias": (HEADS, WIDTH // HEADS) for n in ("query", "key", "value")}
        shapes |= {f"{at}{attention}/out/kernel": (HEADS, WIDTH // HEADS, WIDTH), f"{at}{attention}/out/bias": (WIDTH,)}
        shapes |= {f"{at}MlpBlock_3/Dense_0/kernel": (WIDTH, 12), f"{at}MlpBlock_3/Dense_0/bias": (12,)}
        shapes |= {f"{at}MlpBlock_3/Dense_1/kernel": (12, WIDTH), f"{at}MlpBlock_3/Dense_1/bias": (WIDTH,)}
    made = {name: rng.normal(0, 0.4, shape) for name, shape in shapes.items()}
    made["embedding/kernel"] /= 20
    for name, size in norms.items():
        shape = (1, 1, 1, size) if "gn" in name else (size,)
        made |= {f"{name}/scale": rng.normal(1, 0.2, shape), f"{name}/bias": rng.normal(0, 0.2, shape)}
    stored = {f"opt/target/{name}": values.astype(np.float32) for name, values in made.items()}
    return {**stored, "opt/state/step": np.array(7)}


def save(path: Path, **options: Any) -> Path:
    np.savez(path, **arrays(**options))
    return path


def result_of(picture: np.ndarray = PICTURE) -> Result:
    height, width = picture.shape[:2]
    identity = np.zeros((32, 32, 3), np.uint8)
    subject = {"name": "a", "image": identity, "control": {"type": "box2d", "xyxy": [4, 4, 30, 30]}}
    scene = Scene.load({"version": 1, "size": [width, height], "prompt": "", "subjects": [subject]})
    controls = ControlImages(
        spatial=np.zeros_like(picture),
        identity=identity,
        regions=np.ones((1, height, width), bool),
        layout=picture,
    )
    return Result(images=(Image.fromarray(picture),), controls=controls, scene=scene, seeds=(0,))


def score(picture: np.ndarray = PICTURE, **options: Any) -> float:
    metric, result = Musiq(MusiqConfig(device="cpu", **options)), result_of(picture)
    metric.update(result, result.scene, None)
    ((only,),) = metric.compute().values()
    return float(only)


def smaller(rows: np.ndarray, after: int) -> np.ndarray:
    """Along the first axis: each pixel by the three nearest, weighted by a Gaussian of half a pixel."""
    made = []
    for number in range(after):
        centre = (number + 0.5) * len(rows) / after
        taps = [j for j in range(len(rows)) if abs(j + 0.5 - centre) < 1.5]
        shares = np.array([math.exp(-2 * (j + 0.5 - centre) ** 2) for j in taps])
        made.append(np.tensordot(shares / shares.sum(), rows[taps], axes=1))
    return np.stack(made)


def patches(picture: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Each patch (32, 32, 3), with its place on the grid."""
    height, width = picture.shape[:2]
    rows, columns = math.ceil(height / 32), math.ceil(width / 32)
    whole = np.zeros((rows * 32, columns * 32, 3))
    top, left = (rows * 32 - height) // 2, (columns * 32 - width) // 2
    whole[top : top + height, left : left + width] = picture
    return [
        (whole[32 * y : 32 * y + 32, 32 * x : 32 * x + 32], (GRID * y // rows) * GRID + GRID * x // columns)
        for y in range(rows)
        for x in range(columns)
    ]


def normalised(x: torch.Tensor, groups: int, scale: np.ndarray, bias: np.ndarray, epsilon: float) -> torch.Tensor:
    """(n, h, w, c) by the moments of each group of channels."""
    parts = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    mean, variance = parts.mean(dim=(1, 3), keepdim=True), parts.var(dim=(1, 3), keepdim=True, correction=0)
    return ((parts - mean) / (variance + epsilon).sqrt()).reshape(x.shape) * torch.tensor(scale) + torch.tensor(bias)


def convolved(x: torch.Tensor, kernel: np.ndarray, stride: int, before: int, after: int) -> torch.Tensor:
    """(n, h, w, c) as a sum of products over windows, with a standardised kernel."""
    axes = (0, 1, 2)
    weights = torch.tensor((kernel - kernel.mean(axis=axes)) / (kernel.std(axis=axes) + 1e-5))
    side = kernel.shape[0]
    x = torch.nn.functional.pad(x, (0, 0, before, after, before, after))
    windows = x.unfold(1, side, stride).unfold(2, side, stride)  # (n, h, w, c, rows, columns)
    return torch.einsum("nhwcij,ijco->nhwo", windows, weights)


def embedded(stack: torch.Tensor, w: dict[str, np.ndarray]) -> torch.Tensor:
    """(n, 32, 32, 3) -> (n, WIDTH)."""

    def norm(x: torch.Tensor, name: str, epsilon: float = 1e-4) -> torch.Tensor:
        return normalised(x, 32, w[name + "/scale"], w[name + "/bias"], epsilon)

    x = norm(convolved(stack, w["conv_root/kernel"], 2, 2, 3), "gn_root", 1e-6).relu()
    x = torch.nn.functional.pad(x, (0, 0, 0, 1, 0, 1), value=-1.0)  # nothing is below zero
    x = x.unfold(1, 3, 2).unfold(2, 3, 2).amax(dim=(-1, -2))
    straight = norm(convolved(x, w[UNIT + "conv_proj/kernel"], 1, 0, 0), UNIT + "gn_proj")
    x = norm(convolved(x, w[UNIT + "conv1/kernel"], 1, 0, 0), UNIT + "gn1").relu()
    x = norm(convolved(x, w[UNIT + "conv2/kernel"], 1, 1, 1), UNIT + "gn2").relu()
    x = (straight + norm(convolved(x, w[UNIT + "conv3/kernel"], 1, 0, 0), UNIT + "gn3")).relu()
    return x.reshape(len(x), -1) @ torch.tensor(w["embedding/kernel"]) + torch.tensor(w["embedding/bias"])


def encoder(at: str, w: dict[str, np.ndarray], attention: str) -> torch.nn.Module:
    """torch's own layer with the checkpoint's numbers."""
    layer = torch.nn.TransformerEncoderLayer(
        WIDTH,
        HEADS,
        12,
        0.0,
        lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
        dtype=torch.float64,
    )
    inner = [w[f"{at}{attention}/{name}/kernel"].reshape(WIDTH, WIDTH).T for name in ("query", "key", "value")]
    offsets = [w[f"{at}{attention}/{name}/bias"].flatten() for name in ("query", "key", "value")]
    names = {"norm1": "LayerNorm_0", "norm2": "LayerNorm_2"}
    lines = {"linear1": "MlpBlock_3/Dense_0", "linear2": "MlpBlock_3/Dense_1"}
    state = {"self_attn.in_proj_weight": np.concatenate(inner), "self_attn.in_proj_bias": np.concatenate(offsets)}
    state |= {"self_attn.out_proj.weight": w[f"{at}{attention}/out/kernel"].reshape(WIDTH, WIDTH).T}
    state |= {"self_attn.out_proj.bias": w[f"{at}{attention}/out/bias"]}
    for own, theirs in names.items():
        state |= {f"{own}.weight": w[f"{at}{theirs}/scale"], f"{own}.bias": w[f"{at}{theirs}/bias"]}
    for own, theirs in lines.items():
        state |= {f"{own}.weight": w[f"{at}{theirs}/kernel"].T, f"{own}.bias": w[f"{at}{theirs}/bias"]}
    layer.load_state_dict({name: torch.tensor(np.ascontiguousarray(values)) for name, values in state.items()})
    return layer.eval()


@torch.no_grad()
def wanted(picture: np.ndarray, outputs: int, attention: str) -> float:
    """The score by the paper's words."""
    w = {
        name.removeprefix("opt/target/"): values.astype(np.float64)
        for name, values in arrays(outputs, attention).items()
    }
    shown, tokens = picture / 255 * 2 - 1, [torch.tensor(w["Transformer/cls"][0])]
    height, width = picture.shape[:2]
    for scale, side in enumerate((224, 384, None)):
        one = shown
        if side is not None:
            rows, columns = (round(length * side / max(height, width)) for length in (height, width))
            one = smaller(smaller(shown, rows).transpose(1, 0, 2), columns).transpose(1, 0, 2)
        stack, places = zip(*patches(one), strict=True)
        seen = embedded(torch.tensor(np.stack(stack)), w)
        where = torch.tensor(w["Transformer/posembed_input/pos_embedding"][0][list(places)])
        tokens.append(seen + where + torch.tensor(w["Transformer/scaleembed_input/scale_embedding"][0][scale]))
    x = torch.cat(tokens)[None]
    for layer in range(LAYERS):
        x = encoder(f"Transformer/encoderblock_{layer}/", w, attention)(x)
    scale, bias = (torch.tensor(w[f"Transformer/encoder_norm/{name}"]) for name in ("scale", "bias"))
    first = torch.nn.functional.layer_norm(x[0, 0], (WIDTH,), scale, bias, 1e-6)
    found = first @ torch.tensor(w["head/kernel"]) + torch.tensor(w["head/bias"])
    return float(found[0] if outputs == 1 else (found.softmax(0) * torch.arange(1, outputs + 1)).sum())


@pytest.mark.parametrize(("outputs", "attention"), [(1, "MultiHeadDotProductAttention_1"), (10, "SelfAttention_1")])
def test_a_score_is_what_the_paper_says(tmp_path: Path, outputs: int, attention: str) -> None:
    file = save(tmp_path / "koniq_ckpt.npz", outputs=outputs, attention=attention)
    assert score(weights=str(file)) == pytest.approx(wanted(PICTURE, outputs, attention), abs=2e-4)


def test_a_large_picture_is_made_smaller(tmp_path: Path) -> None:
    large = np.random.default_rng(5).integers(0, 256, (150, 401, 3)).astype(np.uint8)
    file = save(tmp_path / "koniq_ckpt.npz", outputs=1)
    found = score(large, weights=str(file))
    assert found == pytest.approx(wanted(large, 1, "MultiHeadDotProductAttention_1"), abs=2e-4)
    assert found != pytest.approx(score(weights=str(file)), abs=1e-3)


def test_places_are_told_on_a_grid_of_one_size() -> None:
    assert hashed(4, 10).tolist() == [0, 2, 5, 7]
    assert hashed(20, 10).tolist() == [k // 2 for k in range(20)]


def test_names_tell_what_a_number_was_made_with(tmp_path: Path) -> None:
    own, other = (str(save(tmp_path / f"{name}_ckpt.npz", outputs=1)) for name in ("koniq", "mine"))
    assert list(Musiq(MusiqConfig(weights=own)).compute()) == ["musiq"]
    assert list(Musiq(MusiqConfig(weights=other)).compute()) == ["musiq[mine_ckpt]"]
    assert list(Musiq(MusiqConfig(weights=own, variant="ava")).compute()) == ["musiq[koniq_ckpt, ava]"]
    assert Musiq(MusiqConfig(weights=own)).facts()["weights"] == "koniq_ckpt.npz"


def test_offline_it_says_where_the_checkpoint_is_and_where_it_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        Musiq(MusiqConfig(variant="spaq"))
    message = str(caught.value)
    assert message.startswith("musiq: https://storage.googleapis.com/gresearch/musiq/spaq_ckpt.npz is not on this")
    assert str(tmp_path / "hub" / "checkpoints" / "musiq_spaq_ckpt.npz") in message
    assert "metrics.<name>=null" in message


def test_a_checkpoint_is_fetched_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def fetch(address: str, file: str, **options: Any) -> None:
        asked.append(address)
        save(Path(file), outputs=1)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert score() == score()
    assert asked == ["https://storage.googleapis.com/gresearch/musiq/koniq_ckpt.npz"]


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        Musiq(MusiqConfig(weights=str(tmp_path / "nothing.npz")))
    broken = save(tmp_path / "broken.npz", outputs=1)
    broken.write_bytes(broken.read_bytes()[:400])
    with pytest.raises(WeightsError, match="copy or download it again"):
        score(weights=str(broken))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(WeightsError, match=r"has no conv_root/kernel, .*expected a checkpoint of MUSIQ's authors"):
        score(weights=str(tmp_path / "other.npz"))


class TestMusiq(MetricConformance):
    spec = next(spec for spec in sigma_register_metrics() if spec.name == "musiq")

    @pytest.fixture(autouse=True)
    def _given(self, tmp_path: Path) -> None:
        type(self).options = {"weights": str(save(tmp_path / "koniq_ckpt.npz", outputs=1))}
