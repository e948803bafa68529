"""What a language model answers: read strictly, repaired where the repair is certain, refused with reasons else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

INSTRUCTIONS = (
    "You describe photographs for a data set. Answer with one JSON object and nothing else: "
    '{"full": "...", "background": "...", "subjects": ["...", "..."]}. "subjects" holds short noun phrases, one per '
    "thing that stands in the scene: each is a different, movable, clearly visible thing, told apart from the others "
    'by its colour, material or kind, e.g. "a red ceramic mug". "background" describes the place alone, without any '
    'of the subjects. "full" is one sentence that describes the place with all the subjects in it and repeats every '
    'phrase of "subjects" word for word.'
)
"""What the model is told once; ours."""
_LONGEST_CAPTION = 12
"""Words."""
_LONGEST_PROMPT = 200
"""Words."""
_ARTICLE = re.compile(r"^(a|an|the|some)\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A usable answer."""

    full: str
    """Names the place and every subject."""
    background: str
    """Names the place alone."""
    captions: tuple[str, ...]
    """All different."""


class UnusableAnswer(ValueError):
    """Why an answer cannot be used; the reasons are told to the model when it is asked again."""

    def __init__(self, reasons: Iterable[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("; ".join(self.reasons))


def request_of(theme: str, count: int) -> str:
    """What the model is asked for one record."""
    return f"Theme: {theme}. Number of subjects: {count}."


def read_answer(text: str, fewest: int, most: int) -> Answer:
    """The answer in a model's text.

    Repaired: reasoning before it, code fences and words around it, curly quotation marks as delimiters, commas before a
    closing bracket, spaces, a subject said twice. Nothing else is guessed.

    Args:
        text: as the model wrote it.
        fewest: subjects.
        most: subjects.

    Raises:
        UnusableAnswer: with all reasons.
    """
    data = _parsed(text)
    reasons = [
        f'"{name}" is missing or no text'
        for name in ("full", "background")
        if not isinstance(data.get(name), str) or not data[name].strip()
    ]
    subjects = data.get("subjects")
    if not isinstance(subjects, list) or not all(isinstance(one, str) and one.strip() for one in subjects):
        raise UnusableAnswer([*reasons, '"subjects" is missing or no list of texts'])
    captions = distinct(" ".join(one.split()).rstrip(".") for one in subjects)
    if not fewest <= len(captions) <= most:
        reasons.append(f"found {len(captions)} different subjects, expected {fewest} to {most}")
    reasons += [f'"{one}" is longer than {_LONGEST_CAPTION} words' for one in captions if _too_long(one)]
    if reasons:
        raise UnusableAnswer(reasons)
    full, background = " ".join(data["full"].split()), " ".join(data["background"].split())
    reasons += [f'"full" does not name "{one}"' for one in captions if plain(one) not in full.lower()]
    reasons += [f'"background" names "{one}"' for one in captions if plain(one) in background.lower()]
    if max(len(full.split()), len(background.split())) > _LONGEST_PROMPT:
        reasons.append(f"a prompt is longer than {_LONGEST_PROMPT} words")
    if reasons:
        raise UnusableAnswer(reasons)
    return Answer(full=full, background=background, captions=tuple(captions))


def distinct(captions: Iterable[str]) -> list[str]:
    """Without those that say what an earlier one says, whatever their article and their capitals."""
    seen: dict[str, str] = {}
    for caption in captions:
        seen.setdefault(plain(caption), caption)
    return list(seen.values())


def plain(text: str) -> str:
    """Lower case, single spaces, no article."""
    return _ARTICLE.sub("", " ".join(text.lower().split()))


def gist(*parts: str | Iterable[str]) -> str:
    """What texts, or lists of texts in any order, say: two scenes with the same gist are one."""
    return " | ".join(plain(one) if isinstance(one, str) else " + ".join(sorted(map(plain, one))) for one in parts)


def without_reasoning(text: str) -> str:
    """What a model answers after it has thought aloud."""
    return re.sub(r"<think>.*?(</think>|$)", "", text, flags=re.DOTALL)


def _parsed(text: str) -> dict[str, Any]:
    text = without_reasoning(text)
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise UnusableAnswer(["there is no JSON object in the answer"])
    content = text[start : end + 1]
    straight = re.sub(r",(\s*[}\]])", r"\1", content)
    for candidate in (content, straight, re.sub("[\u201c\u201d]", '"', straight)):
        try:
            data = json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict):
            return data
    raise UnusableAnswer(["the answer is not valid JSON"])


def _too_long(caption: str) -> bool:
    return len(caption.split()) > _LONGEST_CAPTION
