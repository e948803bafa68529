"""Kinds of numbers that a recipe holds; the schema tells their ranges in its messages and its docs."""

from __future__ import annotations

from typing import Annotated

from sigma_framework.dataclass_schema import Range

Count = Annotated[int, Range(low=1)]
Whole = Annotated[int, Range(low=0)]
Share = Annotated[float, Range(low=0, high=1)]
Positive = Annotated[float, Range(above=0)]
Weight = Annotated[float, Range(low=0)]
Seed = Annotated[int, Range(low=0, high=2**63 - 1)]
