"""What keeps a template bounded: a budget of time and bytes, and the measure of every value before costly work on it.

Jinja's sandbox keeps a template away from the interpreter, but not from `'a' * 10**9`, `x ~ x` in a loop, or a list
that holds another twice, forty levels deep. Here every operation first pays for the size of what it reads and makes.
Since no single operation on values of that size takes more than some milliseconds, looking at the clock between
operations is enough, and neither a watchdog thread nor a second process is needed.
"""

from __future__ import annotations

import re
import string
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined
from jinja2.utils import Namespace

MAX_SECONDS = 0.1  # of this thread's processor time, so that a busy machine does not fail a harmless template
MAX_BYTES = 64 << 20  # of all strings and lists ever made during one rendering
MAX_NODES = 200_000  # values inside one value, counted as often as they occur
MAX_DEPTH = 100
MAX_INT_BITS = 4096
MAX_RANGE = 100_000
MAX_WIDTH = 999  # of a formatted field
_OPERATIONS_PER_LOOK = 16
_BYTES_PER_LOOK = 1 << 16
_NODES_PER_LOOK = 1 << 12
_ELEMENT_BYTES = 8


class LimitError(Exception):
    """The template wants more time or memory than a template may have."""


class Budget:
    """What one rendering may still use."""

    __slots__ = ("_bytes_left", "_bytes_until_look", "_deadline", "_operations_until_look")

    def __init__(self) -> None:
        self._bytes_left = MAX_BYTES
        self._deadline = time.thread_time() + MAX_SECONDS
        self._operations_until_look = _OPERATIONS_PER_LOOK
        self._bytes_until_look = _BYTES_PER_LOOK

    def spend(self, num_bytes: int) -> None:
        """Pays for one operation on `num_bytes`; raises LimitError when nothing is left."""
        self._operations_until_look -= 1
        self._bytes_until_look -= num_bytes
        if self._operations_until_look > 0 and self._bytes_until_look > 0:
            return
        self.look()

    def look(self) -> None:
        """Raises LimitError when time or bytes are used up."""
        self._bytes_left -= _BYTES_PER_LOOK - self._bytes_until_look
        self._operations_until_look = _OPERATIONS_PER_LOOK
        self._bytes_until_look = _BYTES_PER_LOOK
        if self._bytes_left < 0:
            raise LimitError(f"it makes more than {MAX_BYTES >> 20} MiB of intermediate values")
        if time.thread_time() > self._deadline:
            raise LimitError(f"it takes longer than {MAX_SECONDS * 1000:.0f} ms")


_active: ContextVar[Budget] = ContextVar("miaotui_template_budget")


@contextmanager
def budget() -> Iterator[None]:
    """Everything inside shares one fresh budget."""
    token = _active.set(Budget())
    try:
        yield
    finally:
        _active.reset(token)


def spend(num_bytes: int) -> None:
    """Pays from the budget of the rendering that is going on; raises LimitError."""
    _active.get().spend(num_bytes)


def measure(value: object) -> tuple[int, int]:
    """Values inside `value`, itself included, and bytes of text in them; both as often as printing would visit them.

    Raises LimitError beyond MAX_NODES or MAX_DEPTH. Memory is shared between values, printing and comparing share
    nothing: `x = [x, x]`, forty times over, is 40 lists and a trillion values.
    """
    nodes, num_bytes, next_look = 0, 0, _NODES_PER_LOOK
    stack: list[Iterator[Any]] = [iter((value,))]
    while stack:
        for item in stack[-1]:
            nodes += 1
            if isinstance(item, str):
                num_bytes += len(item) if item.isascii() else 4 * len(item)
            elif (inner := _contents(item)) is not None:
                stack.append(iter(inner))
                break
        else:
            stack.pop()
        if nodes >= next_look:
            _active.get().look()
            next_look = nodes + _NODES_PER_LOOK
        if nodes > MAX_NODES or len(stack) > MAX_DEPTH:
            raise LimitError(f"it uses a value of more than {MAX_NODES} parts or {MAX_DEPTH} levels")
    return nodes, num_bytes


def _contents(value: Any) -> Iterable[Any] | None:
    """The values directly inside `value`."""
    if isinstance(value, dict):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, (list, tuple, set, frozenset, *_VIEWS)):
        return cast(Iterable[Any], value)
    if isinstance(value, Namespace):
        return list(object.__getattribute__(value, "_Namespace__attrs").values())
    return None


_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))


def weigh(value: Any) -> Any:
    """`value` itself, after paying for looking at all of it (comparing, hashing, searching)."""
    if isinstance(value, str):
        spend(len(value) >> 3)  # compared and searched many characters at a time
    elif value is not None and not isinstance(value, int | float):
        nodes, num_bytes = measure(value)
        spend(nodes * _ELEMENT_BYTES + (num_bytes >> 3))
    return value


def made(value: Any) -> Any:
    """`value` itself, after paying for having made it: all of a string, the references in a container."""
    if isinstance(value, str):
        spend(len(value) if value.isascii() else 4 * len(value))
    elif isinstance(value, int):
        if value.bit_length() > MAX_INT_BITS:
            raise LimitError(f"it makes a number of more than {MAX_INT_BITS} bits")
        spend(1)
    else:
        weigh(value)
    return value


def text_of(value: object) -> str:
    """What printing `value` writes; raises SecurityError for things that are no data, such as functions."""
    if isinstance(value, str):
        made(value)
        return value
    if value is None or isinstance(value, bool | int | float | Undefined):
        spend(1)
        return str(value)
    if isinstance(value, (dict, list, tuple, range, *_VIEWS)):
        nodes, num_bytes = measure(value)
        spend(32 * nodes + 10 * num_bytes)  # numbers become digits, characters may become \U000e0001
        return str(value)
    raise SecurityError(f"a value of type {type(value).__name__!r} cannot be printed")


def each(iterable: Iterable[Any]) -> Iterator[Any]:
    """The items one by one, each paid for; raises LimitError when there are too many."""
    for count, item in enumerate(iterable):
        if count >= MAX_NODES:
            raise LimitError(f"it goes through more than {MAX_NODES} values")
        spend(_ELEMENT_BYTES)
        yield item


def times(sequence: Any, count: int) -> Any:
    """`sequence * count` for a string, list or tuple, paid for before it is made."""
    size = len(sequence) * max(count, 0)
    if isinstance(sequence, str):
        spend(size if sequence.isascii() else 4 * size)
    else:
        spend(_ELEMENT_BYTES * size)
    return sequence * count


def power(base: Any, exponent: Any) -> Any:
    """`base ** exponent`, if that is not too long a number."""
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and exponent > 0 and base.bit_length() * exponent > MAX_INT_BITS:
        raise LimitError(f"it makes a number of more than {MAX_INT_BITS} bits")
    return base**exponent


def replaced(text: str, old: str, new: str, count: int = -1) -> str:
    """`text.replace(old, new, count)`, paid for before it is made."""
    found = text.count(old) if count < 0 else min(count, text.count(old))
    width = 1 if text.isascii() and new.isascii() else 4
    spend(width * (len(text) + found * len(new)))
    return text.replace(old, new, count)


def joined(separator: str, items: Iterable[Any]) -> str:
    """`separator.join(items)` with every item printed, paid for before it is made."""
    texts = [text_of(item) for item in each(items)]
    total = sum(map(len, texts)) + len(separator) * len(texts)
    spend(4 * total)
    return separator.join(texts)


_PERCENT_FIELD = re.compile(r"%(?:\(\w*\))?[#0\- +]*(?P<width>\*|\d*)(?:\.(?P<precision>\*|\d*))?[hlL]?.", re.DOTALL)


def percent(template: str, values: Any) -> str:
    """`template % values` without absurd widths, paid for before it is made."""
    num_fields = 0
    for field in _PERCENT_FIELD.finditer(template):
        num_fields += 1
        _check_width(field["width"] or "")
        _check_width(field["precision"] or "")
    _pay_for_fields(template, num_fields, values)
    return str(template % values)


def formatted(template: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """`template.format(*args, **kwargs)` with plain fields only: no attributes, no items, no absurd widths."""
    num_fields = 0
    for _, field, spec, _ in string.Formatter().parse(template):
        if field is None:
            continue
        num_fields += 1
        if not re.fullmatch(r"\w*", field) or "{" in (spec or ""):
            raise SecurityError(f"the format field {field!r:.40} is not allowed; only names and numbers are")
        for number in re.findall(r"\d+", spec or ""):
            _check_width(number)
    _pay_for_fields(template, num_fields, [*args, *kwargs.values()])
    return template.format(*args, **kwargs)


def _pay_for_fields(template: str, num_fields: int, values: Any) -> None:
    for value in values if isinstance(values, list | tuple) else [values]:
        if callable(value) or isinstance(value, Namespace):
            raise SecurityError(f"a value of type {type(value).__name__!r} cannot be printed")
    nodes, num_bytes = measure(values)
    spend(4 * len(template) + num_fields * (4 * MAX_WIDTH + 32 * nodes + 10 * num_bytes))


def _check_width(number: str) -> None:
    if number == "*" or len(number) > 3:
        raise LimitError("it formats a field wider than 999 characters")
