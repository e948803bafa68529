"""The Python interface with the shipped model: scenes in, images and files out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sigma_framework import Framework, Scene, SceneError, Subject
from sigma_framework.errors import RecipeError, RunError

ROOT = Path(__file__).parents[1]
SCENES = ROOT / "examples" / "scenes"
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "dreambooth"


@pytest.fixture(scope="module")
def generating() -> Framework:
    return Framework.load(ROOT / "recipes" / "generate.yaml", ["sampler.steps=4"])


@pytest.fixture(scope="module")
def inserting() -> Framework:
    return Framework.load(ROOT / "recipes" / "insert.yaml", ["sampler.steps=4"])


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.int64)


def boxed(*boxes: list[int]) -> list[Subject]:
    """The three subjects of boxes.yaml at other places."""
    return [
        Subject(name=f"s{i}", image=SCENES / f"boxes_{i + 1}.png", caption="", control={"type": "box2d", "xyxy": box})
        for i, box in enumerate(boxes)
    ]


def test_generate_gives_images_controls_and_seeds(generating: Framework) -> None:
    result = generating.generate(SCENES / "mixed.yaml", seed=5, images=2)
    assert [image.size for image in result.images] == [(128, 128)] * 2
    assert result.seeds == (5, 6)
    assert result.controls.spatial.shape == (128, 128, 3)
    assert result.controls.identity.shape == (4 * 64, 64, 3)
    assert len(result.scene.subjects) == 4
    assert result.paths == ()
    assert (pixels(result.images[0]) != pixels(result.images[1])).any()


def test_a_scene_takes_the_size_of_the_weights_and_is_warned_of_others(generating: Framework) -> None:
    own = generating.generate(prompt="a floor", subjects=boxed([4, 60, 48, 116]))
    assert own.images[0].size == (128, 128) and own.warnings == ()
    assert own.scene.size == (128, 128), "whoever reads it later needs no backbone to know"
    other = generating.generate(prompt="a floor", subjects=boxed([4, 60, 48, 116]), size=(128, 208))
    assert other.warnings == (
        "size: these weights are made for 96 to 192 pixels, found 128 x 208; write size: [128, 128] and draw the "
        "layout for it",
    )


def test_a_base_without_adapter_is_warned_of() -> None:
    for override in ("adapters.main=null", "adapters.main.weight=0"):
        framework = Framework.load(ROOT / "recipes" / "generate.yaml", ["sampler.steps=1", override])
        (warning,) = framework.generate(SCENES / "boxes.yaml").warnings
        assert warning.startswith("adapters: none is at work")


def test_a_photograph_that_is_not_used_is_told(generating: Framework, inserting: Framework) -> None:
    photograph = Image.open(SCENES / "insert_background.png").convert("RGB")
    scene = {"prompt": "a floor", "subjects": boxed([4, 60, 48, 116]), "background": photograph}
    assert "the photograph is not used" in " ".join(generating.generate(**scene).warnings)
    assert generating.insert(**scene).warnings == inserting.generate(**scene).warnings == ()


def test_a_recipe_for_generating_inserts_as_the_one_for_inserting(generating: Framework, inserting: Framework) -> None:
    first, second = (one.insert(SCENES / "insert.yaml", seed=3).images[0] for one in (generating, inserting))
    assert (pixels(first) == pixels(second)).all()
    guided = Framework.load(ROOT / "recipes" / "insert.yaml", ["sampler.steps=4", "sampler.adapter_guidance.scale=2"])
    assert (pixels(guided.insert(SCENES / "insert.yaml", seed=3).images[0]) != pixels(first)).any()


def test_weights_that_read_guidance_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    framework = Framework.load(ROOT / "recipes" / "generate.yaml")
    monkeypatch.setattr(type(framework.backbone), "guidance_embedded", property(lambda _: True))
    with pytest.raises(RecipeError, match=r"sampler\.guidance: found null.*write sampler\.guidance=NUMBER"):
        framework.generate(SCENES / "boxes.yaml")


def test_a_result_prints_without_its_pixels(generating: Framework) -> None:
    assert "array(" not in repr(generating.generate(prompt="a floor", subjects=boxed([4, 60, 48, 116])))


def test_an_image_does_not_depend_on_its_batch(generating: Framework) -> None:
    together = generating.generate(SCENES / "boxes.yaml", seed=5, images=3)
    alone = generating.generate(SCENES / "boxes.yaml", seed=7)
    assert np.abs(pixels(together.images[2]) - pixels(alone.images[0])).max() <= 1


def test_a_scene_by_its_parts_equals_the_scene(generating: Framework) -> None:
    subjects = boxed([10, 20, 60, 90])
    prompt = "a white floor"
    by_parts = generating.generate(prompt=prompt, subjects=subjects, size=(128, 128), seed=1)
    whole = generating.generate(Scene(subjects=tuple(subjects), prompt=prompt, size=(128, 128)), seed=1)
    assert (pixels(by_parts.images[0]) == pixels(whole.images[0])).all()


def test_a_scene_and_parts_together_are_refused(generating: Framework) -> None:
    with pytest.raises(SceneError, match="found a scene and also prompt"):
        generating.generate(SCENES / "boxes.yaml", prompt="and more")


def test_a_callback_sees_the_framework_and_may_replace_latents(generating: Framework) -> None:
    seen: list[tuple[Any, int, float]] = []

    def watch(framework: Framework, step: int, t: float, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append((framework, step, t))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 3 else {}

    replaced = generating.generate(SCENES / "boxes.yaml", seed=5, callback_on_step_end=watch)
    assert [step for _, step, _ in seen] == [0, 1, 2, 3]
    assert all(framework is generating for framework, _, _ in seen)
    assert seen[-1][2] == 0
    plain = generating.generate(SCENES / "boxes.yaml", seed=5)
    assert (pixels(plain.images[0]) != pixels(replaced.images[0])).any()


def test_swapping_two_identities_changes_their_regions_most(generating: Framework) -> None:
    scene = Scene.load(SCENES / "boxes.yaml")
    first, second, third = scene.subjects
    swapped = Scene.load(
        {
            **{key: getattr(scene, key) for key in ("prompt", "size")},
            "version": 1,
            "subjects": [
                {"name": "a", "image": SCENES / str(second.image), "control": dict(first.control)},
                {"name": "b", "image": SCENES / str(first.image), "control": dict(second.control)},
                {"name": "c", "image": SCENES / str(third.image), "control": dict(third.control)},
            ],
        }
    )
    before, after = (generating.generate(one, seed=2) for one in (scene, swapped))
    change = np.abs(pixels(before.images[0]) - pixels(after.images[0])).mean(axis=-1)
    inside = before.controls.regions[:2].any(axis=0)
    assert change[inside].mean() > 1.3 * change[~before.controls.regions.any(axis=0)].mean() > 0


def test_insertion_keeps_the_photograph_outside_its_region(inserting: Framework) -> None:
    result = inserting.insert(SCENES / "insert.yaml", seed=3)
    photograph = np.asarray(Image.open(SCENES / "insert_background.png").convert("RGB"))
    assert result.region is not None
    outside = result.region == 0
    assert (np.asarray(result.images[0])[outside] == photograph[outside]).all()
    assert (pixels(result.images[0]) != photograph)[result.region == 1].any(axis=-1).mean() > 0.9
    assert 0.2 < outside.mean() < 0.95
    assert bool(result.region[result.controls.regions.any(axis=0)].all())


def test_insertion_latents_follow_the_photograph_at_every_step(inserting: Framework) -> None:
    backbone = inserting.backbone
    photograph = np.asarray(Image.open(SCENES / "insert_background.png").convert("RGB"))
    tensor = torch.from_numpy(photograph.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    clean = backbone.encode_image(tensor, "target").values
    noise = backbone.noise((128, 128), [torch.Generator().manual_seed(3)]).values
    seen = []

    def watch(framework: Framework, step: int, t: float, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        expected = (1 - t) * clean + t * noise
        same = (tensors["latents"] - expected).abs() < 1e-5
        seen.append((t, same))
        return {}

    result = inserting.insert(SCENES / "insert.yaml", seed=3, callback_on_step_end=watch)
    region = torch.from_numpy((np.asarray(result.region) > 0).astype(np.float32))
    outside = backbone.region_tokens(region).expand_as(clean) == 0
    assert len(seen) == 4
    assert all(bool(same[outside].all()) for _, same in seen)
    assert all(not bool(same[~outside].all()) for _, same in seen)


def test_a_generating_recipe_can_insert_too(generating: Framework) -> None:
    photograph = Image.open(SCENES / "insert_background.png").convert("RGB")
    result = generating.insert(prompt="a floor", subjects=boxed([4, 60, 48, 116]), background=photograph, seed=1)
    assert result.region is not None
    assert result.images[0].size == photograph.size


def test_a_recipes_scene_goes_into_another_photograph() -> None:
    framework = Framework.load(ROOT / "recipes" / "insert.yaml", ["sampler.steps=1", f"scene={SCENES / 'insert.yaml'}"])
    photograph = np.full((128, 128, 3), 200, np.uint8)
    result = framework.insert(background=photograph, seed=1)
    assert result.region is not None
    assert (np.asarray(result.images[0])[result.region == 0] == 200).all()


def test_a_misspelt_part_is_a_message(generating: Framework) -> None:
    with pytest.raises(SceneError, match=r"subjects\[0\].nam: unknown key"):
        generating.generate(prompt="a", subjects=[{"nam": "x", "image": "y.png", "control": {"type": "box2d"}}])


def test_fresh_never_costs_the_scene_it_makes(in_folder: Path) -> None:
    Framework.load(ROOT / "recipes/generate.yaml", [f"scene={SCENES / 'boxes.yaml'}", "sampler.steps=1"]).run()
    again = Framework.load(ROOT / "recipes/generate.yaml", ["scene=runs/generate/0000.png"])
    with pytest.raises(RunError, match="which --fresh would set aside"):
        again.run(fresh=True)
    assert (in_folder / "runs" / "generate" / "0000.png").exists()


def test_insertion_without_a_photograph_says_so(inserting: Framework) -> None:
    with pytest.raises(SceneError, match="needs a photograph"):
        inserting.insert(SCENES / "boxes.yaml")


def test_a_run_writes_everything_and_its_image_is_a_scene_again(in_folder: Path) -> None:
    framework = Framework.load(
        ROOT / "recipes/generate.yaml", [f"scene={SCENES / 'mixed.yaml'}", "run.seed=4", "sampler.steps=3"]
    )
    lines = framework.run()
    assert "wrote runs/generate/0000.png" in lines
    folder = in_folder / "runs" / "generate"
    names = {path.name for path in folder.iterdir()}
    parts = {f"0000.{part}.png" for part in ("layout", "spatial", "identity")}
    assert names == {"0000.png", "inputs", "resolved.yaml", "versions.json", *parts}
    text = Image.open(folder / "0000.png").text
    assert text["sigma.seed"] == "4"
    assert str(ROOT) not in "".join(text.values())
    again = Framework.load(ROOT / "recipes/generate.yaml", ["scene=runs/generate/0000.png"])
    assert again.recipe.require_sampler().steps == 3
    assert "wrote runs/generate/0001.png" in again.run()
    assert (pixels(Image.open(folder / "0000.png")) == pixels(Image.open(folder / "0001.png"))).all()
    other = Framework.load(ROOT / "recipes/generate.yaml", ["scene=runs/generate/0000.png", "run.seed=5"])
    other.run()
    assert (pixels(Image.open(folder / "0000.png")) != pixels(Image.open(folder / "0002.png"))).any()


def test_a_bad_scene_leaves_nothing_behind(in_folder: Path) -> None:
    (in_folder / "bad.yaml").write_text(
        "version: 1\nsize: [128, 128]\n"
        "subjects:\n- {name: a, image: absent.png, control: {type: box2d, xyxy: [0, 0, 9, 9]}}\n"
    )
    framework = Framework.load(ROOT / "recipes/generate.yaml", ["scene=bad.yaml"])
    with pytest.raises(SceneError, match=r"subjects\[0\].image"):
        framework.run()
    assert [path.name for path in in_folder.iterdir()] == ["bad.yaml"]


def test_training_another_recipe_in_a_used_folder_is_refused(in_folder: Path) -> None:
    small = [
        "stages.s1.steps=1",
        "stages.s2.steps=1",
        "stages.s3.steps=1",
        "train.batch_size=1",
        "train.validation_scenes=1",
    ]
    small += ["train.grid_scenes=1", "train.grid_steps=1", "run.dir=run"]
    first = Framework.load(ROOT / "recipes/curriculum.yaml", small)
    first.run()
    assert any(
        "finished after 3 steps" in line
        for line in NoteKeeper.notes_of(Framework.load(ROOT / "recipes/curriculum.yaml", small))
    )
    changed = Framework.load(ROOT / "recipes/curriculum.yaml", [*small, "train.lora.rank=4", "train.threads=1"])
    with pytest.raises(RunError, match=r"differs in train\.lora\.rank;.*accept with --allow train\.lora\.rank,"):
        changed.run()
    changed.run(fresh=True)
    assert (in_folder / "run.1" / "adapter").is_dir()
    trained = Framework.load(ROOT / "recipes/generate.yaml", ["adapters.main.path=run/adapter", "sampler.steps=2"])
    assert trained.generate(SCENES / "boxes.yaml").images


class NoteKeeper:
    """Collects what a run notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @classmethod
    def notes_of(cls, framework: Framework) -> list[str]:
        keeper = cls()
        framework.progress = keeper
        return [*framework.run(), *keeper.notes]

    def begin(self, what: str, total: int, done: int = 0) -> None: ...
    def advance(self, steps: int = 1, facts: str = "") -> None: ...
    def finish(self) -> None: ...
    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the DreamBooth photographs are not here")
def test_photographs_as_identities_and_background(generating: Framework) -> None:
    names = ["backpack", "cat", "rc_car"]
    photographs = [PHOTOGRAPHS / name / "00.jpg" for name in names]
    boxes = [[4, 40, 44, 100], [46, 50, 86, 110], [88, 40, 124, 100]]

    def scene(order: tuple[int, ...]) -> list[Subject]:
        return [
            Subject(name=f"s{i}", image=photographs[k], caption=names[k], control={"type": "box2d", "xyxy": boxes[i]})
            for i, k in enumerate(order)
        ]

    before, after = (
        generating.generate(prompt="a white floor", subjects=scene(order), size=(128, 128), seed=1)
        for order in ((0, 1, 2), (1, 0, 2))
    )
    assert (pixels(before.images[0]) != pixels(after.images[0])).any()
    background = PHOTOGRAPHS / "vase" / "00.jpg"
    result = generating.insert(
        prompt="a room", subjects=scene((0, 1, 2))[:2], size=(128, 128), background=background, seed=1
    )
    assert result.region is not None
    assert 0.2 < (result.region == 0).mean() < 1
