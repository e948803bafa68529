"""``prompt_writer``: answers read strictly, a server of the test's own, a small model of transformers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from sigma_annotators.learned.answers import Answer, UnusableAnswer, read_answer
from sigma_annotators.learned.config import PromptWriterConfig
from sigma_annotators.learned.language_models import LocalModel
from sigma_annotators.learned.prompt_writer import PromptWriter
from sigma_annotators.plugin import sigma_register_annotators
from sigma_framework import DataError, RunError, WeightsError
from sigma_framework.testing import AnnotatorConformance
from sigma_framework.testing.component import untouched_global_randomness

GOOD = {
    "full": "A bench with a red cup and a blue hat.",
    "background": "A bench.",
    "subjects": ["a red cup", "a blue hat"],
}


def text_of(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes})


@pytest.mark.parametrize(
    "text",
    [
        text_of(),
        f"<think>a cup {{maybe}}</think>\nHere it is:\n```json\n{text_of()}\n```\nDone.",
        text_of().replace('hat"]', 'hat",],').replace("],}", "]}"),
        text_of().replace('"', "\u201c"),
        text_of(subjects=["A red  cup", "a blue hat.", "the red cup"]),
        text_of().replace("A bench with", "A bench\twith"),
    ],
    ids=["as asked", "words around it", "commas", "curly quotes", "said twice", "tab"],
)
def test_what_is_certain_is_repaired(text: str) -> None:
    found = read_answer(text, 2, 3)
    assert [caption.lower() for caption in found.captions] == ["a red cup", "a blue hat"]
    assert found.full == GOOD["full"]
    assert isinstance(found, Answer)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I cannot do that.", "no JSON object"),
        ("{full: yes}", "not valid JSON"),
        (text_of(full=3), '"full" is missing or no text'),
        (text_of(background=" "), '"background" is missing'),
        (text_of(subjects="a cup"), '"subjects" is missing or no list'),
        (text_of(subjects=["a red cup"]), "found 1 different subjects, expected 2 to 3"),
        (text_of(subjects=["a red cup", "The red cup"]), "found 1 different"),
        (text_of(subjects=["a red cup", "a dog"]), '"full" does not name "a dog"'),
        (text_of(background="A bench with a red cup."), '"background" names "a red cup"'),
        (text_of(subjects=["a red cup", "a " + "very " * 12 + "blue hat"]), "longer than 12 words"),
    ],
)
def test_what_cannot_be_used_says_why(text: str, reason: str) -> None:
    with pytest.raises(UnusableAnswer, match=re.escape(reason)):
        read_answer(text, 2, 3)


def writer(server: Any, **options: Any) -> PromptWriter:
    return PromptWriter(PromptWriterConfig(server=server.url, weights="tiny", min_subjects=2, **options))


def written(annotator: PromptWriter, count: int = 1) -> list[dict[str, Any]]:
    records = [{"key": str(number)} for number in range(count)]
    return [dict(record) for record in annotator.annotate_or_reject(records, np.random.default_rng(0))]


class TestPromptWriter(AnnotatorConformance):
    spec: ClassVar[Any] = next(spec for spec in sigma_register_annotators() if spec.name == "prompt_writer")
    options: ClassVar[dict[str, Any]] = {}
    records: ClassVar[Any] = ({"key": "a"}, {"key": "b"})

    @pytest.fixture(autouse=True)
    def _server(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "options", {"server": server.url})


def test_records_get_prompts_and_the_models_name(server: Any) -> None:
    records = written(writer(server, max_subjects=4), 6)
    assert all(2 <= len(record["captions"]) <= 4 for record in records)
    assert len({record["prompt_background"] for record in records}) == 6
    assert records[0]["provenance"]["models"] == {"prompt_writer": "tiny (server)"}
    body, authorization = server.seen[0]
    assert (body["model"], body["temperature"], authorization) == ("tiny", 0.7, None)
    assert len({body["seed"] for body, _ in server.seen}) == 6


def test_a_bad_answer_is_told_why_and_asked_for_again(server: Any) -> None:
    answers = iter([(200, "no"), (200, text_of(subjects=["a red cup"])), (200, text_of())])
    server.script = lambda body: next(answers)
    (record,) = written(writer(server, attempts=3))
    assert record["captions"] == ["a red cup", "a blue hat"]
    assert record["counts"] == {"answers asked for again": 2}
    last = server.seen[2][0]["messages"]
    assert [message["role"] for message in last] == ["system", "user", "assistant", "user"]
    assert "found 1 different subjects" in last[3]["content"]


def test_a_record_without_a_usable_answer_is_rejected(server: Any) -> None:
    server.script = lambda body: (200, "no")
    (record,) = written(writer(server, attempts=2))
    assert record == {"key": "0", "rejected": "no usable answer", "counts": {"answers asked for again": 1}}
    assert list(writer(server, attempts=1).annotate([{"key": "0"}], np.random.default_rng(0))) == []


def test_a_scene_that_was_said_before_is_not_taken_twice(server: Any) -> None:
    other = text_of(subjects=["a blue hat", "The Red cup"], full="Look: a red cup, a blue hat.")
    answers = iter([(200, text_of()), (200, other), (200, other)])
    server.script = lambda body: next(answers)
    first, second = written(writer(server, attempts=2), 2)
    assert "captions" in first
    assert second["rejected"] == "said before"
    assert "describe another scene" in server.seen[2][0]["messages"][3]["content"]


def test_what_a_source_tells_is_kept(server: Any) -> None:
    told = {"key": "a", "captions": ["a cup"], "prompt_full": "a cup", "prompt_background": "a desk"}
    first, second = writer(server).annotate([told, {"key": "b"}], np.random.default_rng(0))
    assert first == told
    assert second["captions"]
    assert len(server.seen) == 1
    with pytest.raises(DataError, match=r"a: prompt_writer invents scenes.*use plain_prompts"):
        list(writer(server).annotate([{"key": "a", "captions": ["a cup"]}], np.random.default_rng(0)))


def test_a_busy_server_is_asked_again_and_a_broken_one_named(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(503, ""), (429, ""), (200, text_of())])
    server.script = lambda body: next(answers)
    assert written(writer(server))[0]["captions"]
    for script, what in (
        ((401, ""), "answered 401"),
        ((500, ""), "answered 500 .* 4 times"),
        ((200, b"<html>"), "gave no chat completion"),
        ((200, b'{"choices": []}'), "gave no chat completion"),
    ):
        server.script = lambda body, script=script: script
        with pytest.raises(RunError, match=what):
            written(writer(server))
    with pytest.raises(RunError, match=r"cannot be reached.*run again to go on"):
        written(PromptWriter(PromptWriterConfig(server="http://127.0.0.1:9/v1")))


def test_the_key_comes_from_the_environment(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="TEST_SERVER_KEY is not set"):
        written(writer(server, key_variable="TEST_SERVER_KEY"))
    monkeypatch.setenv("TEST_SERVER_KEY", "open sesame")
    written(writer(server, key_variable="TEST_SERVER_KEY"))
    assert server.seen[-1][1] == "Bearer open sesame"


def test_a_model_of_transformers_answers_by_its_seed(folders: Path) -> None:
    model = LocalModel(PromptWriterConfig(weights=str(folders / "language"), max_tokens=16))
    messages = [{"role": "user", "content": "hello"}]
    with untouched_global_randomness():
        first, again, other = (model.answer(messages, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) <= 16
    assert model.name == "language"
    (record,) = written(PromptWriter(PromptWriterConfig(weights=str(folders / "language"), max_tokens=16, attempts=2)))
    assert record["rejected"] == "no usable answer", "a random model writes no JSON"


def test_weights_that_cannot_be_read_are_refused(folders: Path, tmp_path: Path, offline: None) -> None:
    for weights, what in (
        ("Qwen/Qwen3-8B", r"prompt_writer: weights: Qwen/Qwen3-8B is not on this machine.*go online"),
        (str(tmp_path), "cannot be read"),
        ("./nowhere", "is not a folder here"),
    ):
        with pytest.raises(WeightsError, match=what):
            PromptWriter(PromptWriterConfig(weights=weights))


@pytest.mark.parametrize(
    "wrong",
    [{"min_subjects": 4, "max_subjects": 3}, {"attempts": 0}, {"server": "localhost"}, {"top_p": 0.0}, {"themes": ()}],
)
def test_senseless_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        PromptWriterConfig(**wrong)
