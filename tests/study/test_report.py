"""Answers read back, and the numbers against independent computations."""

from __future__ import annotations

import csv
import json
import math
from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import binomtest

from sigma_framework import DataError
from sigma_framework.cli import guarded
from sigma_framework.study import make_study, read_answers
from sigma_framework.study.statistics import krippendorff_alpha, preferences, sign_test, wilson
from sigma_framework.study_cli import study_app

QUESTIONS = ("quality", "layout", "identity")
COLUMNS = ["study", "participant", "position", "pair", "subjects", "left", "right"]
COLUMNS += [name for one in QUESTIONS for name in (one, f"{one}_confidence")] + ["seconds"]


def row(participant: str, pair: str, choices: str = "fff", **changes: object) -> dict[str, object]:
    """One answer; ``choices`` is a letter per question: first, equal, second."""
    words = {"f": "first", "e": "equal", "s": "second"}
    made: dict[str, object] = {"study": "abc", "participant": participant, "position": 0, "pair": pair, "subjects": 2}
    made |= {"left": "first", "right": "second", "seconds": 4.2}
    for name, letter in zip(QUESTIONS, choices, strict=True):
        made |= {name: words[letter], f"{name}_confidence": 4}
    return {**made, **changes}


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    return path


def test_csv_and_json_say_the_same(tmp_path: Path) -> None:
    rows = [row("ann", "p1", "fes"), row("ann", "p2", "sff", layout_confidence=1)]
    from_csv = read_answers([write(tmp_path / "a.csv", rows)])
    assert from_csv == read_answers([write(tmp_path / "a.json", rows)])
    assert from_csv[0].choices == {"quality": "first", "layout": "equal", "identity": "second"}
    assert from_csv[1].confidence["layout"] == 1


def test_every_problem_of_every_file_is_told(tmp_path: Path) -> None:
    bad = write(
        tmp_path / "bad.csv",
        [row("ann", "p1", quality="left"), row("ann", "p2", layout_confidence=6), row("", "p3", subjects="many")],
    )
    twice = write(tmp_path / "twice.json", [row("bob", "p1"), row("bob", "p1"), row("bob", "p2", study="other")])
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError) as caught:
        read_answers([bad, twice, tmp_path / "broken.json", tmp_path / "gone.csv"])
    said = caught.value.render()
    for wanted in (
        'bad.csv, line 2: quality: found "left", expected first, equal, second',
        'bad.csv, line 3: layout_confidence: found "6", expected 1 to 5',
        "bad.csv, line 4: participant: missing",
        'line 4: subjects: found "many"',
        "twice.json[1]: bob answered pair p1 in",
        "twice.json[2]: belongs to study other",
        "broken.json: cannot be read",
        "gone.csv: cannot be read (No such file",
    ):
        assert wanted in said, said
    (tmp_path / "none.csv").write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(DataError, match="no answers"):
        read_answers([tmp_path / "none.csv"])


@pytest.mark.parametrize(("count", "total"), [(0, 7), (3, 7), (7, 7), (61, 125)])
def test_intervals_are_scipys(count: int, total: int) -> None:
    share, wanted = wilson(count, total), binomtest(count, total).proportion_ci(method="wilson")
    assert (share.low, share.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert sign_test(count, total - count) == pytest.approx(binomtest(count, total).pvalue, abs=1e-12)
    assert sign_test(0, 0) == 1


def alpha_by_pairs(ratings: list[list[str]]) -> float:
    """Krippendorff's alpha from its definition: a coincidence matrix of ordered pairs."""
    values = sorted({value for unit in ratings for value in unit})
    matrix = np.zeros((len(values), len(values)))
    for unit in ratings:
        for one, other in permutations(range(len(unit)), 2):
            matrix[values.index(unit[one]), values.index(unit[other])] += 1 / (len(unit) - 1)
    totals = matrix.sum(axis=1)
    observed = matrix.sum() - np.trace(matrix)
    expected = (totals.sum() ** 2 - (totals**2).sum()) / (totals.sum() - 1)
    return 1 - observed / expected


def test_agreement_is_krippendorffs_alpha() -> None:
    rng = np.random.default_rng(0)
    ratings = [list(rng.choice(["first", "equal", "second"], size=rng.integers(2, 6))) for _ in range(30)]
    assert krippendorff_alpha(ratings) == pytest.approx(alpha_by_pairs(ratings))
    assert krippendorff_alpha([["a", "a"], ["b", "b", "b"], ["a"]]) == 1
    assert krippendorff_alpha([["a", "b"], ["a", "b"]]) < 0
    assert math.isnan(krippendorff_alpha([["a"], ["b"]])) and math.isnan(krippendorff_alpha([["a", "a"]]))


def test_the_margin_resamples_people_not_answers(tmp_path: Path) -> None:
    """Forty answers of four people who each always say the same are four opinions, not forty."""
    rows = [row(name, f"p{k}", letter * 3) for name, letter in zip("abcd", "fffs", strict=True) for k in range(10)]
    one = preferences(read_answers([write(tmp_path / "a.csv", rows)]))[0]
    assert one.counts == {"first": 30, "equal": 0, "second": 10}
    assert one.margin.value == pytest.approx(0.5)
    assert one.margin.low <= -0.5 and one.margin.high == 1
    assert one.shares["first"].low > 0.59, "counted as forty draws the interval would be narrow"


def test_the_report_names_systems_and_has_table_and_figure(
    results: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(*results, tmp_path / "study")
    key = json.loads((tmp_path / "study/key.json").read_text())
    pairs = list(key["scenes"])
    changes = {"study": key["study"]}
    rows = [row("ann", pair, "fes", **changes) for pair in pairs]
    rows += [row("bob", pair, "fsf", **changes) for pair in pairs]
    files = [write(tmp_path / "ann.csv", rows[:4]), write(tmp_path / "bob.json", rows[4:])]
    arguments = ["report", *map(str, files), "--study", str(tmp_path / "study"), "--output", str(tmp_path / "out")]
    assert guarded(study_app, "sigma-study", arguments) == 0
    printed = capsys.readouterr().out
    assert "8 answers of 2 participants to 4 pairs: model-q1 against model-q2." in printed
    assert "| Quality | 100.0 % (67.6 to 100.0) | 0.0 % (0.0 to 32.4) | 0.0 % (0.0 to 32.4) | +100.0 %" in printed
    assert (tmp_path / "out/report.md").read_text() in printed
    table = list(csv.DictReader((tmp_path / "out/preferences.csv").open()))
    assert [(line["question"], line["choice"], line["count"]) for line in table[3:6]] == [
        ("layout", "model-q1", "0"),
        ("layout", "About Equal", "4"),
        ("layout", "model-q2", "4"),
    ]
    figure = ElementTree.fromstring((tmp_path / "out/bars.svg").read_text())
    widths = [float(one.get("width")) for one in figure if one.get("height") == "34"]
    assert widths == pytest.approx([640, 0, 0, 0, 320, 320, 320, 0, 320])
    page = (tmp_path / "out/report.html").read_text()
    assert (
        page.count("<table>") == 3 and "<svg" in page and "http" not in page.replace("http://www.w3.org/2000/svg", "")
    )
    assert (
        guarded(study_app, "sigma-study", ["report", str(write(tmp_path / "x.csv", [row("a", "p")])), *arguments[3:]])
        == 2
    )
    assert "the answers are of study abc" in capsys.readouterr().err
