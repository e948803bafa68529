"""The measures of the field against computations of their own, on tiny random weights of the real classes."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from sigma_framework import ControlImages, PluginError, Result, Scene, WeightsError
from sigma_framework.testing import MetricConformance
from sigma_metrics.field.config import (
    ClipIqaConfig,
    DepthMseConfig,
    DinoIConfig,
    MusiqConfig,
    SiglipIConfig,
    SiglipTConfig,
)
from sigma_metrics.field.depth import DepthMse
from sigma_metrics.field.identity import DinoI, SiglipI
from sigma_metrics.field.musiq import Musiq
from sigma_metrics.field.quality import ClipIqa
from sigma_metrics.field.text import SiglipT
from sigma_metrics.plugin import sigma_register_metrics

SPECS = {spec.name: spec for spec in sigma_register_metrics()}
WORDS = ("a", "red", "blue", "ball", "on", "grey", "floor", "good", "bad", "photo", "Good", "Bad", ".")
SIDE = 28
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def save_tokenizer(folder: Path, longest: int) -> None:
    from transformers import PreTrainedTokenizerFast

    names = {word: index for index, word in enumerate(("<pad>", "<unk>", *WORDS, "<end>"))}
    made = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", model_max_length=longest
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints as the hub has them, with random weights."""
    import transformers as t

    root = tmp_path_factory.mktemp("encoders")
    vision = {**TOWER, "image_size": SIDE, "patch_size": 14}
    text = {**TOWER, "vocab_size": 16, "max_position_embeddings": 12}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dino = t.Dinov2Model(t.Dinov2Config(**{k: v for k, v in vision.items() if k != "intermediate_size"}))
        siglip = t.SiglipModel(
            t.SiglipConfig(
                text_config={**text, "projection_size": 16, "bos_token_id": 0, "eos_token_id": 15}, vision_config=vision
            )
        )
        clip = t.CLIPModel(
            t.CLIPConfig(
                text_config={**text, "bos_token_id": 0, "eos_token_id": 15, "pad_token_id": 0},
                vision_config=vision,
                projection_dim=12,
            )
        )
        depth = t.DepthAnythingForDepthEstimation(
            t.DepthAnythingConfig(
                backbone_config=t.Dinov2Config(
                    **{**vision, "num_hidden_layers": 4},
                    out_features=["stage1", "stage2", "stage3", "stage4"],
                    reshape_hidden_states=False,
                ),
                reassemble_hidden_size=16,
                neck_hidden_sizes=[8, 8, 8, 8],
                fusion_hidden_size=8,
                head_hidden_size=4,
            )
        )
    dino.save_pretrained(root / "tiny-dino")
    t.BitImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=list(IMAGENET[0]),
        image_std=list(IMAGENET[1]),
    ).save_pretrained(root / "tiny-dino")
    siglip.save_pretrained(root / "tiny-siglip")
    t.SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(root / "tiny-siglip")
    save_tokenizer(root / "tiny-siglip", 12)
    clip.save_pretrained(root / "tiny-clip")
    t.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(
        root / "tiny-clip"
    )
    save_tokenizer(root / "tiny-clip", 12)
    depth.save_pretrained(root / "tiny-depth")
    t.DPTImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        ensure_multiple_of=14,
        keep_aspect_ratio=False,
        image_mean=list(IMAGENET[0]),
        image_std=list(IMAGENET[1]),
    ).save_pretrained(root / "tiny-depth")
    return {path.name: path for path in root.iterdir()}


RNG = np.random.default_rng(7)
PICTURE = np.clip(np.cumsum(RNG.normal(0, 8, (48, 64, 3)), axis=1) + 120, 0, 255).astype(np.uint8)
IDENTITIES = RNG.integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)
BOXES = ((2, 4, 30, 40), (34, 0, 60, 20), (36, 22, 64, 48))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5,) * 3, (0.5,) * 3)


def result_of(count: int, control: str = "depth") -> Result:
    """``PICTURE`` as if it had been asked for with ``count`` subjects."""
    boxes = BOXES[:count]
    regions = np.zeros((count, 48, 64), bool)
    for region, (x0, y0, x1, y1) in zip(regions, boxes, strict=True):
        region[y0:y1, x0:x1] = True
        region[y0, x0] = False  # the box of a region is not its corner
    spatial = np.zeros((48, 64, 3), np.uint8)
    spatial[..., 2] = np.where(regions.any(axis=0), np.arange(64) * 3 + 30, 0)
    subjects = [
        {"name": f"s{k}", "image": IDENTITIES[k], "caption": "a ball", "control": {"type": control, "xyxy": list(box)}}
        for k, box in enumerate(boxes)
    ]
    scene = Scene.load({"version": 1, "size": [64, 48], "prompt": "a red ball on grey floor", "subjects": subjects})
    controls = ControlImages(
        spatial=spatial, identity=np.concatenate(IDENTITIES[:count]), regions=regions, layout=PICTURE
    )
    return Result(images=(Image.fromarray(PICTURE),), controls=controls, scene=scene, seeds=(0,))


def value_of(metric: Any, result: Result) -> float:
    metric.update(result, result.scene, None)
    ((only,),) = metric.compute().values()
    return float(only)


def pixels(picture: np.ndarray, size: tuple[int, int], crop: int | None, norm: tuple[Any, Any]) -> torch.Tensor:
    """Resized to width and height, cropped in the middle, normalised: by Pillow and NumPy alone."""
    image = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    if crop is not None:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    values = (np.asarray(image, np.float64) / 255 - norm[0]) / norm[1]
    return torch.from_numpy(values.transpose(2, 0, 1)[None]).float()


def shorter(picture: np.ndarray, side: int) -> tuple[int, int]:
    height, width = picture.shape[:2]
    return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(100 * torch.nn.functional.cosine_similarity(a, b).item())


def crops(count: int) -> Sequence[np.ndarray]:
    return [PICTURE] if count == 1 else [PICTURE[y0:y1, x0:x1] for x0, y0, x1, y1 in BOXES[:count]]


@pytest.mark.parametrize("count", [1, 3])
@torch.no_grad()
def test_dino_i_is_the_mean_cosine_of_class_tokens(folders: dict[str, Path], count: int) -> None:
    from transformers import Dinov2Model

    model = Dinov2Model.from_pretrained(folders["tiny-dino"]).eval()

    def embed(picture: np.ndarray) -> torch.Tensor:
        return model(pixels(picture, shorter(picture, 32), SIDE, IMAGENET)).pooler_output

    wanted = np.mean([cosine(embed(crop), embed(own)) for crop, own in zip(crops(count), IDENTITIES, strict=False)])
    metric = DinoI(DinoIConfig(weights=str(folders["tiny-dino"])))
    assert value_of(metric, result_of(count)) == pytest.approx(wanted, abs=1e-3)
    assert list(metric.compute()) == ["dino_i[tiny-dino]"]
    facts = metric.facts()
    assert facts["preprocessing"].startswith("BitImageProcessorPil, transformers ")
    assert facts["preprocessing"].endswith(f"Pillow {PIL.__version__}")
    assert facts["pooling"] == "cls"


@torch.no_grad()
def test_siglip_i_and_t_are_cosines_of_its_embeddings(folders: dict[str, Path]) -> None:
    from transformers import SiglipModel

    model = SiglipModel.from_pretrained(folders["tiny-siglip"]).eval()
    names = {word: index for index, word in enumerate(("<pad>", "<unk>", *WORDS, "<end>"))}
    ids = [names[word] for word in ("a", "red", "ball", "on", "grey", "floor")]
    text = torch.tensor([ids + [0] * (12 - len(ids))])

    def embed(picture: np.ndarray) -> Any:
        return model(input_ids=text, pixel_values=pixels(picture, (SIDE, SIDE), None, HALF))

    wanted = np.mean(
        [cosine(embed(c).image_embeds, embed(i).image_embeds) for c, i in zip(crops(2), IDENTITIES, strict=False)]
    )
    weights = str(folders["tiny-siglip"])
    assert value_of(SiglipI(SiglipIConfig(weights=weights)), result_of(2)) == pytest.approx(wanted, abs=1e-3)
    whole = embed(PICTURE)
    wanted = cosine(whole.image_embeds, whole.text_embeds)
    assert value_of(SiglipT(SiglipTConfig(weights=weights)), result_of(2)) == pytest.approx(wanted, abs=1e-3)


@torch.no_grad()
def test_depth_mse_compares_what_is_estimated_with_what_was_asked(folders: dict[str, Path]) -> None:
    from transformers import DepthAnythingForDepthEstimation

    model = DepthAnythingForDepthEstimation.from_pretrained(folders["tiny-depth"]).eval()
    result = result_of(2)
    depth = model(pixels(PICTURE, (SIDE, SIDE), None, IMAGENET)).predicted_depth[None]
    near = torch.nn.functional.interpolate(depth, (48, 64), mode="bicubic").numpy()[0, 0].astype(np.float64)
    subjects = result.controls.regions.any(axis=0)
    asked, found = result.controls.spatial[..., 2][subjects].astype(np.float64), near[subjects]
    stretched = [26 + 229 * (one - one.min()) / (one.max() - one.min()) for one in (asked, found)]
    wanted = np.mean((stretched[0] - stretched[1]) ** 2)
    options = {"weights": str(folders["tiny-depth"])}
    metric = DepthMse(DepthMseConfig(**options))
    assert value_of(metric, result) == pytest.approx(wanted, rel=1e-3)
    assert list(metric.compute()) == ["depth_mse[depth_anything_v2_small, tiny-depth]"]  # not the named one's weights
    inverse = DepthMse(DepthMseConfig(estimator="mine", gives="metric", **options))
    assert value_of(inverse, result) != pytest.approx(wanted, rel=0.05)
    assert math.isnan(value_of(DepthMse(DepthMseConfig(**options)), result_of(2, control="box2d")))


@torch.no_grad()
def test_clip_iqa_is_the_odds_of_a_good_photo(folders: dict[str, Path]) -> None:
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folders["tiny-clip"]).eval()
    names = {word: index for index, word in enumerate(("<pad>", "<unk>", *WORDS, "<end>"))}
    text = torch.tensor([[names[first], names["photo"], names["."]] for first in ("Good", "Bad")])
    seen = model(input_ids=text, pixel_values=pixels(PICTURE, shorter(PICTURE, SIDE), SIDE, CLIP))
    wanted = 100 * float(seen.logits_per_image.softmax(dim=-1)[0, 0])
    metric = ClipIqa(ClipIqaConfig(weights=str(folders["tiny-clip"])))
    assert value_of(metric, result_of(1)) == pytest.approx(wanted, abs=1e-3)
    assert 0.1 < wanted < 99.9
    assert list(metric.compute()) == ["clip_iqa[tiny-clip]"]  # the plain name is the authors' ResNet


def test_the_usual_weights_have_the_plain_name(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "dinov2-base").symlink_to(folders["tiny-dino"])
    copy = str(tmp_path / "dinov2-base")
    assert list(DinoI(DinoIConfig(weights=copy)).compute()) == ["dino_i"]
    assert list(DinoI(DinoIConfig(weights=copy, pooling="mean")).compute()) == ["dino_i[mean of patches]"]
    assert list(DinoI(DinoIConfig(weights=copy, label="mine")).compute()) == ["dino_i[mine]"]


REAL = {
    "dino_i": "facebook/dinov2-base",
    "siglip_i": "google/siglip-so400m-patch14-384",
    "siglip_t": "google/siglip-so400m-patch14-384",
    "depth_mse": "depth-anything/Depth-Anything-V2-Small-hf",
    "clip_iqa": "openai/clip-vit-base-patch16",
}


@pytest.mark.parametrize("name", REAL)
def test_offline_a_hub_id_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        SPECS[name].load_factory()(SPECS[name].config())
    message = str(caught.value)
    assert message.startswith(f"{name}: {REAL[name]} is not on this machine")
    assert "metrics.<name>=null" in message


def test_folders_that_are_no_model_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no config\.json"):
        DinoI(DinoIConfig(weights=str(tmp_path)))
    with pytest.raises(WeightsError, match="not a folder here"):
        DinoI(DinoIConfig(weights="./nowhere"))
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folders["tiny-dino"].iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[: 200 if file.suffix == ".safetensors" else None])
    with pytest.raises(WeightsError, match="copy or download it again"):
        value_of(DinoI(DinoIConfig(weights=str(broken))), result_of(1))
    with pytest.raises(ValueError, match="weights and gives"):
        DepthMseConfig(estimator="moge")


def test_without_pyiqa_its_measures_tell_of_its_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    for make in (
        lambda: Musiq(MusiqConfig(implementation="pyiqa")),
        lambda: ClipIqa(ClipIqaConfig(implementation="pyiqa")),
    ):
        with pytest.raises(PluginError) as caught:
            make()
        assert "Noncommercial" in str(caught.value)
        assert "pip install 'sigma-framework[iqa-noncommercial]'" in str(caught.value)


def test_pyiqa_is_given_the_whole_image_in_0_to_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with pyiqa's own signature: the real one may not be required here."""
    weights = torch.linspace(-1, 1, 3 * 48 * 64).reshape(1, 3, 48, 64)
    asked: list[tuple[str, dict[str, Any]]] = []

    def create_metric(name: str, **options: Any) -> Any:
        asked.append((name, options))
        return lambda x: (x * weights).sum()

    monkeypatch.setitem(sys.modules, "pyiqa", types.SimpleNamespace(create_metric=create_metric))
    wanted = float((PICTURE.transpose(2, 0, 1)[None] / 255 * weights.numpy()).sum())
    metric = Musiq(MusiqConfig(implementation="pyiqa", variant="spaq", weights="mine.pth", device="cpu"))
    assert value_of(metric, result_of(1)) == pytest.approx(wanted, rel=1e-4)
    assert list(metric.compute()) == ["musiq[pyiqa, spaq]"]
    assert asked[0][0] == "musiq-spaq"
    assert asked[0][1]["pretrained_model_path"] == "mine.pth"
    official = ClipIqa(ClipIqaConfig(implementation="pyiqa", device="cpu"))
    assert value_of(official, result_of(1)) == pytest.approx(100 * wanted, rel=1e-4)
    assert list(official.compute()) == ["clip_iqa"]


class _Tiny(MetricConformance):
    weights: str

    @pytest.fixture(autouse=True)
    def _given(self, folders: dict[str, Path]) -> None:
        type(self).options = {"weights": str(folders[self.weights])}


class TestDinoI(_Tiny):
    spec = SPECS["dino_i"]
    weights = "tiny-dino"


class TestSiglipI(_Tiny):
    spec = SPECS["siglip_i"]
    weights = "tiny-siglip"


class TestSiglipT(_Tiny):
    spec = SPECS["siglip_t"]
    weights = "tiny-siglip"


class TestDepthMse(_Tiny):
    spec = SPECS["depth_mse"]
    weights = "tiny-depth"


class TestClipIqa(_Tiny):
    spec = SPECS["clip_iqa"]
    weights = "tiny-clip"
