"""Where the first JSON value in a text ends, found as the text comes: for answers that are JSON without a grammar."""

from __future__ import annotations

from enum import Enum, auto

MAX_DEPTH = 256
"""What is nested more deeply counts as text: few readers would take it."""
MAX_BEHIND = 16
"""Blanks between a value and the fence that closes it, at most."""
FENCE = "```"
BLANKS = " \t\n\r"

_CLOSING = {"{": "}", "[": "]"}
_ESCAPED = frozenset('"\\/bfnrt')
_LITERALS = {"t": "rue", "f": "alse", "n": "ull"}
_DIGITS = "0123456789"
_FRACTION_OR_POWER = {".": "point", "e": "exponent", "E": "exponent"}
_NUMBER: dict[str, dict[str, str]] = {
    "minus": {"0": "zero", **dict.fromkeys("123456789", "whole")},
    "zero": _FRACTION_OR_POWER,
    "whole": {**dict.fromkeys(_DIGITS, "whole"), **_FRACTION_OR_POWER},
    "point": dict.fromkeys(_DIGITS, "fraction"),
    "fraction": {**dict.fromkeys(_DIGITS, "fraction"), "e": "exponent", "E": "exponent"},
    "exponent": {**dict.fromkeys(_DIGITS, "power"), **dict.fromkeys("+-", "sign")},
    "sign": dict.fromkeys(_DIGITS, "power"),
    "power": dict.fromkeys(_DIGITS, "power"),
}
"""What part of a number (RFC 8259, section 6) follows on which, by the sign that comes."""
_WHOLE_NUMBERS = frozenset({"zero", "whole", "fraction", "power"})


class _Expected(Enum):
    """What may come next within a value."""

    VALUE = auto()
    VALUE_OR_END = auto()
    KEY = auto()
    KEY_OR_END = auto()
    COLON = auto()
    COMMA_OR_END = auto()
    STRING = auto()
    ESCAPE = auto()
    HEX = auto()
    LITERAL = auto()
    NUMBER = auto()


class JsonReader:
    """Reads one object or array sign by sign, as RFC 8259 has it; what it keeps is as long as the value is deep.

    Raises nothing: `push` says None at the first sign that cannot belong to such a value.
    """

    def __init__(self, opening: str) -> None:
        self._open = [opening]
        self._expected = _Expected.KEY_OR_END if opening == "{" else _Expected.VALUE_OR_END
        self._is_key = False
        self._left = ""  # of a literal, or as many signs as hexadecimal digits are wanted
        self._number = ""

    def push(self, sign: str) -> bool | None:
        """Whether the value has ended with this sign; None: it is not JSON."""
        expected = self._expected
        if expected is _Expected.STRING:
            return self._in_string(sign)
        if expected is _Expected.NUMBER:
            state = _NUMBER[self._number].get(sign)
            if state is not None:
                self._number = state
                return False
            if self._number not in _WHOLE_NUMBERS:
                return None
            self._expected = expected = _Expected.COMMA_OR_END
        if expected in (_Expected.ESCAPE, _Expected.HEX, _Expected.LITERAL):
            return self._in_pieces(sign)
        return False if sign in BLANKS else self._between(sign)

    def _in_string(self, sign: str) -> bool | None:
        if sign == '"':
            self._expected = _Expected.COLON if self._is_key else _Expected.COMMA_OR_END
        elif sign == "\\":
            self._expected = _Expected.ESCAPE
        elif sign < " ":
            return None
        return False

    def _in_pieces(self, sign: str) -> bool | None:
        """What comes behind a backslash, or behind the first letter of true, false and null."""
        if self._expected is _Expected.ESCAPE:
            if sign not in _ESCAPED and sign != "u":
                return None
            self._left, self._expected = ("0000", _Expected.HEX) if sign == "u" else ("", _Expected.STRING)
            return False
        if self._expected is _Expected.HEX:
            if sign not in "0123456789abcdefABCDEF":
                return None
        elif sign != self._left[0]:
            return None
        self._left = self._left[1:]
        if not self._left:
            self._expected = _Expected.STRING if self._expected is _Expected.HEX else _Expected.COMMA_OR_END
        return False

    def _between(self, sign: str) -> bool | None:
        """A sign that is no blank, outside of strings, numbers and literals."""
        expected = self._expected
        may_end = expected in (_Expected.VALUE_OR_END, _Expected.KEY_OR_END, _Expected.COMMA_OR_END)
        if may_end and sign == _CLOSING[self._open[-1]]:
            self._open.pop()
            self._expected = _Expected.COMMA_OR_END
            return not self._open
        if expected is _Expected.COMMA_OR_END and sign == ",":
            self._expected = _Expected.KEY if self._open[-1] == "{" else _Expected.VALUE
        elif expected is _Expected.COLON and sign == ":":
            self._expected = _Expected.VALUE
        elif expected in (_Expected.KEY, _Expected.KEY_OR_END) and sign == '"':
            self._is_key, self._expected = True, _Expected.STRING
        elif expected in (_Expected.VALUE, _Expected.VALUE_OR_END):
            return self._begin(sign)
        else:
            return None
        return False

    def _begin(self, sign: str) -> bool | None:
        """The first sign of a value."""
        if sign in _CLOSING:
            if len(self._open) >= MAX_DEPTH:
                return None
            self._open.append(sign)
            self._expected = _Expected.KEY_OR_END if sign == "{" else _Expected.VALUE_OR_END
        elif sign == '"':
            self._is_key, self._expected = False, _Expected.STRING
        elif sign in _LITERALS:
            self._left, self._expected = _LITERALS[sign], _Expected.LITERAL
        elif sign == "-" or sign in _DIGITS:
            self._number = {"-": "minus", "0": "zero"}.get(sign, "whole")
            self._expected = _Expected.NUMBER
        else:
            return None
        return False


class JsonEnd:
    """Watches a text for the end of its first JSON object or array.

    What stands before it is text, and so is a bracket that turns out not to begin JSON, with all that was read of it.
    Where a fence (```) opens the value's block, the fence that closes it belongs to the answer.
    """

    reason = "json"

    def __init__(self) -> None:
        self.end: int | None = None
        self._num_signs = 0
        self._reader: JsonReader | None = None
        self._is_fenced = False
        self._line = ""  # the beginning of the line under way, or of the fence's line before
        self._value_end = 0
        self._behind: str | None = None  # what came behind a fenced value

    def push(self, text: str) -> int:
        """How many signs at the end of all text so far may turn out to lie behind the end; sets `end` once it is known.

        end: the number of signs of the whole answer. Nothing may be pushed behind it.
        """
        for sign in text:
            self._num_signs += 1
            if self._behind is not None:
                self._close(sign)
            elif self._reader is not None:
                self._read(self._reader, sign)
            else:
                self._look(sign)
            if self.end is not None:
                return 0
        return 0 if self._behind is None else self._num_signs - self._value_end

    def finish(self, *, cut: bool) -> None:
        """A value that still waits for its closing fence is complete without, whether more would have come or not."""
        if self._behind is not None:
            self.end = self._value_end

    def _look(self, sign: str) -> None:
        """Outside of a value."""
        if sign in _CLOSING:
            self._reader = JsonReader(sign)
            return
        if sign == "\n":
            self._is_fenced = self._line.startswith(FENCE) or (self._is_fenced and not self._line)
            self._line = ""
        elif sign not in BLANKS or self._line:
            self._line = (self._line + sign)[: len(FENCE)]

    def _read(self, reader: JsonReader, sign: str) -> None:
        """Within a value, or what looks like one."""
        ended = reader.push(sign)
        if ended is None:
            self._reader = None
            self._line, self._is_fenced = "text", False
            self._look(sign)
        elif ended:
            self._value_end = self._num_signs
            if (self._is_fenced and not self._line) or self._line == FENCE:
                self._behind = ""
            else:
                self.end = self._value_end

    def _close(self, sign: str) -> None:
        """Behind a fenced value: its fence, or the answer ends with the value."""
        self._behind = (self._behind or "") + sign
        fence = self._behind.lstrip(BLANKS)
        if fence == FENCE:
            self.end = self._num_signs
        elif not FENCE.startswith(fence) or len(self._behind) > MAX_BEHIND + len(FENCE):
            self.end = self._value_end
