"""How provenance names a model: by the commit that was read, whoever knows it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sigma_annotators.learned.weights import told_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CACHE = f"/home/me/.cache/huggingface/hub/models--owner--name/snapshots/{COMMIT}"


def model(**config: Any) -> Any:
    return SimpleNamespace(config=SimpleNamespace(**config))


@pytest.mark.parametrize(
    ("read", "revision", "told"),
    [
        (model(_commit_hash=COMMIT), None, f"owner/name@{COMMIT}"),
        (model(_commit_hash=COMMIT), "main", f"owner/name@{COMMIT}"),
        (model(_commit_hash=None, _name_or_path=CACHE), None, f"owner/name@{COMMIT}"),
        (model(_name_or_path="owner/name"), None, "owner/name"),
        (model(_name_or_path="owner/name"), "v1", "owner/name@v1"),
        (SimpleNamespace(), "v1", "owner/name@v1"),
    ],
    ids=["transformers", "commit before branch", "cache", "nobody knows", "asked for", "no config"],
)
def test_a_hub_id_is_told_with_its_commit(read: Any, revision: str | None, told: str) -> None:
    assert told_name("owner/name", read, revision) == told


def test_a_pipeline_is_told_with_the_commit_of_its_parts() -> None:
    parts = {"tokenizer": object(), "scheduler": None, "transformer": model(_name_or_path=f"{CACHE}/transformer")}
    pipeline = SimpleNamespace(config=SimpleNamespace(_name_or_path="owner/name"), components=parts)
    assert told_name("owner/name", pipeline, None) == f"owner/name@{COMMIT}"


def test_a_folder_is_told_by_its_name(tmp_path: Path) -> None:
    assert told_name(str(tmp_path), model(_commit_hash=COMMIT), "v1") == tmp_path.name
