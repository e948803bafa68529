"""Known words are one token each, and no text is lost."""

from __future__ import annotations

import pytest

from sigma_backbones.pocket_training.tokenizers import (
    TEXT_LENGTH,
    build_clip_tokenizer,
    build_t5_tokenizer,
    read_words,
)
from sigma_datasources.toybox.vocabulary import all_words

TEMPLATE_WORDS = {"Place", "these", "subjects", "in", "to", "compose", ":"}
STRANGE = "Ünïcode 漢字 🐙 42% <pad> \t tab"


def test_the_list_holds_every_word_of_the_toy_world_and_of_the_templates() -> None:
    assert set(read_words()) == set(all_words()) | TEMPLATE_WORDS


def test_every_word_is_one_token_in_the_sequence() -> None:
    tokenizer = build_t5_tokenizer(read_words())
    for word in read_words():
        assert len(tokenizer(f"a {word}", add_special_tokens=False).input_ids) == 2, word
    place, lower = (tokenizer(word, add_special_tokens=False).input_ids for word in ("Place", "place"))
    assert place != lower


def test_every_word_is_one_token_in_the_pooled_text() -> None:
    tokenizer = build_clip_tokenizer(read_words())
    for word in read_words():
        assert len(tokenizer(word).input_ids) == 3, word
    assert tokenizer("Place").input_ids == tokenizer("place").input_ids


@pytest.mark.parametrize("text", [STRANGE, "", "place these subjects in a grey floor"])
def test_no_text_is_unknown(text: str) -> None:
    sequence, pooled = build_t5_tokenizer(read_words()), build_clip_tokenizer(read_words())
    ids = sequence(text, add_special_tokens=False).input_ids
    assert sequence.unk_token_id not in ids
    assert sequence.decode(ids).strip() == text.strip()
    inner = pooled(text).input_ids[1:-1]
    assert pooled.eos_token_id not in inner
    assert pooled.bos_token_id not in inner


def test_ids_avoid_the_traps() -> None:
    pooled, sequence = build_clip_tokenizer(read_words()), build_t5_tokenizer(read_words())
    assert pooled.eos_token_id != 2, "CLIP reads id 2 in its own old way"
    assert pooled("a").input_ids[-1] == pooled.eos_token_id
    assert sequence("a").input_ids[-1] == sequence.eos_token_id
    assert pooled.model_max_length == sequence.model_max_length == TEXT_LENGTH


def test_building_twice_gives_the_same_tokenizers() -> None:
    words = read_words()
    for build in (build_clip_tokenizer, build_t5_tokenizer):
        first, second = build(words), build(tuple(reversed(words)))
        assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
