"""The filters and tests of chat templates: Jinja's own where their cost is known, each paid for before it runs.

Left out are filters that write HTML, that format for terminals, that draw at random, or that could not be bounded
(`center`, `urlize`, `slice`, `groupby`, `attr`, …). A template that uses one is refused, at the latest when it gets
there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import filters, tests
from jinja2.runtime import Context, Undefined
from jinja2.utils import pass_context

from miaotui.formats import chat_template_limits as limits

Function = Callable[..., Any]
MAX_INDENT = 64
MAX_BATCH = 10_000
_AS_IN_JINJA = """
    abs capitalize count d default dictsort first float int items last length list lower map max min reject rejectattr
    reverse select selectattr sort title truncate unique upper urlencode wordcount
"""
_COMPARING_TESTS = "== != < <= > >= eq equalto ne lt lessthan le gt greaterthan ge in divisibleby"
_PLAIN_TESTS = """
    boolean callable defined escaped even false float integer iterable lower mapping none number odd sameas sequence
    string true undefined upper
"""


def _paid(function: Function) -> Function:
    """The filter or test with its operands and its result paid for."""
    kind = getattr(getattr(function, "jinja_pass_arg", None), "name", "")

    @pass_context
    def run(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        for operand in (value, *args, *kwargs.values()):
            limits.weigh(operand)
        if isinstance(value, list | tuple | dict):
            limits.spend(8 * len(value) * len(value).bit_length())  # sorting compares that often
        passed = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        first = (passed[kind],) if kind else ()
        return limits.made(function(*first, value, *args, **kwargs))

    return run


def _batch(value: Any, linecount: int, fill_with: Any = None) -> Any:
    if not 0 < linecount <= MAX_BATCH:
        raise limits.LimitError(f"it makes batches of {linecount:.20g}; 1 to {MAX_BATCH} are allowed")
    return filters.do_batch(value, linecount, fill_with)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    size = width if isinstance(width, int) else len(width)
    limits.spend(4 * max(size, 0) * (text.count("\n") + 1))
    return filters.do_indent(text, width, first, blank)


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    if abs(precision) > 100:
        raise limits.LimitError("it rounds to more than 100 digits")
    return filters.do_round(value, precision, method)


@pass_context
def _join(context: Context, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        value = map(filters.make_attrgetter(context.environment, attribute), value)
    return limits.joined(limits.text_of(d), value)


@pass_context
def _sum(context: Context, iterable: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
    if attribute is not None:
        iterable = map(filters.make_attrgetter(context.environment, attribute), iterable)
    total = start
    for item in limits.each(iterable):  # lists are not added up: that copies the sum for each of them
        if not isinstance(total, int | float) or not isinstance(item, int | float):
            raise TypeError("only numbers can be summed")
        total = limits.made(total + item)
    return total


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = map(limits.text_of, (text, old, new))
    return limits.replaced(text, old, new, -1 if count is None else count)


def _format(template: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise TypeError("can't handle positional and keyword arguments at the same time")
    return limits.percent(limits.text_of(template), kwargs or args)


def _trim(text: Any, chars: str | None = None) -> str:
    stripped = limits.text_of(text)
    limits.spend(len(stripped) * len(chars or "") >> 4)
    return stripped.strip(chars)


def _escape(value: Any) -> str:
    from markupsafe import escape

    return str(limits.made(str(escape(limits.text_of(value)))))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As in transformers: plain JSON, in which no character is escaped for HTML."""
    nodes, num_bytes = limits.measure(value)
    width = len(indent) if isinstance(indent, str) else indent or 0
    between = sum(map(len, separators or ()))
    if not 0 <= width <= MAX_INDENT or between > MAX_INDENT:
        raise limits.LimitError(f"it indents or separates by more than {MAX_INDENT} characters")
    limits.spend(nodes * (32 + 4 * between + width * limits.MAX_DEPTH) + 6 * num_bytes)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _string(value: Any) -> str:
    return "" if isinstance(value, Undefined) else limits.text_of(value)


_OURS: dict[str, Function] = {
    "batch": _batch,
    "e": _escape,
    "escape": _escape,
    "format": _format,
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "round": _round,
    "safe": _string,  # there is no escaping to be safe from
    "string": _string,
    "sum": _sum,
    "tojson": _tojson,
    "trim": _trim,
}
_JINJA_FILTERS: dict[str, Any] = dict(filters.FILTERS)
_JINJA_TESTS: dict[str, Any] = dict(tests.TESTS)
FILTERS: dict[str, Function] = {
    **{name: _paid(_JINJA_FILTERS[name]) for name in _AS_IN_JINJA.split() if name not in _OURS},
    **{name: _paid(function) for name, function in _OURS.items()},
}
TESTS: dict[str, Function] = {
    **{name: _paid(_JINJA_TESTS[name]) for name in _COMPARING_TESTS.split()},
    **{name: _JINJA_TESTS[name] for name in _PLAIN_TESTS.split()},
}
