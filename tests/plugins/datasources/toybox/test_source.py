"""The source as a whole: an example depends on the config and its index alone."""

from __future__ import annotations

import dataclasses
import pickle
import time

import numpy as np
import pytest

from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.source import ToyboxSource
from sigma_framework import Example

SMALL = ToyboxConfig(seed=1, count=6, image_size=64, identity_size=32, max_subjects=4)


def assert_same(a: Example, b: Example) -> None:
    assert (a.prompt_full, a.prompt_background, a.key) == (b.prompt_full, b.prompt_background, b.key)
    np.testing.assert_array_equal(a.target, b.target)
    assert len(a.identities) == len(b.identities)
    for left, right in zip(a.identities, b.identities, strict=True):
        np.testing.assert_array_equal(left, right)
    for left, right in zip(a.subjects, b.subjects, strict=True):
        np.testing.assert_array_equal(left.mask, right.mask)
        np.testing.assert_array_equal(left.depth, right.depth)
        assert (left.camera, left.box2d, left.box3d, left.caption) == (
            right.camera,
            right.box2d,
            right.box3d,
            right.caption,
        )


def test_examples_do_not_depend_on_order_pickling_or_count():
    source = ToyboxSource(SMALL)
    examples = list(source)
    assert len(examples) == len(source) == 6
    assert_same(source[4], examples[4])
    assert_same(pickle.loads(pickle.dumps(source))[2], examples[2])
    longer = ToyboxSource(dataclasses.replace(SMALL, count=5000))
    assert_same(longer[5], examples[5])
    np.testing.assert_array_equal(longer.subject_counts[:6], source.subject_counts)


def test_seed_split_and_index_each_give_another_example():
    base = ToyboxSource(SMALL)
    others = [
        base[1],
        ToyboxSource(dataclasses.replace(SMALL, seed=2))[0],
        ToyboxSource(dataclasses.replace(SMALL, split="test"))[0],
    ]
    for other in others:
        assert (base[0].target != other.target).mean() > 0.3
        assert other.key != base[0].key


def test_counts_and_sizes_agree_with_the_examples():
    source = ToyboxSource(dataclasses.replace(SMALL, image_size=(96, 64), min_subjects=2, max_subjects=5, count=12))
    for index, example in enumerate(source):
        assert len(example.subjects) == len(example.identities) == source.subject_counts[index]
        assert example.target.shape[:2] == tuple(source.sizes[index])
    assert set(source.subject_counts.tolist()) == {2, 3, 4, 5}
    assert source.sizes.shape == (12, 2)


def test_two_hundred_thousand_examples_are_counted_at_once():
    start = time.process_time()
    source = ToyboxSource(dataclasses.replace(SMALL, count=200_000))
    assert len(source.subject_counts) == len(source.sizes) == 200_000
    assert time.process_time() - start < 0.5


def test_indices_count_from_both_ends_and_stop():
    source = ToyboxSource(SMALL)
    assert source[-1].key == source[5].key
    assert source[np.int64(3)].key == source[3].key
    for index in (6, -7):
        with pytest.raises(IndexError, match="6 examples"):
            source[index]
    assert list(ToyboxSource(dataclasses.replace(SMALL, count=0))) == []


def test_prompts_begin_with_the_place_and_name_every_subject():
    for example in ToyboxSource(dataclasses.replace(SMALL, count=12)):
        assert example.prompt_full.startswith(example.prompt_background)
        for subject in example.subjects:
            assert subject.caption in example.prompt_full
            assert subject.caption not in example.prompt_background


def test_identity_images_stand_alone_centred_on_white():
    source = ToyboxSource(dataclasses.replace(SMALL, count=10, identity_size=64))
    for example in source:
        for image in example.identities:
            assert image.shape == (64, 64, 3)
            assert image.dtype == np.uint8
            border = np.concatenate([image[:5].reshape(-1, 3), image[-5:].reshape(-1, 3)])
            sides = np.concatenate([image[:, :5].reshape(-1, 3), image[:, -5:].reshape(-1, 3)])
            assert (border == 255).all()
            assert (sides == 255).all()
            rows, columns = np.nonzero((image < 250).any(axis=2))
            longer = max(np.ptp(rows), np.ptp(columns)) + 1
            assert 0.69 * 64 < longer <= 0.8 * 64  # 1 / 1.3 is 0.77
            assert abs(rows.min() + rows.max() - 63) <= 5
            assert abs(columns.min() + columns.max() - 63) <= 5


def test_identity_images_carry_the_colours_of_their_subject():
    """Each subject's mean colour in the picture lies nearer to its own identity image than to most others."""
    hits = total = 0
    for example in ToyboxSource(ToyboxConfig(count=12, min_subjects=4, max_subjects=4)):
        identities = [image[(image < 250).any(axis=2)].mean(axis=0) for image in example.identities]
        for k, subject in enumerate(example.subjects):
            mean = example.target[subject.mask].mean(axis=0)
            hits += int(np.argmin([np.linalg.norm(mean - other) for other in identities])) == k
            total += 1
    assert hits / total > 0.7


def test_subjects_come_in_no_order_of_depth():
    orders = [
        np.argsort([subject.box3d.center[2] for subject in example.subjects]).tolist()
        for example in ToyboxSource(dataclasses.replace(SMALL, count=20, min_subjects=3, max_subjects=3))
    ]
    assert len({tuple(order) for order in orders}) >= 4


def test_outlines_of_identity_images_are_smooth():
    """Pixels beside pure white are, on the whole, lighter than their subject: mixed from both."""
    lighter = []
    for example in ToyboxSource(dataclasses.replace(SMALL, count=6)):
        for image in example.identities:
            grey = image.astype(float).mean(axis=2)
            white = (image == 255).all(axis=2)
            near = np.zeros_like(white)
            near[1:-1, 1:-1] = white[:-2, 1:-1] | white[2:, 1:-1] | white[1:-1, :-2] | white[1:-1, 2:]
            lighter.append(grey[near & ~white].mean() - grey[~near & ~white].mean())
    assert np.mean(lighter) > 25
