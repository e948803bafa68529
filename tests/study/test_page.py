"""The page in a real browser: clicked and typed through, hovered, saved, read back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sigma_framework.study import make_study, read_answers

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = os.environ.get("SIGMA_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def study(results: tuple[Path, Path], tmp_path: Path) -> Path:
    """What ``make`` writes, seed 1."""
    make_study(*results, tmp_path / "study", seed=1)
    return tmp_path / "study"


class Visit:
    """One person at the page; every error of the page and every request that leaves it fails the test."""

    def __init__(self, browser: Any, study: Path, participant: str = "ann", **screen: Any) -> None:
        self.faults: list[str] = []
        self.context = browser.new_context(accept_downloads=True, **screen)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("requestfailed", lambda request: self.faults.append(request.url))
        self.page.on("request", lambda request: self.faults.append(request.url) if _leaves(request.url) else None)
        self.address = (study / "page/index.html").as_uri() + f"?participant={participant}"
        self.open()

    def open(self) -> None:
        self.page.goto(self.address)
        self.page.click(".next")

    def stage(self) -> dict[str, str]:
        """Pictures on the sides."""
        return {
            side: self.page.get_attribute(f"#image-{side} .stage img:first-child", "src") or "" for side in ("a", "b")
        }

    def answer(self, name: str, choice: str, confidence: int) -> None:
        self.page.check(f'input[name="{name}"][value="{choice}"]', force=True)
        self.page.check(f'input[name="{name}_confidence"][value="{confidence}"]', force=True)

    def type(self, *keys: str) -> None:
        """Presses keys, and waits for the next pair."""
        before = self.page.inner_text("main")
        for key in keys:
            self.page.keyboard.press(key)
        self.page.wait_for_function("before => document.querySelector('main').innerText !== before", arg=before)

    def save(self, ending: str, folder: Path) -> Path:
        with self.page.expect_download() as waiting:
            self.page.click(f"#save-{ending}")
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def close(self) -> None:
        self.context.close()
        assert self.faults == []


def _leaves(address: str) -> bool:
    return not address.startswith(("file:", "blob:", "data:"))


def pairs_of(study: Path) -> dict[str, dict[str, Any]]:
    """Pairs by their first picture."""
    text = (study / "page/pairs.js").read_text().removeprefix("const STUDY = ").rstrip().removesuffix(";")
    return {pair["first"]: pair for pair in json.loads(text)["pairs"]}


def shown(visit: Visit, study: Path) -> tuple[dict[str, Any], str]:
    """The pair that is on the screen, and which system is on the left."""
    sides, pairs = visit.stage(), pairs_of(study)
    side = "first" if sides["a"] in pairs else "second"
    pair = pairs[sides["a"] if side == "first" else sides["b"]]
    assert sides["a"] == pair[side] and sides["b"] == pair["second" if side == "first" else "first"]
    return pair, side


def test_a_study_is_clicked_through_and_its_files_read_back(browser: Any, study: Path, tmp_path: Path) -> None:
    visit = Visit(browser, study)
    page, expected, lefts = visit.page, {}, []
    for position in range(4):
        pair, left = shown(visit, study)
        lefts.append(left)
        assert f"Pair {position + 1} of 4" in page.inner_text("header")
        assert page.inner_text(".prompt") == pair["prompt"]
        assert page.locator(".identity").count() == len(pair["subjects"])
        assert page.inner_text(".identity >> nth=0") == "a red <b>thing</b>"
        assert page.is_disabled(".next")
        visit.answer("quality", "left", 5)
        visit.answer("layout", "equal", 3)
        assert page.is_disabled(".next"), "one question is open"
        visit.answer("identity", "right", 1 + position)
        other = "second" if left == "first" else "first"
        expected[pair["id"]] = ({"quality": left, "layout": "equal", "identity": other}, 1 + position)
        page.click(".next")
    assert "Thank you" in page.inner_text("main")
    files = [visit.save(ending, tmp_path) for ending in ("csv", "json")]
    visit.close()
    assert [path.name for path in files] == ["answers-ann.csv", "answers-ann.json"]
    answers = read_answers(files[:1])
    assert answers == read_answers(files[1:])
    assert {one.pair: (dict(one.choices), one.confidence["identity"]) for one in answers} == expected
    assert {one.participant for one in answers} == {"ann"} and {one.confidence["quality"] for one in answers} == {5}
    assert set(lefts) == {"first", "second"}, "sides are drawn"


def test_pointing_at_an_identity_shows_its_region_in_both_images(browser: Any, study: Path) -> None:
    visit = Visit(browser, study)
    pair, _ = shown(visit, study)
    visible = ".region.on"
    assert visit.page.locator(visible).count() == 0
    for number, subject in enumerate(pair["subjects"]):
        visit.page.hover(f".identity >> nth={number}")
        regions = visit.page.locator(visible)
        assert regions.count() == 2
        assert {regions.nth(k).get_attribute("src") for k in range(2)} == {subject["region"]}
        assert all(regions.nth(k).is_visible() for k in range(2))
        boxes = [visit.page.locator(f"#image-{side} .stage").bounding_box() for side in "ab"]
        assert [regions.nth(k).bounding_box() for k in range(2)] == boxes, "it lies on the image exactly"
    visit.page.hover("header")
    assert visit.page.locator(visible).count() == 0
    visit.page.click(".identity >> nth=1")
    visit.page.hover("header")
    assert visit.page.locator(visible).count() == 2, "chosen, it stays"
    visit.close()


def test_everything_can_be_typed(browser: Any, study: Path, tmp_path: Path) -> None:
    visit = Visit(browser, study, "keys")
    for _ in range(4):
        pair, left = shown(visit, study)
        visit.type("a", "4", "e", "2", "b", "5", "Enter")
    answers = read_answers([visit.save("csv", tmp_path)])
    visit.close()
    last = next(one for one in answers if one.pair == pair["id"])
    assert last.choices["quality"] == left and last.choices["layout"] == "equal"
    assert (last.confidence["quality"], last.confidence["layout"], last.confidence["identity"]) == (4, 2, 5)


def test_order_and_sides_are_a_participants_own_and_come_again(browser: Any, study: Path) -> None:
    seen: dict[str, list[tuple[str, str]]] = {}
    for visitor in ("ann", "ann ", "bea", "cyd"):
        visit = Visit(browser, study, visitor.strip())
        seen[visitor] = []
        for _ in range(4):
            pair, left = shown(visit, study)
            seen[visitor].append((pair["id"], left))
            visit.type("a", "1", "a", "1", "a", "1", "Enter")
        visit.close()
    assert seen["ann"] == seen["ann "], "another visit in another browser, the same order"
    assert len({tuple(order) for order in seen.values()}) == 3


def test_a_page_that_was_closed_goes_on_where_it_was(browser: Any, study: Path, tmp_path: Path) -> None:
    visit = Visit(browser, study)
    for _ in range(2):
        visit.type("a", "1", "a", "1", "a", "1", "Enter")
    visit.open()
    assert "Pair 3 of 4" in visit.page.inner_text("header")
    for _ in range(2):
        visit.type("b", "1", "b", "1", "b", "1", "Enter")
    answers = read_answers([visit.save("csv", tmp_path)])
    visit.close()
    assert len({one.pair for one in answers}) == 4


def test_a_telephone_sees_all_of_it(browser: Any, study: Path) -> None:
    visit = Visit(browser, study, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = visit.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing reaches over the side"
    fields = [page.locator("fieldset").nth(k).bounding_box() for k in range(3)]
    assert fields[0]["y"] < fields[1]["y"] < fields[2]["y"], "questions one below another"
    assert all(
        label["height"] >= 32 for label in (page.locator(".scale label").nth(k).bounding_box() for k in range(8))
    )
    page.tap(".identity >> nth=0")
    assert page.locator(".region.on").count() == 2
    visit.close()
