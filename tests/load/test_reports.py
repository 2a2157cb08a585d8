"""Reports of a measurement with everything in it, and with hostile text."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from miaotui.load.charts import draw
from miaotui.load.outcome import Fault, Outcome
from miaotui.load.page import page
from miaotui.load.report import NUM_POINTS, distribution, document, remarks, throughput
from miaotui.load.session import Level, LoadOptions, Measurement, Run
from miaotui.load.shapes import Shape, fixed
from miaotui.load.statistics import Slo
from miaotui.load.target import Target
from miaotui.load.text import facts, latencies, notes, overview, rate, seconds

EVIL = "<script>alert('&\"')</script>\x00"


def answer(due_s: float, output_tokens: int = 3, **more: Any) -> Outcome:
    times = [due_s + 1, due_s + 1.5, due_s + 2]
    figures = {"prompt_tokens": 8, "output_tokens": output_tokens, "content_s": times, "end_s": due_s + 2}
    figures |= {"shape": Shape(8, 3), "due_s": due_s, "sent_s": due_s}
    return Outcome(**(figures | more))


def measured(*runs: tuple[Level, list[Outcome]], model: str = "m", **options: Any) -> dict[str, Any]:
    made = [Run(level, 0.0, 0.0, outcomes, 0.25, is_whole=True) for level, outcomes in runs]
    levels = tuple(level for level, _ in runs)
    loads = LoadOptions("http://h", fixed(8, 3), levels, **options)
    return document(Measurement(loads, Target("http://h", model), runs=made), Slo(ttft=2), is_whole=True)


@pytest.fixture
def report() -> dict[str, Any]:
    return measured(
        (Level(clients=1), [answer(0), answer(2)]),
        (Level(clients=4), [answer(0), answer(1), Outcome(Shape(8, 3), 0, 0, 1, fault=Fault("http_500", EVIL))]),
        model=EVIL,
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_document_is_json_with_the_figures(report: dict[str, Any]) -> None:
    first, second = json.loads(json.dumps(report, allow_nan=False))["runs"]
    assert (first["label"], first["clients"], first["num_ok"]) == ("1 client", 1, 2)
    assert first["elapsed_s"] == 4
    assert first["output_tokens_per_s"] == 1.5
    assert first["client_cpu_share"] == 0.0625
    assert first["ttft_s"]["p50"] == 1
    assert second["errors"]["http_500"]["count"] == 1
    assert first["goodput_per_s"] == 0.5


def test_the_page_stands_alone_and_shows_hostile_text_as_text(report: dict[str, Any]) -> None:
    report["runs"][0]["label"] = EVIL
    html = page(report)
    seen = Tags()
    seen.feed(html)
    assert "script" not in seen.tags
    assert {"table", "svg", "polyline", "circle"} <= set(seen.tags)
    assert not {name for name, _ in seen.attributes} & {"src", "href", "onload", "onclick"}
    assert seen.text.count("alert(") >= 7  # title, heading, chart, legend, table, error, section
    assert "<script" not in html
    for word in ("4 clients", "http_500", "first token", "tool's CPU"):
        assert word in seen.text


def test_the_picture_is_xml_with_a_line_for_each_run_and_the_sweep(report: dict[str, Any]) -> None:
    report["model"] = "<a & b>"
    drawing = ElementTree.fromstring(draw(report))
    space = "{http://www.w3.org/2000/svg}"
    texts = [element.text or "" for element in drawing.iter(f"{space}text")]
    assert any("<a & b>" in text for text in texts)
    assert "output tokens a second over clients" in texts
    assert len(list(drawing.iter(f"{space}polyline"))) == 3 * 2 + 1 + 2
    alone = draw(report | {"runs": report["runs"][:1]})
    assert "over clients" not in alone


def test_pictures_have_no_characters_that_xml_forbids(report: dict[str, Any]) -> None:
    ElementTree.fromstring(draw(report))


def test_a_run_without_a_single_answer_is_drawn_and_told() -> None:
    failed = Outcome(Shape(8, 3), 0, 0, 1, fault=Fault("timeout", "no end"))
    report = measured((Level(rate=2), [failed]), (Level(rate=4), []))
    assert "nothing was measured" in draw(report)
    assert "2 req/s poisson: 1 × timeout: no end" in notes(report)
    assert "unknown a request" in dict(facts(report))["output tokens"]
    Tags().feed(page(report))
    assert overview(report)[1][0][:4] == ["2 req/s poisson", "0", "1", "0.00"]
    assert latencies(report["runs"][0])[1][0][0] == "sent late by"


def test_what_a_reader_must_know_is_said(report: dict[str, Any]) -> None:
    def said(*outcomes: Outcome, **changes: Any) -> str:
        return " ".join(remarks(measured((Level(clients=1), list(outcomes))) | {"scale_source": "usage"} | changes))

    assert said(answer(0)) == ""
    assert "Interrupted" in said(answer(0), is_whole=False)
    assert "no token counts" in said(answer(0), scale_source="guess")
    assert "pieces of text" in said(answer(0, counted_by="pieces"))
    assert "2.0 tokens instead of 3.0" in said(answer(0, output_tokens=2))
    assert "prompts had 20.0 tokens" in said(answer(0, prompt_tokens=20))
    assert "1 of 1 requests were shortened" in said(answer(0, shape=Shape(8, 3, capped=True)))
    assert "3.00 s late" in said(answer(0, sent_s=3))
    assert "429" in said(answer(0), Outcome(Shape(8, 3), 0, 0, 1, fault=Fault("http_429")))


def test_prompts_with_a_shared_prefix_are_as_long_as_they_should_be() -> None:
    report = measured((Level(clients=1), [answer(0, prompt_tokens=28)]), shared_prefix_tokens=20)
    assert remarks(report | {"scale_source": "usage"}) == []


def test_distributions_are_thinned_but_keep_their_ends() -> None:
    assert distribution([]) == []
    assert distribution([3, 1]) == [[1, 0.5], [3, 1]]
    points = distribution([float(value) for value in range(10_000)])
    assert len(points) <= NUM_POINTS + 2
    assert points[-1] == [9999, 1]
    assert points == sorted(points)


def test_throughput_over_time_adds_up_to_all_tokens() -> None:
    outcomes = [answer(0, output_tokens=6), answer(3)]
    points = throughput(outcomes, 0, 5)
    span_s = points[1][0] - points[0][0]
    assert sum(count * span_s for _, count in points) == pytest.approx(9)
    assert throughput([], 0, 5) == []


def test_numbers_are_short() -> None:
    assert [seconds(value) for value in (None, 0.01234, 1.2345, 123.4)] == ["–", "12.3 ms", "1.23 s", "123 s"]
    assert [rate(value) for value in (None, 1.234, 12.34, 123.4)] == ["–", "1.23", "12.3", "123"]
