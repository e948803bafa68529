"""Words: every caption and prompt is made of the exported ones."""

from __future__ import annotations

import re

import numpy as np

from sigma_datasources.toybox import vocabulary
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.solids import SOLIDS
from sigma_datasources.toybox.source import ToyboxSource
from sigma_datasources.toybox.textures import PATTERNS


def words_of(text: str) -> set[str]:
    assert re.fullmatch(r"[a-z ,]+", text), text
    return set(text.replace(",", " ").split())


def test_every_name_can_be_drawn_and_none_is_on_both_sides():
    assert {*vocabulary.SOLIDS, *vocabulary.HELD_OUT_SOLIDS} == set(SOLIDS)
    assert {*vocabulary.TEXTURES, *vocabulary.HELD_OUT_TEXTURES} == set(PATTERNS)
    assert not set(vocabulary.SOLIDS) & set(vocabulary.HELD_OUT_SOLIDS)
    assert not set(vocabulary.TEXTURES) & set(vocabulary.HELD_OUT_TEXTURES)
    assert not set(vocabulary.COLOURS) & set(vocabulary.HELD_OUT_COLOURS)


def test_main_colours_lie_well_apart():
    values = np.array([*vocabulary.COLOURS.values(), *vocabulary.HELD_OUT_COLOURS.values()])
    distances = np.linalg.norm(values[:, None] - values[None], axis=-1) + 10 * np.eye(len(values))
    assert distances.min() > 0.2


def test_captions_leave_plain_out_and_choose_the_article():
    assert vocabulary.caption("red", "striped", "cube") == "a red striped cube"
    assert vocabulary.caption("orange", "plain", "cone") == "an orange cone"
    assert vocabulary.listing(["a", "b", "c"]) == "a, b and c"


def test_all_words_are_sorted_single_lower_case_words():
    words = vocabulary.all_words()
    assert list(words) == sorted(set(words))
    assert all(re.fullmatch("[a-z]+", word) for word in words)
    assert 50 <= len(words) <= 120


def test_rendered_and_sampled_texts_use_the_exported_words_alone():
    known = set(vocabulary.all_words())
    for prompt in vocabulary.sample_prompts(np.random.default_rng(0), 300):
        assert words_of(prompt) <= known
    for holdout in ("none", "shapes", "textures", "colours"):
        source = ToyboxSource(ToyboxConfig(count=6, split="test", holdout=holdout, image_size=64, identity_size=16))
        for example in source:
            for text in (example.prompt_full, example.prompt_background, *(s.caption for s in example.subjects)):
                assert words_of(text) <= known


def test_sampled_prompts_follow_the_generator_and_name_nothing_held_out():
    first, again = (vocabulary.sample_prompts(np.random.default_rng(3), 200) for _ in range(2))
    assert first == again
    assert len(set(first)) > 190
    held = {*vocabulary.HELD_OUT_SOLIDS, *vocabulary.HELD_OUT_TEXTURES, *vocabulary.HELD_OUT_COLOURS}
    assert not held & set().union(*map(words_of, first))
