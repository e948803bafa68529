"""``captioner``: what a server is asked and shown, and which answers are taken."""

from __future__ import annotations

import base64
import io
import pickle
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from sigma_annotators.learned.captioner import Captioner
from sigma_annotators.learned.config import CaptionerConfig
from sigma_annotators.plugin import sigma_register_annotators
from sigma_framework import RunError
from sigma_framework.testing import AnnotatorConformance

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
FULL, PLACE = "A red cup stands on a table in the sun.", "A table in the sun."


def question_of(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"][1]["text"])


def describe(body: dict[str, Any]) -> tuple[int, str]:
    return 200, PLACE if "not there" in question_of(body) else FULL


@pytest.fixture
def seeing(server: Any) -> Any:
    server.script = describe
    return server


def annotated(server: Any, record: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    stage = Captioner(CaptionerConfig(server=server.url, weights="tiny", **options))
    asked = {"key": "cup/01.png", "target": PICTURE, "captions": ["a red cup"], **(record or {})}
    (found,) = stage.annotate_or_reject([asked], np.random.default_rng(0))
    return dict(found)


class TestCaptioner(AnnotatorConformance):
    spec: ClassVar[Any] = next(spec for spec in sigma_register_annotators() if spec.name == "captioner")
    options: ClassVar[dict[str, Any]] = {}
    records: ClassVar[Any] = ({"key": "a", "target": PICTURE, "captions": ["a red cup"]},)

    @pytest.fixture(autouse=True)
    def _server(self, seeing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"server": seeing.url})


def test_a_picture_gets_both_prompts(seeing: Any) -> None:
    found = annotated(seeing)
    assert (found["prompt_full"], found["prompt_background"]) == (FULL, PLACE)
    assert found["captions"] == ["a red cup"]
    assert found["provenance"]["models"] == {"captioner": "tiny (server)"}
    body = seeing.seen[0][0]
    assert body["model"] == "tiny"
    assert "a red cup" in question_of(body)
    address = body["messages"][0]["content"][0]["image_url"]["url"]
    shown = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    assert np.array_equal(np.asarray(shown), PICTURE)


def test_a_large_picture_is_sent_small(seeing: Any) -> None:
    annotated(seeing, {"target": np.zeros((600, 1200, 3), np.uint8)})
    address = seeing.seen[0][0]["messages"][0]["content"][0]["image_url"]["url"]
    assert Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).size == (768, 384)


def test_prompts_that_are_there_are_kept(seeing: Any) -> None:
    found = annotated(seeing, {"prompt_full": "mine"})
    assert (found["prompt_full"], found["prompt_background"]) == ("mine", PLACE)
    assert len(seeing.seen) == 1


def test_a_place_that_names_the_subject_is_asked_for_again(seeing: Any) -> None:
    places = iter(["A Red Cup in the sun.", "<think>hm</think>", f'"{PLACE}"'])
    seeing.script = lambda body: (200, next(places)) if "not there" in question_of(body) else (200, FULL)
    assert annotated(seeing)["prompt_background"] == PLACE
    told = [body["messages"][-1]["content"] for body, _ in seeing.seen[2:]]
    assert 'it names "red cup"' in told[0]
    assert "it is empty" in told[1]
    assert len({body["seed"] for body, _ in seeing.seen}) == 4


def test_without_a_usable_answer_the_record_goes(seeing: Any) -> None:
    seeing.script = lambda body: (200, "word " * 61)
    assert annotated(seeing, attempts=2) == {"key": "cup/01.png", "rejected": "no usable prompt_full"}


def test_a_server_that_refuses_is_told_by_this_stages_name(seeing: Any) -> None:
    seeing.script = lambda body: (404, "no")
    with pytest.raises(RunError, match=r"^captioner: server: http.* answered 404"):
        annotated(seeing)
    with pytest.raises(ValueError, match="expected an address"):
        CaptionerConfig(server="localhost:8000")


def test_a_worker_process_can_have_it() -> None:
    stage = Captioner(CaptionerConfig(server="http://127.0.0.1:9/v1"))
    assert pickle.loads(pickle.dumps(stage)).config == stage.config
