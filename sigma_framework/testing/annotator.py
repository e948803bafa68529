"""What every annotator is held to."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from sigma_framework.errors import SigmaError
from sigma_framework.protocols import Annotator
from sigma_framework.specs import AnnotatorSpec
from sigma_framework.testing.component import (
    ComponentConformance,
    frozen_arrays,
    require,
    same,
    untouched_global_randomness,
)


class AnnotatorConformance(ComponentConformance):
    """Inherit, set ``spec``, ``options`` and ``records``: a small batch that holds what the annotator reads."""

    spec: ClassVar[AnnotatorSpec]
    protocol = Annotator
    records: ClassVar[Sequence[Mapping[str, Any]]]
    """At least one record that comes out again."""

    def annotated(self, seed: int = 0) -> list[Mapping[str, Any]]:
        """A fresh annotator's answer to a fresh copy of ``records``."""
        given = [dict(record) for record in copy.deepcopy(list(self.records))]
        return list(self.make().annotate(given, np.random.default_rng(seed)))

    def test_records_hold_what_the_spec_reads(self) -> None:
        require(self, "records")
        for record in self.records:
            missing = self.spec.reads - set(record)
            assert not missing, f"a record of the test lacks {sorted(missing)}, which the spec says it reads"

    def test_what_the_spec_writes_is_there(self) -> None:
        made = self.annotated()
        assert made, "no record came out; give the test one that does"
        for record in made:
            missing = self.spec.writes - set(record)
            assert not missing, f"the spec says it writes {sorted(missing)}, which a record lacks"

    def test_given_records_are_not_changed(self) -> None:
        given = [frozen_arrays(copy.deepcopy(dict(record))) for record in self.records]
        before = [dict(record) for record in given]
        list(self.make().annotate(given, np.random.default_rng(0)))
        assert same(given, before), "a given record was changed; give back a new one"

    def test_equal_generators_give_equal_records(self) -> None:
        with untouched_global_randomness():
            first, second = self.annotated(), self.annotated()
        assert same([dict(r) for r in first], [dict(r) for r in second])

    def test_no_records_give_no_records(self) -> None:
        assert list(self.make().annotate([], np.random.default_rng(0))) == []

    def test_a_missing_key_is_named(self) -> None:
        for key in sorted(self.spec.reads):
            lacking = [{k: v for k, v in record.items() if k != key} for record in self.records]
            with pytest.raises(SigmaError, match=key):
                list(self.make().annotate(lacking, np.random.default_rng(0)))

    def test_annotator_can_be_sent_to_workers(self) -> None:
        sent = pickle.loads(pickle.dumps(self.make()))
        there = list(sent.annotate([dict(record) for record in self.records], np.random.default_rng(0)))
        assert same([dict(r) for r in there], [dict(r) for r in self.annotated()])
