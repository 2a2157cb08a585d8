"""Event streams, whole and hostile, read from the pieces in which they came."""

from __future__ import annotations

import json

import pytest

from load.fake_server import DONE, event, piece, usage
from miaotui.load.outcome import Outcome
from miaotui.load.shapes import Shape
from miaotui.load.stream import error_text, read_stream

GOOD = [piece(""), piece("a"), piece("b"), usage(7, 5, miaotui={"queue_ms": 250}), DONE]


def read(*reads: tuple[float, bytes], content_type: str = "text/event-stream") -> Outcome:
    outcome = Outcome(Shape(1, 1), 0, 0)
    read_stream(reads, outcome, content_type)
    return outcome


def kind_of(*parts: bytes, content_type: str = "text/event-stream") -> str | None:
    fault = read(*enumerate(parts), content_type=content_type).fault
    return fault.kind if fault else None


def test_times_are_those_of_the_reads_and_counts_those_of_usage() -> None:
    outcome = read(*((10.0 + number, part) for number, part in enumerate(GOOD)))
    assert outcome.fault is None
    assert outcome.content_s == [11, 12]  # the empty piece with the role is no text
    assert (outcome.prompt_tokens, outcome.output_tokens, outcome.counted_by) == (7, 5, "usage")
    assert outcome.queue_s == 0.25


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_any_cut_of_the_bytes_gives_the_same_and_an_event_has_the_time_of_its_last_byte(end: bytes) -> None:
    data = b"".join(GOOD).replace(b"\n\n", end)
    last_of_a = data.index(end, data.index(b'"a"')) + len(end)
    for cut in range(1, len(data)):
        outcome = read((1, data[:cut]), (2, data[cut:]))
        assert outcome.fault is None
        assert outcome.output_tokens == 5
        assert outcome.content_s[0] == (1 if cut >= last_of_a else 2)
    assert read(*((at, data[at : at + 1]) for at in range(len(data)))).output_tokens == 5


def test_without_usage_pieces_are_counted_and_it_is_said() -> None:
    outcome = read((1, piece("a") + piece("") + piece("b", usage=None) + DONE))
    assert (outcome.output_tokens, outcome.counted_by, outcome.prompt_tokens) == (2, "pieces", None)


def test_other_forms_of_text_comments_and_cached_tokens() -> None:
    thought = event({"choices": [{"delta": {"reasoning_content": "hm", "content": None}}]})
    plain = event({"choices": [{"text": "b", "finish_reason": None}], "unknown": [1]})
    details = {"choices": [], "usage": {"completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}}
    outcome = read((1, b": still reading\n\nevent: x\nid: 3\n"), (2, thought), (3, plain), (4, event(details) + DONE))
    assert outcome.fault is None
    assert outcome.content_s == [2, 3]
    assert outcome.cached_tokens == 4


def test_a_finish_reason_ends_an_answer_like_done() -> None:
    last = event({"choices": [{"delta": {}, "finish_reason": "length"}]})
    assert kind_of(piece("a"), last) is None
    assert kind_of(piece("a")) == "cut_short"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (piece("a") + event({"error": {"message": "no memory"}}) + DONE, "stream_error"),
        (piece("a") + b"data: {nonsense\n\n" + DONE, "invalid_event"),
        (b"data: " + b"[" * 100_000 + b"\n\n" + DONE, "invalid_event"),
        (b"data: \xff\xfe\n\n", "invalid_event"),
        (b"data: [1]\n\n", "invalid_event"),
        (event({"choices": [{"delta": {"content": 7}}]}), "invalid_event"),
        (usage(-1, 5), "invalid_event"),
        (usage(1, 10**30), "invalid_event"),
        (b"", "cut_short"),
        (b"data: ", "cut_short"),
        (piece("") + usage(3, 0) + DONE, "empty"),
        (DONE, "empty"),
    ],
)  # fmt: skip
def test_hostile_streams_are_faults_by_kind(data: bytes, kind: str) -> None:
    assert kind_of(data) == kind


def test_what_is_no_stream_is_named_but_a_wrong_type_alone_does_no_harm() -> None:
    whole = json.dumps({"choices": [{"message": {"content": "hi"}}]}, indent=1).encode()
    assert kind_of(whole, content_type="application/json") == "not_a_stream"
    assert kind_of(b"<html>", content_type="") == "not_a_stream"
    assert kind_of(piece("a"), DONE, content_type="text/plain") is None


def test_messages_of_errors_in_all_forms_are_short() -> None:
    assert error_text({"message": "m", "code": 1}) == "m"
    assert error_text("text") == "text"
    assert error_text({"detail": 1}) == "{'detail': 1}"
    assert len(error_text("x" * 10_000)) == 300
