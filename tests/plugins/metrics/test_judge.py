"""The judge on renders that it never saw, its file, and its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.source import ToyboxSource
from sigma_framework import Example, WeightsError
from sigma_framework.testing import toy_example
from sigma_metrics.judge import WEIGHTS
from sigma_metrics.judge.architecture import VOTE_PIXELS
from sigma_metrics.judge.crops import cut_out, picture_tensor
from sigma_metrics.judge.model import Judge, load_networks
from sigma_metrics.judge.objective import build_objective, pixel_truth
from sigma_metrics.judge.options import JudgeOptions

MOST_PARAMETERS = 1_000_000


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.fixture(scope="module")
def scenes() -> list[Example]:
    """Held out: another split and another seed than the judge's training."""
    source = ToyboxSource(ToyboxConfig(split="test", min_subjects=2, max_subjects=10, count=16))
    return [source[index] for index in range(len(source))]


@pytest.fixture(scope="module")
def crowded() -> list[Example]:
    """Ten subjects each."""
    source = ToyboxSource(ToyboxConfig(split="test", min_subjects=10, max_subjects=10, count=10))
    return [source[index] for index in range(len(source))]


def test_it_is_small() -> None:
    assert sum(value.numel() for value in load_file(WEIGHTS).values()) <= MOST_PARAMETERS
    assert {value.dtype for value in load_file(WEIGHTS).values()} == {torch.bfloat16}


def test_it_finds_subjects_on_held_out_renders(judge: Judge, scenes: list[Example]) -> None:
    overlaps = []
    for example in scenes:
        truth, found = np.any([one.mask for one in example.subjects], axis=0), judge.read(example.target).subject
        overlaps.append((truth & found).sum() / (truth | found).sum())
    assert np.mean(overlaps) >= 0.90


def test_it_tells_near_from_far_on_held_out_renders(judge: Judge, scenes: list[Example]) -> None:
    correlations = []
    for example in scenes:
        truth, found = pixel_truth(example), judge.read(example.target).nearness
        subject = truth.subject.numpy() > 0
        correlations.append(np.corrcoef(truth.nearness.numpy()[subject], found[subject])[0, 1])
    assert np.mean(correlations) >= 0.90


def test_it_tells_ten_identities_of_a_held_out_scene_apart(judge: Judge, crowded: list[Example]) -> None:
    right = []
    for example in crowded:
        found = judge.embed_subjects(example.target, [one.mask for one in example.subjects])
        similarity = found @ judge.embed_identities(example.identities).T
        right += (similarity.argmax(axis=1) == np.arange(len(similarity))).tolist()
    assert np.mean(right) >= 0.95  # 0.97 over many scenes; here 100 subjects


def test_noise_holds_no_subject(judge: Judge) -> None:
    rng = np.random.default_rng(0)
    for grain in (1, 8):
        noise = rng.integers(0, 256, (128 // grain, 128 // grain, 3), dtype=np.uint8)
        assert judge.read(noise.repeat(grain, 0).repeat(grain, 1)).subject.mean() < 0.05


def test_any_size_is_read(judge: Judge, scenes: list[Example]) -> None:
    part = scenes[0].target[:100, :120]
    reading = judge.read(part)
    assert reading.subject.shape == (100, 120)
    assert reading.middles.shape == (2, 100, 120)
    whole = judge.read(scenes[0].target).subject[:80, :100]
    assert (whole == reading.subject[:80, :100]).mean() > 0.95


def test_a_cut_out_is_framed_as_identity_images_are() -> None:
    image = torch.zeros(3, 40, 60)
    mask = torch.zeros(40, 60)
    mask[10:30, 20:30] = 1  # 20 high, 10 wide: the side is 26
    crop = cut_out(image, mask)
    inside = (crop.mean(0) < 0.5).numpy()
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert (rows[-1] - rows[0] + 1) / 64 == pytest.approx(20 / 26, abs=0.04)
    assert (columns[-1] - columns[0] + 1) / 64 == pytest.approx(10 / 26, abs=0.04)
    assert rows[0] + rows[-1] == pytest.approx(63, abs=1)
    assert crop[:, 0, 0].tolist() == [1, 1, 1]
    corner = torch.zeros(40, 60)
    corner[:8, :8] = 1
    assert cut_out(image, corner)[:, 0, 0].tolist() == [1, 1, 1]  # beyond the picture is white too


def test_an_empty_mask_has_no_direction(judge: Judge, scenes: list[Example]) -> None:
    nothing = np.zeros(scenes[0].target.shape[:2], bool)
    first, second = judge.embed_subjects(scenes[0].target, [nothing, scenes[0].subjects[0].mask])
    assert np.abs(first).max() == 0
    assert np.linalg.norm(second) == pytest.approx(1, abs=1e-3)


def test_votes_point_at_the_middle_of_the_visible_subject() -> None:
    example = toy_example(2)
    truth = pixel_truth(example)
    rows, columns = np.nonzero(example.subjects[1].mask)
    row, column = int(rows[0]), int(columns[0])
    reached = truth.votes[:, row, column].numpy() * VOTE_PIXELS + [column, row]
    assert reached == pytest.approx([columns.mean(), rows.mean()], abs=1e-3)


def test_training_lowers_the_loss_and_saves_what_is_read_again(tmp_path: Path) -> None:
    objective = build_objective(None, JudgeOptions(noise_share=0.0, blur_share=0.0), seed=0)
    examples = [toy_example(2, seed=seed) for seed in range(2)]
    optimizer = torch.optim.AdamW(objective.trainable_parameters().values(), lr=3e-3)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = objective.loss(examples, [torch.Generator().manual_seed(k) for k in range(2)])
        assert loss.shape == (2,)
        loss.mean().backward()
        optimizer.step()
        losses.append(float(loss.mean().detach()))
    assert losses[-1] < 0.9 * losses[0]
    objective.save(tmp_path)
    again = load_networks(tmp_path / "judge.safetensors").eval()
    with torch.no_grad():
        picture = picture_tensor(examples[0].target)[None]
        assert torch.allclose(again.scene(picture), objective.networks.eval().scene(picture), atol=0.15)
    assert len(objective.pictures(examples, 0)[0]) == len(objective.picture_titles)


def test_randomness_belongs_to_the_example() -> None:
    objective = build_objective(None, JudgeOptions(), seed=0)
    examples = [toy_example(2, seed=seed) for seed in range(2)]
    with torch.no_grad():
        losses = [
            objective.loss(examples, [torch.Generator().manual_seed(k) for k in seeds])
            for seeds in ((0, 1), (0, 1), (2, 1))
        ]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "judge.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"judge\.safetensors cannot be read"):
        load_networks(path)
    save_file({"scene.other": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="another architecture"):
        load_networks(path)


def test_shares_are_checked() -> None:
    with pytest.raises(ValueError, match="noise_share"):
        JudgeOptions(noise_share=1.5)
