"""The paper's tables, from one data file, and which of our measures belongs into which of their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from sigma_framework.dataclass_schema import build

DATA = Path(__file__).with_name("paper_tables.yaml")
COLUMNS: Mapping[str, str] = {
    "dino_i": "DINO-I",
    "siglip_i": "SigLIP-I",
    "siglip_t": "SigLIP-T",
    "depth_mse": "Depth MSE",
    "clip_iqa": "CLIP-IQA",
    "musiq": "MUSIQ",
}
"""Title by measure, in the paper's order (the control stands before the depth)."""
LOWER = frozenset({"depth_mse"})
"""Columns in which less is better."""


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One row of one table."""

    section: str
    """``single`` or ``multi``: one subject, or several."""
    method: str
    """As printed."""
    control: str = ""
    """As printed; empty where the table has no such column."""
    values: Mapping[str, float]
    """By measure; a dash of the paper is left out."""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """One table of the paper."""

    title: str
    """What it compares."""
    rows: tuple[PaperRow, ...]
    """In the paper's order."""


@dataclass(frozen=True, kw_only=True)
class _File:
    repeated: tuple[tuple[str, ...], ...]
    tables: Mapping[str, PaperTable]


@cache
def paper_tables() -> Mapping[int, PaperTable]:
    """Every table by its number."""
    return {int(number): table for number, table in _file().tables.items()}


def repeated_rows() -> tuple[tuple[str, ...], ...]:
    """Groups of ``table.row`` (from 1) that are one row printed several times."""
    return _file().repeated


@cache
def _file() -> _File:
    checked = build(_File, yaml.safe_load(DATA.read_text(encoding="utf-8")), "")
    assert not checked.problems, checked.problems
    found: _File = checked.value
    return found


def base_name(measure: str) -> str:
    """``dino_i`` of ``dino_i[dinov2-large]``."""
    return measure.partition("[")[0]
