"""Text comes as early as stop strings allow, and ends exactly at the first of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.engine.text import TextStream

PIECES = st.lists(st.text("abc", max_size=4), max_size=12)
STOPS = st.lists(st.text("abc", min_size=1, max_size=4), max_size=3)


class Pieces:
    """Decoder for which token i is pieces[i]; `rest` comes at the end."""

    def __init__(self, pieces: list[str], rest: str = "") -> None:
        self.pieces, self.rest = pieces, rest

    def push(self, token_id: int) -> str:
        return self.pieces[token_id]

    def finish(self) -> str:
        return self.rest


def run(pieces: list[str], stop: list[str], *, include_stop: bool = False) -> tuple[TextStream, list[str]]:
    stream = TextStream(Pieces(pieces), stop, include_stop=include_stop)
    shown = []
    for token in range(len(pieces)):
        shown.append(stream.push(token))
        if stream.stopped_by is not None:
            break
    else:
        shown.append(stream.finish())
    return stream, shown


@given(PIECES, STOPS, st.booleans())
def test_text_without_stop_string_comes_whole_and_with_one_is_cut_there(
    pieces: list[str], stops: list[str], include: bool
) -> None:
    whole = "".join(pieces)
    stream, shown = run(pieces, stops, include_stop=include)
    assert "".join(shown) == stream.text
    if not any(stop in whole for stop in stops):
        assert (stream.text, stream.stopped_by) == (whole, None)
    else:
        stop = stream.stopped_by
        assert stop in stops
        body = stream.text.removesuffix(stop) if include else stream.text
        assert whole.startswith(body + stop)
        assert not any(other in body for other in stops)


@given(PIECES.filter(bool), STOPS)
def test_only_a_possible_beginning_of_a_stop_string_is_held_back(pieces: list[str], stops: list[str]) -> None:
    stream = TextStream(Pieces(pieces), stops)
    so_far = ""
    for token, piece in enumerate(pieces):
        stream.push(token)
        if stream.stopped_by is not None:
            return
        so_far += piece
        held = so_far.removeprefix(stream.text)
        longest = max((n for s in stops for n in range(len(s)) if so_far.endswith(s[:n])), default=0)
        assert len(held) == longest


def test_pieces_split_anywhere_stop_at_the_same_place() -> None:
    for split in range(1, 8):
        text = "say END now"
        stream, _ = run([text[:split], *text[split:]], ["END"])
        assert (stream.text, stream.stopped_by) == ("say ", "END")


def test_the_earliest_of_several_stop_strings_wins() -> None:
    stream, _ = run(["one two three"], ["three", "two"])
    assert (stream.text, stream.stopped_by) == ("one ", "two")


def test_text_before_min_tokens_holds_no_stop_string() -> None:
    stream = TextStream(Pieces(["a", "STOP", "b", "STOP"]), ["STOP"])
    shown = [stream.push(0, may_stop=False), stream.push(1, may_stop=False), stream.push(2), stream.push(3)]
    assert shown == ["a", "STOP", "b", ""]
    assert stream.stopped_by == "STOP"


@pytest.mark.parametrize(("rest", "text"), [("!", "x!"), ("", "x"), ("Z", "x")])
def test_the_last_bytes_count_too(rest: str, text: str) -> None:
    stream = TextStream(Pieces(["x"], rest), ["Z"])
    stream.push(0)
    stream.finish()
    assert stream.text == text
    assert stream.stopped_by == ("Z" if rest == "Z" else None)
