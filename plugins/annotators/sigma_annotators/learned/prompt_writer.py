"""Prompts and captions by a language model (section A.1: Qwen3-8B, 3 to 10 subjects)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sigma_annotators.learned.answers import (
    INSTRUCTIONS,
    Answer,
    UnusableAnswer,
    gist,
    read_answer,
    request_of,
)
from sigma_annotators.learned.config import PromptWriterConfig
from sigma_annotators.learned.language_models import LanguageModel, LocalModel, Message, ServerModel, asked_again
from sigma_annotators.learned.weights import with_models
from sigma_annotators.records import is_told, kept

_TOLD = "That answer cannot be used: {reasons}. Answer again with one JSON object and nothing else."


class PromptWriter:
    """Adds ``captions``, ``prompt_full`` and ``prompt_background``.

    An answer that cannot be used is told why and asked for again; one that repeats an answer of the same batch is asked
    for again too (a large ``build.batch`` finds more of them).
    """

    def __init__(self, config: PromptWriterConfig) -> None:
        self.config = config
        self._model: LanguageModel = LocalModel(config) if config.server is None else ServerModel(config)

    def __reduce__(self) -> tuple[type[PromptWriter], tuple[PromptWriterConfig]]:
        return PromptWriter, (self.config,)

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Records without a usable answer are dropped; those that have captions and prompts keep them."""
        return kept(self.annotate_or_reject(records, rng))

    def annotate_or_reject(
        self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> Iterator[Mapping[str, Any]]:
        """As ``annotate``; a record that is dropped is given back with its reason instead.

        Raises:
            DataError: a record has captions without prompts.
        """
        config, said = self.config, set[str]()
        for record in records:
            if is_told(record, "prompt_writer"):
                yield record
                continue
            theme = config.themes[int(rng.integers(len(config.themes)))]
            count = int(rng.integers(config.min_subjects, config.max_subjects + 1))
            seeds = rng.integers(2**62, size=config.attempts).tolist()
            answer, asked, reason = self._ask(request_of(theme, count), seeds, said)
            counts = {"answers asked for again": asked - 1}
            if answer is None:
                yield {"key": record.get("key", ""), "rejected": reason, "counts": counts}
                continue
            said.add(gist(answer.background, answer.captions))
            made = {
                "captions": list(answer.captions),
                "prompt_full": answer.full,
                "prompt_background": answer.background,
                "counts": counts,
            }
            yield with_models({**record, **made}, prompt_writer=self._model.name)

    def _ask(self, request: str, seeds: Sequence[int], said: set[str]) -> tuple[Answer | None, int, str]:
        """(answer, how often it was asked for, why there is none)."""
        opening: list[Message] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": request}]
        messages, reason = opening, ""
        for attempt, seed in enumerate(seeds, 1):
            text = self._model.answer(messages, seed)
            try:
                answer = read_answer(text, self.config.min_subjects, self.config.max_subjects)
                if gist(answer.background, answer.captions) in said:
                    reason = "said before"
                    raise UnusableAnswer(["another record of this data set says the same; describe another scene"])
                return answer, attempt, ""
            except UnusableAnswer as error:
                reason = "no usable answer" if reason != "said before" else reason
                told = _TOLD.format(reasons="; ".join(error.reasons[:5]))
                messages = asked_again(opening, text, told)
        return None, len(seeds), reason
