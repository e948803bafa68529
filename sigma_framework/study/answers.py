"""Answers of the page, read back from CSV or JSON and checked."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_framework.errors import DataError, Problem

QUESTIONS = ("quality", "layout", "identity")
"""Of A.16."""
CHOICES = ("first", "equal", "second")
"""What an answer may prefer: a system, or neither."""
MAX_BYTES = 64 * 2**20
"""Largest file of answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One pair, answered by one person."""

    study: str
    """Of which page."""
    participant: str
    """Who."""
    pair: str
    """Which pair."""
    subjects: int
    """Number of its subjects."""
    choices: Mapping[str, str]
    """By question: one of ``CHOICES``."""
    confidence: Mapping[str, int]
    """By question: 1 (not sure) to 5 (certain)."""


def read_answers(paths: Sequence[Path]) -> list[Answer]:
    """All answers of all files.

    Raises:
        DataError: with every problem of every file: values that cannot be, answers to different pages, a pair answered
            twice by one person.
    """
    answers: list[Answer] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, str], str] = {}
    for path in paths:
        for where, row in _rows(path, problems):
            answer = _answer(row, where, problems)
            if answer is None:
                continue
            before = seen.setdefault((answer.participant, answer.pair), where)
            if before != where:
                what = f"{answer.participant} answered pair {answer.pair} in {before} already"
                problems.append(Problem(where, what, "give each person's answers once"))
            if answers and answer.study != answers[0].study:
                what = f"belongs to study {answer.study}, the first file to {answers[0].study}"
                problems.append(Problem(where, what, "report studies one by one"))
            answers.append(answer)
    if problems:
        raise DataError("answers", problems)
    if not answers:
        raise DataError(f"{', '.join(str(path) for path in paths)}: no answers")
    return answers


def _rows(path: Path, problems: list[Problem]) -> list[tuple[str, Mapping[str, Any]]]:
    """Places and rows of a file, all values text."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"has more than {MAX_BYTES // 2**20} MiB")
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            data = json.loads(text)
            if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
                raise ValueError("expected a list of maps")
            return [(f"{path}[{number}]", {k: str(v) for k, v in row.items()}) for number, row in enumerate(data)]
        table = csv.DictReader(io.StringIO(text))
        return [(f"{path}, line {table.line_num}", row) for row in table]
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problems.append(Problem(str(path), f"cannot be read ({reason[:120]})", "give files that the page saved"))
        return []


def _answer(row: Mapping[str, Any], where: str, problems: list[Problem]) -> Answer | None:
    before = len(problems)
    texts = {key: row.get(key) for key in ("study", "participant", "pair")}
    problems.extend(
        Problem(where, f"{key}: missing", "give files that the page saved") for key, v in texts.items() if not v
    )
    subjects = _whole(row, "subjects", range(1, 1000), where, problems)
    confidence = {name: _whole(row, f"{name}_confidence", range(1, 6), where, problems) for name in QUESTIONS}
    for name in QUESTIONS:
        if row.get(name) not in CHOICES:
            found = str(row.get(name))[:40]
            problems.append(Problem(where, f'{name}: found "{found}", expected {", ".join(CHOICES)}'))
    if len(problems) > before:
        return None
    return Answer(
        study=str(texts["study"]),
        participant=str(texts["participant"]),
        pair=str(texts["pair"]),
        subjects=subjects,
        choices={name: row[name] for name in QUESTIONS},
        confidence=confidence,
    )


def _whole(row: Mapping[str, Any], key: str, allowed: range, where: str, problems: list[Problem]) -> int:
    text = str(row.get(key))
    if text.isdecimal() and int(text) in allowed:
        return int(text)
    problems.append(Problem(where, f'{key}: found "{text[:40]}", expected {allowed.start} to {allowed.stop - 1}'))
    return 0
