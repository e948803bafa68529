"""Preferences with intervals, and agreement, from counts alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sigma_framework.study.answers import CHOICES, QUESTIONS, Answer

NORMAL_95 = 1.959963984540054
"""Two-sided 95 % of the normal distribution."""
RESAMPLES = 2000
"""Draws of participants for the interval of the margin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share with its 95 % interval."""

    value: float
    """0 to 1."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One question over all answers."""

    question: str
    """One of ``QUESTIONS``."""
    counts: Mapping[str, int]
    """Answers by choice."""
    shares: Mapping[str, Share]
    """By choice, with Wilson's interval: each answer counts as one draw."""
    margin: Share
    """Share of first minus share of second; the interval resamples participants, whose answers hang together."""
    p_value: float
    """Two-sided sign test of first against second, ties left out."""
    agreement: float
    """Krippendorff's alpha, nominal; 1 perfect, 0 chance; NaN without a pair that two people answered alike or not."""
    confidence: Mapping[str, float]
    """Mean confidence by choice, NaN where nobody chose it."""


def preferences(answers: Sequence[Answer], seed: int = 0) -> list[Preference]:
    """One record per question."""
    return [_preference(question, answers, np.random.default_rng(seed)) for question in QUESTIONS]


def _preference(question: str, answers: Sequence[Answer], rng: np.random.Generator) -> Preference:
    counts = Counter(answer.choices[question] for answer in answers)
    confidence: dict[str, list[int]] = defaultdict(list)
    for answer in answers:
        confidence[answer.choices[question]].append(answer.confidence[question])
    return Preference(
        question=question,
        counts={choice: counts[choice] for choice in CHOICES},
        shares={choice: wilson(counts[choice], len(answers)) for choice in CHOICES},
        margin=_margin(question, answers, rng),
        p_value=sign_test(counts["first"], counts["second"]),
        agreement=krippendorff_alpha(_by_pair(question, answers)),
        confidence={c: sum(confidence[c]) / len(confidence[c]) if confidence[c] else math.nan for c in CHOICES},
    )


def wilson(count: int, total: int) -> Share:
    """Wilson's score interval of a share (1927)."""
    share, square = count / total, NORMAL_95**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = NORMAL_95 / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    return Share(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


def sign_test(first: int, second: int) -> float:
    """Two-sided p that a fair coin is as one-sided as this; 1 without answers."""
    total, least = first + second, min(first, second)
    tail = float(sum(math.comb(total, k) for k in range(least + 1)) / 2**total)
    return min(1.0, 2 * tail)


def krippendorff_alpha(ratings: Sequence[Sequence[str]]) -> float:
    """Krippendorff's alpha for nominal values (2004): 1 - observed over expected disagreement.

    Args:
        ratings: per unit the values that its raters gave; units with fewer than two say nothing.
    """
    units = [Counter(unit) for unit in ratings if len(unit) > 1]
    totals = sum(units, Counter())
    number = sum(totals.values())
    observed = sum(
        (sum(unit.values()) ** 2 - sum(n * n for n in unit.values())) / (sum(unit.values()) - 1) for unit in units
    )
    expected = number * number - sum(n * n for n in totals.values())
    return 1 - (number - 1) * observed / expected if expected else math.nan


def _by_pair(question: str, answers: Sequence[Answer]) -> list[list[str]]:
    units: dict[str, list[str]] = defaultdict(list)
    for answer in answers:
        units[answer.pair].append(answer.choices[question])
    return list(units.values())


def _margin(question: str, answers: Sequence[Answer], rng: np.random.Generator) -> Share:
    """Difference of shares, its interval by resampling participants; without two of them the interval says nothing."""
    people = sorted({answer.participant for answer in answers})
    table = np.zeros((len(people), 3))
    for answer in answers:
        table[people.index(answer.participant), CHOICES.index(answer.choices[question])] += 1
    value = float((table[:, 0] - table[:, 2]).sum() / table.sum())
    if len(people) < 2:
        return Share(value=value, low=-1.0, high=1.0)
    drawn = table[rng.integers(len(people), size=(RESAMPLES, len(people)))].sum(axis=1)
    margins = (drawn[:, 0] - drawn[:, 2]) / drawn.sum(axis=1)
    low, high = np.quantile(margins, (0.025, 0.975))
    return Share(value=value, low=float(low), high=float(high))
