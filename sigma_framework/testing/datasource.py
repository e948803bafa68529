"""What every data source is held to."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from sigma_framework.protocols import DataSource
from sigma_framework.specs import DataSourceSpec
from sigma_framework.testing.component import ComponentConformance, same, untouched_global_randomness
from sigma_framework.types import Example, SubjectAnnotation


class DataSourceConformance(ComponentConformance):
    """Inherit, set ``spec`` and ``options`` that name a small source; the tests read ``indices`` of it."""

    spec: ClassVar[DataSourceSpec]
    protocol = DataSource
    indices: ClassVar[Sequence[int]] = (0, 1, 2, 3)
    """Which examples are read; those past the end are left out."""
    local: ClassVar[bool] = True
    """Whether reading must work without opening a connection."""

    @pytest.fixture(autouse=True)
    def _no_connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if self.local:

            def refuse(*_: Any, **__: Any) -> None:
                raise AssertionError("a data source that says it is local opened a connection")

            monkeypatch.setattr(socket.socket, "connect", refuse)

    def chosen(self, source: DataSource) -> list[int]:
        """``indices`` that exist."""
        found = [index for index in self.indices if index < len(source)]
        assert found, f"the source has {len(source)} examples, none of them in indices {tuple(self.indices)}"
        return found

    def test_counts_and_sizes_cover_every_example(self) -> None:
        source = self.make()
        assert len(source) > 0, "the source is empty"
        counts, sizes = source.subject_counts, source.sizes
        assert counts.shape == (len(source),), f"subject_counts: found {counts.shape}, expected ({len(source)},)"
        assert sizes.shape == (len(source), 2), f"sizes: found {sizes.shape}, expected ({len(source)}, 2)"
        assert counts.dtype.kind == "i", f"subject_counts: found {counts.dtype}, expected whole numbers"
        assert sizes.dtype.kind == "i", f"sizes: found {sizes.dtype}, expected whole numbers"
        assert counts.min() >= self.spec.min_subjects, f"fewer subjects than the spec's {self.spec.min_subjects}"
        assert counts.max() <= self.spec.max_subjects, f"more subjects than the spec's {self.spec.max_subjects}"
        assert (sizes > 0).all(), "sizes must be positive"

    def test_examples_are_what_counts_and_sizes_say(self) -> None:
        source = self.make()
        for index in self.chosen(source):
            example = source[index]
            assert len(example.subjects) == source.subject_counts[index], f"example {index}: subject_counts is wrong"
            assert example.target.shape[:2] == tuple(source.sizes[index]), f"example {index}: sizes is wrong"

    def test_examples_are_whole(self) -> None:
        source = self.make()
        for index in self.chosen(source):
            check_example(source[index])

    def test_keys_are_unique(self) -> None:
        source = self.make()
        keys = [source[index].key for index in self.chosen(source)]
        assert len(set(keys)) == len(keys), f"keys repeat: {keys}"

    def test_an_example_depends_on_its_index_alone(self) -> None:
        first, second = self.make(), self.make()
        indices = self.chosen(first)
        with untouched_global_randomness():
            forwards = [first[index] for index in indices]
            backwards = [second[index] for index in reversed(indices)][::-1]
        for index, one, other in zip(indices, forwards, backwards, strict=True):
            assert same(one, other), f"example {index} differs when it is read in another order or again"

    def test_past_the_end_is_an_index_error(self) -> None:
        source = self.make()
        with pytest.raises(IndexError):
            source[len(source)]

    def test_source_can_be_sent_to_workers(self) -> None:
        source = self.make()
        index = self.chosen(source)[0]
        source[index]
        copy = pickle.loads(pickle.dumps(source))
        assert same(source[index], copy[index]), "the copy in a worker gives another example"


def check_example(example: Example) -> None:
    """One example: pictures, prompts and annotations agree."""
    assert isinstance(example, Example), f"found {type(example).__name__}, expected Example"
    _check_picture(example.target, f"{example.key}: target")
    assert len(example.identities) == len(example.subjects), f"{example.key}: one identity per subject"
    for identity in example.identities:
        _check_picture(identity, f"{example.key}: identity")
    assert example.prompt_full.strip(), f"{example.key}: prompt_full is empty"
    assert example.prompt_background.strip(), f"{example.key}: prompt_background is empty"
    assert example.key, "key is empty"
    taken = np.zeros(example.target.shape[:2], np.int64)
    for number, subject in enumerate(example.subjects):
        _check_subject(subject, example.target.shape[:2], f"{example.key}: subject {number}")
        taken += subject.mask
    assert taken.max() <= 1, f"{example.key}: masks hold visible pixels, so no pixel may belong to two subjects"


def _check_picture(picture: Any, what: str) -> None:
    assert isinstance(picture, np.ndarray), f"{what}: found {type(picture).__name__}, expected an array"
    assert picture.dtype == np.uint8, f"{what}: found {picture.dtype}, expected uint8"
    assert picture.ndim == 3, f"{what}: found shape {picture.shape}, expected (H, W, 3)"
    assert picture.shape[2] == 3, f"{what}: found shape {picture.shape}, expected (H, W, 3)"


def _check_subject(subject: SubjectAnnotation, size_hw: tuple[int, ...], what: str) -> None:
    height, width = size_hw
    assert subject.mask.shape == size_hw, f"{what}: mask has shape {subject.mask.shape}, expected {size_hw}"
    assert subject.mask.dtype == np.bool_, f"{what}: mask is {subject.mask.dtype}, expected bool"
    assert subject.mask.any(), f"{what}: mask is empty"
    assert subject.caption.strip(), f"{what}: caption is empty"
    x0, y0, x1, y1 = subject.box2d
    assert x0 < x1, f"{what}: box2d {subject.box2d} has no width"
    assert y0 < y1, f"{what}: box2d {subject.box2d} has no height"
    rows, columns = np.nonzero(subject.mask)
    inside = (columns + 0.5 >= x0) & (columns + 0.5 <= x1) & (rows + 0.5 >= y0) & (rows + 0.5 <= y1)
    assert inside.mean() > 0.95, f"{what}: box2d {subject.box2d} does not hold the mask of the {width} x {height} image"
    if subject.depth is not None:
        assert subject.depth.shape == size_hw, f"{what}: depth has shape {subject.depth.shape}, expected {size_hw}"
        assert subject.depth.dtype == np.float32, f"{what}: depth is {subject.depth.dtype}, expected float32"
        on_mask = subject.depth[subject.mask]
        assert np.isfinite(on_mask).all(), f"{what}: depth is not finite on the mask"
        assert (on_mask > 0).all(), f"{what}: depth is not above 0 metres on the mask"
