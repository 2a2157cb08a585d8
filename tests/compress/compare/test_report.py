"""The document is JSON, and whatever is in it, tables, plots and page show it as it is."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from compress.compare.report import EVIL, NAMES, comparison, report
from miaotui.compress.compare.answers import Answer
from miaotui.compress.compare.document import document
from miaotui.compress.compare.page import DARK, LIGHT, page
from miaotui.compress.compare.plot import BOTTOM, HEIGHT, LEFT, NUM_COLORS, RIGHT, TOP, WIDTH, draw
from miaotui.compress.compare.quality import Quality
from miaotui.compress.compare.text import notes, tables

SVG = "{http://www.w3.org/2000/svg}"


class Seen(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_document_is_strict_json_with_the_figures() -> None:
    found = json.loads(json.dumps(report(), allow_nan=False))
    first, second, *_ = found["models"]
    assert first["quality"]["divergence"] is None
    assert second["quality"]["divergence"]["kl"] == {"value": 0.021, "low": 0.021 * 7 / 8, "high": 0.021 * 9 / 8}
    assert second["bits_per_weight"] == pytest.approx(8 * 398 / 494)
    assert [model["on_frontier"] for model in found["models"]] == [True, True, True, True]
    against = found["tasks"][0]["models"][NAMES[1]]["against_first"]
    assert set(against) == {"only_first_right", "only_this_right", "difference", "p_value"}
    assert found["answers"][0]["answers"][NAMES[1]]["agrees"] == 13


def test_a_model_that_is_beaten_in_all_is_not_on_the_frontier() -> None:
    found = comparison()
    speeds = list(found.speeds or ())
    speeds[2] = speeds[0]  # slower than the second, and now
    facts = list(found.facts)
    facts[2] = facts[0]  # larger, too
    found.speeds, found.facts = speeds, facts
    assert [model["on_frontier"] for model in document(found)["models"]] == [True, True, False, True]


def test_what_was_not_measured_is_null_and_left_out() -> None:
    bare = report(starts=None, speeds=None, quality=None, tasks=[], answers=None, is_whole=False)
    assert bare["models"][0]["speed"] is None
    assert bare["models"][0]["on_frontier"] is None
    assert [title for title, *_ in tables(bare)] == ["size"]
    assert any("Interrupted" in note for note in notes(bare))
    assert draw(bare) == []
    Seen(page(bare))
    alone = report(NAMES[:1])
    assert "KL" not in str(tables(alone))
    Seen(page(alone))


def test_unbounded_intervals_are_left_open() -> None:
    one = Quality((600.0,), (255,), (1000,), None, None, None)
    found = report(NAMES[:1], quality=[one])
    assert found["models"][0]["quality"]["ppl"]["high"] is None
    json.dumps(found, allow_nan=False)
    assert "10.5" in str(tables(found))
    draw(found)


def test_other_vocabularies_are_shown_by_bytes() -> None:
    other = Quality((600.0, 700.0), (255, 255), (1000, 1000), None, "b has another vocabulary than a", None)
    first = Quality((600.0, 650.0), (255, 255), (1000, 1000), None, None, None)
    found = report(NAMES[:2], quality=[first, other])
    shown = str(tables(found))
    assert "bits/byte" in shown
    assert "other vocabulary" in shown
    assert "b has another vocabulary than a" in notes(found)
    assert "bits per byte" in draw(found)[0]


def test_tables_say_what_is_real() -> None:
    shown = tables(report())
    assert [title.split(",")[0] for title, *_ in shown] == [
        "size",
        "speed",
        "quality",
        "planets: multiple choice by log-likelihood",
        "last words: the next word",
    ]
    for _, heads, rows in shown:
        assert all(len(row) == len(heads) for row in rows)
    text = str(shown)
    assert "not readable" in text
    assert re.search("worse|no more than chance|better", text)


def test_the_page_stands_alone_and_shows_hostile_text_as_text() -> None:
    names = (EVIL, "b")
    answers = [[Answer(EVIL, True, 0, True), Answer("x" + EVIL, True, 0, False)]]
    found = report(names, prompts=[EVIL], notes=[EVIL], answers=answers)
    html = page(found)
    seen = Seen(html)
    assert "script" not in seen.tags
    assert not seen.attributes & {"src", "href", "onload", "onclick", "srcset", "action"}
    assert "url(" not in html
    assert "@import" not in html
    assert seen.text.count("alert(") >= 8  # title, heading, legend, tables, prompt, answer, note
    assert {"table", "svg", "circle", "mark", "blockquote"} <= set(seen.tags)
    assert "<script" not in html


def test_pictures_are_xml_with_a_dot_for_each_model_and_a_frontier() -> None:
    pictures = draw(report())
    assert len(pictures) == 2
    for picture in pictures:
        drawing = ElementTree.fromstring(picture)
        assert len(list(drawing.iter(f"{SVG}circle"))) == 4
        assert len(list(drawing.iter(f"{SVG}polyline"))) == 1
        for circle in drawing.iter(f"{SVG}circle"):
            assert LEFT <= float(circle.get("cx", "")) <= WIDTH - RIGHT
            assert TOP <= float(circle.get("cy", "")) <= HEIGHT - BOTTOM
        texts = [element.text for element in drawing.iter(f"{SVG}text")]
        assert {"1", "2", "3", "4", "0"} <= set(texts)


def test_there_is_a_colour_for_day_and_night_each() -> None:
    assert len(LIGHT) == len(DARK) == NUM_COLORS
