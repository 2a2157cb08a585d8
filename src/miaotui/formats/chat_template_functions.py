"""What chat templates may call: a few functions, and the methods of plain data whose cost is known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.utils import Cycler, Joiner, Namespace

from miaotui.formats import chat_template_limits as limits

_STR_TESTS = (
    "isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper"
)
_STR_CHANGES = "capitalize casefold lower swapcase title upper removeprefix removesuffix strip lstrip rstrip replace"
_STR_SEARCHES = "count endswith find index rfind rindex startswith"
_STR_PARTS = "partition rpartition split rsplit splitlines join format"
METHODS: dict[type, frozenset[str]] = {
    str: frozenset(f"{_STR_TESTS} {_STR_CHANGES} {_STR_SEARCHES} {_STR_PARTS}".split()),
    dict: frozenset({"copy", "get", "items", "keys", "values"}),
    list: frozenset({"copy", "count", "index"}),
    tuple: frozenset({"count", "index"}),
    range: frozenset({"count", "index"}),
    int: frozenset(),
    float: frozenset({"is_integer"}),
    bool: frozenset(),
    type(None): frozenset(),
}
MAX_DATE_FORMAT = 256
# For every character of the text these may look at every character of their argument.
_SEARCH_BACKWARDS = frozenset({"rfind", "rindex", "rsplit", "rpartition", "strip", "lstrip", "rstrip"})


def call_method(owner: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """`owner.name(*args, **kwargs)` for a method in METHODS, paid for; raises LimitError, or what the method raises."""
    if isinstance(owner, str):
        return _call_str_method(owner, name, args, kwargs)
    if isinstance(owner, dict) and name == "get":
        for arg in args:
            limits.weigh(arg)
    else:
        limits.weigh(owner)
    return getattr(owner, name)(*args, **kwargs)


def _call_str_method(owner: str, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if name == "replace":
        return limits.replaced(owner, *args, **kwargs)
    if name == "format":
        return limits.formatted(owner, args, kwargs)
    if name == "join":
        (items,) = args
        texts = [*limits.each(items)]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("join() takes strings only")
        return limits.joined(owner, texts)
    limits.made(owner)
    for arg in args:
        limits.weigh(arg)
        if name in _SEARCH_BACKWARDS and isinstance(arg, str):
            limits.spend(len(owner) * len(arg) >> 4)
    return limits.made(getattr(owner, name)(*args, **kwargs))


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    try:
        short = len(numbers) <= limits.MAX_RANGE
    except OverflowError:
        short = False
    if not short:
        raise limits.LimitError(f"it counts through a range of more than {limits.MAX_RANGE} numbers")
    return numbers


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*map(limits.weigh, args), **kwargs)


class _Namespace(Namespace):
    """Jinja's namespace, without attributes that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self = args[0]
        attributes = _dict(*args[1:], **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold an attribute named {name!r:.40}")


def _strftime_now(format: str) -> str:
    if len(format) > MAX_DATE_FORMAT:
        raise limits.LimitError(f"it formats the date at a length of more than {MAX_DATE_FORMAT} characters")
    return str(limits.made(datetime.now().strftime(format)))


def dates_now(formats: Collection[str] | None) -> tuple[str, ...]:
    """What `strftime_now` writes in these formats at the moment; the moment itself where they are not known."""
    now = datetime.now()
    if formats is None or any(len(format) > MAX_DATE_FORMAT for format in formats):
        return (now.isoformat(),)
    try:
        return tuple(now.strftime(format) for format in sorted(formats))
    except ValueError:  # half a surrogate pair
        return (now.isoformat(),)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "range": _range,
    "dict": _dict,
    "namespace": _Namespace,
    "cycler": Cycler,
    "joiner": Joiner,
    "strftime_now": _strftime_now,
}
