"""Prompts by a small grammar: no model, no network, the same text for the same seed."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sigma_annotators.classical.config import TemplatePromptsConfig
from sigma_annotators.records import is_told
from sigma_framework import RecipeError


class TemplatePrompts:
    """Gives each record ``captions``, ``prompt_background`` and ``prompt_full``.

    Raises:
        RecipeError: a template names something for which there are no words.
    """

    def __init__(self, config: TemplatePromptsConfig) -> None:
        self.config = config
        named = {name for text in (*config.captions, *config.backgrounds) for name in _names(text)}
        if unknown := sorted(named - set(config.words)):
            raise RecipeError(f"template_prompts: words: nothing to choose from for {', '.join(unknown)}")
        if unknown := sorted({name for text in config.full for name in _names(text)} - {"background", "subjects"}):
            raise RecipeError(f"template_prompts: full: found {', '.join(unknown)}, expected background and subjects")

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Writes prompts; a record that has captions and prompts keeps them.

        Raises:
            DataError: a record has captions without prompts.
        """
        config = self.config
        for record in records:
            if is_told(record, "template_prompts"):
                yield record
                continue
            count = int(rng.integers(config.min_subjects, config.max_subjects + 1))
            captions = self._captions(count, rng)
            background = self._filled(_one(config.backgrounds, rng), rng, {})
            full = _one(config.full, rng).format(background=background, subjects=listing(captions))
            yield {**record, "captions": captions, "prompt_background": background, "prompt_full": full}

    def _captions(self, count: int, rng: np.random.Generator) -> list[str]:
        words = self.config.words
        decks = {name: [words[name][k] for k in rng.permutation(len(words[name]))] for name in self.config.apart}
        captions: list[str] = []
        for number in range(count):
            fixed = {name: deck[number % len(deck)] for name, deck in decks.items()}
            for _ in range(20):  # the same caption twice would name two subjects at once
                text = with_article(self._filled(_one(self.config.captions, rng), rng, fixed))
                if text not in captions:
                    break
            captions.append(text)
        return captions

    def _filled(self, template: str, rng: np.random.Generator, fixed: Mapping[str, str]) -> str:
        drawn = {name: fixed.get(name) or _one(self.config.words[name], rng) for name in _names(template)}
        return " ".join(template.format(**drawn).split())


def with_article(text: str) -> str:
    """``a red cube``, ``an orange cube``."""
    return f"{'an' if text[:1].lower() in tuple('aeiou') else 'a'} {text}"


def listing(captions: Sequence[str]) -> str:
    """``a red cube, a green cone and a blue sphere``."""
    return captions[0] if len(captions) == 1 else f"{', '.join(captions[:-1])} and {captions[-1]}"


def _names(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
