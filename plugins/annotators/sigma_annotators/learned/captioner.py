"""Prompts of pictures that have none, by a model that sees (section A.10: Qwen2.5-VL)."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_annotators.learned.answers import plain, without_reasoning
from sigma_annotators.learned.config import CaptionerConfig
from sigma_annotators.learned.language_models import Message, ServerModel, asked_again
from sigma_annotators.learned.weights import with_models
from sigma_annotators.records import kept, require

_FULL = (
    "Describe this photograph in one sentence for a text-to-image model: the place, the light, and these subjects: "
    "{subjects}. Answer with the sentence alone."
)
_BACKGROUND = (
    "Describe the place and the light of this photograph in one sentence for a text-to-image model, as if these were "
    "not there: {subjects}. Do not mention them. Answer with the sentence alone."
)
_TOLD = "That answer cannot be used: {reason}. Answer again with one sentence and nothing else."
_LONGEST_SIDE = 768
"""Pixels of the picture that is sent; more tells a captioner no more."""


class Captioner:
    """Adds ``prompt_full`` and ``prompt_background`` where a record has none; captions of subjects stay as they are."""

    def __init__(self, config: CaptionerConfig) -> None:
        self.config = config
        self._model = ServerModel(config, "captioner")

    def __reduce__(self) -> tuple[type[Captioner], tuple[CaptionerConfig]]:
        return Captioner, (self.config,)

    def annotate(self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        """Records without a usable answer are dropped."""
        return kept(self.annotate_or_reject(records, rng))

    def annotate_or_reject(
        self, records: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> Iterator[Mapping[str, Any]]:
        """As ``annotate``; a record that is dropped is given back with its reason instead."""
        for number, record in enumerate(records):
            require(record, number, "captioner", ("target", "captions"))
            seeds = rng.integers(2**62, size=(2, self.config.attempts))
            captions = list(record["captions"])
            named = [plain(caption) for caption in captions]
            asked = {"prompt_full": (_FULL, ()), "prompt_background": (_BACKGROUND, named)}
            made: dict[str, str | None] = {}
            for (key, (question, forbidden)), some in zip(asked.items(), seeds.tolist(), strict=True):
                if not record.get(key):
                    made[key] = self._ask(
                        record["target"], question.format(subjects=", ".join(captions)), forbidden, some
                    )
            missing = [key for key, text in made.items() if text is None]
            if missing:
                yield {"key": record.get("key", ""), "rejected": f"no usable {missing[0]}"}
            else:
                yield with_models({**record, **made}, captioner=self._model.name) if made else record

    def _ask(
        self, picture: NDArray[np.uint8], question: str, forbidden: Sequence[str], seeds: Sequence[int]
    ) -> str | None:
        """A sentence, or None when no answer can be used."""
        content = [{"type": "image_url", "image_url": {"url": _sent(picture)}}, {"type": "text", "text": question}]
        opening: list[Message] = [{"role": "user", "content": content}]
        messages = opening
        for seed in seeds:
            text = self._model.answer(messages, seed)
            sentence = _cleaned(text)
            reason = self._refusal(sentence, forbidden)
            if reason is None:
                return sentence
            messages = asked_again(opening, text, _TOLD.format(reason=reason))
        return None

    def _refusal(self, sentence: str, forbidden: Sequence[str]) -> str | None:
        """Why a sentence cannot be used."""
        if not sentence:
            return "it is empty"
        if len(sentence.split()) > self.config.longest:
            return f"it is longer than {self.config.longest} words"
        found = [name for name in forbidden if re.search(rf"\b{re.escape(name)}\b", sentence.lower())]
        return f'it names "{found[0]}"' if found else None


def _cleaned(text: str) -> str:
    """Without reasoning, quotation marks around it and line breaks."""
    return " ".join(without_reasoning(text).split()).strip("\"'\u201c\u201d ")


def _sent(picture: NDArray[np.uint8]) -> str:
    """The picture as a data address."""
    image = Image.fromarray(picture)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
