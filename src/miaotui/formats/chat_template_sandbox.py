"""Jinja's immutable sandbox, narrowed to what chat templates need, with a bound on time and memory.

Three layers. The syntax tree: includes, imports and blocks are refused, and whatever the generated code would do
without asking the environment (loops, comparisons, literals, slices, `~`) is wrapped in filters that pay for it first.
The environment: operators, attributes and calls go through methods that know every type and method a template may use.
Filters and tests: a list of those whose cost is known. Everything else is an error that says so.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, UndefinedError
from jinja2.ext import LoopControlExtension
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace, pass_context

from miaotui.errors import ChatTemplateError
from miaotui.formats import chat_template_limits as limits
from miaotui.formats.chat_template import MAX_OUTPUT_CHARS
from miaotui.formats.chat_template_filters import FILTERS, TESTS
from miaotui.formats.chat_template_functions import FUNCTIONS, METHODS, call_method
from miaotui.formats.chat_template_syntax import GenerationExtension, date_formats, guard

MAX_SYNTAX_NODES = 10_000  # gpt-oss has 2,000; compiling 10,000 takes about a second

_LOOP_ATTRIBUTES = frozenset(
    {
        *("index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"),
        *("previtem", "nextitem", "cycle", "changed"),
    }
)
_HELPER_ATTRIBUTES = {Cycler: frozenset({"next", "reset", "current"}), LoopContext: _LOOP_ATTRIBUTES}
_HELPER_ATTRIBUTES[Macro] = frozenset({"name"})


class CompiledTemplate:
    """A template, ready to render; raises ChatTemplateError from every method."""

    def __init__(self, source: str) -> None:
        environment = _Environment()
        try:
            self._template = environment.from_string(source)
        except ChatTemplateError:
            raise
        except (TemplateError, limits.LimitError, SyntaxError, RecursionError, MemoryError, ValueError) as error:
            raise ChatTemplateError(
                f"the model's chat template cannot be used ({_describe(error)}); pass a template of your own."
            ) from error
        self.date_formats = environment.date_formats

    def render(self, variables: dict[str, Any]) -> str:
        """The text for these variables, which must be plain JSON values."""
        try:
            with limits.budget():
                return "".join(_bounded(self._template.generate(variables)))
        except RefusedError as error:
            raise ChatTemplateError(f"the model's chat template refuses these messages: {error!s:.500}") from error
        except limits.LimitError as error:
            raise ChatTemplateError(
                f"the model's chat template was stopped: {error}; shorten the messages or pass a template of your own."
            ) from error
        except UndefinedError as error:
            raise ChatTemplateError(
                f"the model's chat template needs something that the messages lack ({_describe(error)}); "
                "every message needs a role and a content, tools need a name and parameters."
            ) from error
        except Exception as error:
            raise ChatTemplateError(
                f"the model's chat template failed ({_describe(error)}); check roles and fields of the messages, "
                "or pass a template of your own."
            ) from error


class RefusedError(TemplateError):
    """The template called `raise_exception`."""


def _bounded(pieces: Iterator[str]) -> Iterator[str]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_OUTPUT_CHARS:
            raise limits.LimitError(f"it writes more than {MAX_OUTPUT_CHARS} characters")
        yield piece


def _describe(error: BaseException) -> str:
    where = f"line {line}: " if (line := getattr(error, "lineno", None)) else ""
    return f"{where}{type(error).__name__}: {error!s:.300}"


class _Environment(ImmutableSandboxedEnvironment):
    """The environment of all chat templates; settings and extensions as in transformers."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # nothing of a template runs while it is compiled, outside of any budget
            extensions=[LoopControlExtension, GenerationExtension],
            finalize=_finalize,
        )
        self.globals = {**FUNCTIONS, "raise_exception": _raise_exception}
        self.filters = {**FILTERS, **_PRIVATE_FILTERS}
        self.tests = dict(TESTS)
        self.date_formats: frozenset[str] | None = frozenset()

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        if sum(1 for _ in tree.find_all(nodes.Node)) > MAX_SYNTAX_NODES:
            raise limits.LimitError(f"it has more than {MAX_SYNTAX_NODES} parts")
        self.date_formats = date_formats(tree)
        guard(tree)
        tree.set_environment(self)
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Operators pay for what they make before they make it."""
        if operator == "*":
            if isinstance(left, str | list | tuple) and isinstance(right, int):
                return limits.times(left, right)
            if isinstance(right, str | list | tuple) and isinstance(left, int):
                return limits.times(right, left)
        elif operator == "**":
            return limits.power(left, right)
        elif operator == "%" and isinstance(left, str):
            return limits.percent(left, right)
        limits.made(left)
        limits.made(right)
        return limits.made(self.binop_table[operator](left, right))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A method that templates may call, an attribute of Jinja's own helpers, or the item of that name."""
        allowed = METHODS.get(type(obj))
        if allowed is None:
            return self._helper_attribute(obj, attribute)
        if attribute in allowed:
            return getattr(obj, attribute)
        if isinstance(obj, dict) and attribute in obj and not hasattr(obj, attribute):
            return obj[attribute]
        if hasattr(obj, attribute):
            return self.unsafe_undefined(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item; else, for strings, what `getattr` gives."""
        if isinstance(obj, Namespace):
            return self._attribute_or_undefined(obj, argument)
        if not isinstance(argument, str | int | float | bool | None | Undefined):
            raise SecurityError(f"a value of type {type(argument).__name__!r} is not an index")
        try:
            return obj[argument]
        except (TypeError, LookupError):
            return self._attribute_or_undefined(obj, argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls a macro, a function of ours, or a method of plain data that is known to be harmless."""
        limits.spend(1)
        if isinstance(__obj, Macro | Joiner | Undefined) or any(__obj is known for known in __self.globals.values()):
            return __context.call(__obj, *args, **kwargs)
        for scope in ("_loop_vars", "_block_vars"):  # the compiler passes them for functions that want the context
            kwargs.pop(scope, None)
        if isinstance(__obj, types.BuiltinMethodType) and __obj.__name__ in METHODS.get(type(__obj.__self__), ()):
            return call_method(__obj.__self__, __obj.__name__, args, kwargs)
        if isinstance(__obj, LoopContext):
            return __obj(*args)
        helper = getattr(__obj, "__self__", None)
        if isinstance(__obj, types.MethodType) and __obj.__name__ in _HELPER_ATTRIBUTES.get(type(helper), ()):
            return limits.weigh(__obj(*map(limits.weigh, args), **kwargs))
        raise SecurityError(f"a value of type {type(__obj).__name__!r} cannot be called")

    def _attribute_or_undefined(self, obj: Any, name: Any) -> Any:
        return self.getattr(obj, name) if isinstance(name, str) else self.undefined(obj=obj, name=name)

    def _helper_attribute(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Undefined):
            return obj[attribute]  # raises the error that says what is undefined
        if isinstance(obj, Namespace):
            return super().getattr(obj, attribute)
        if attribute in _HELPER_ATTRIBUTES.get(type(obj), ()):
            return getattr(obj, attribute)
        return self.unsafe_undefined(obj, attribute)


def _private(function: Callable[..., Any]) -> Callable[..., Any]:
    @pass_context
    def run(_context: Context, *args: Any) -> Any:
        return function(*args)

    return run


def _slice(value: Any, start: Any, stop: Any, step: Any) -> Any:
    return limits.made(value[slice(start, stop, step)])


def _key(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool | None):
        raise SecurityError(f"a value of type {type(value).__name__!r} is not a key")
    return value


def _pay(num_chars: int) -> str:
    limits.spend(num_chars)
    return ""


_PRIVATE_FILTERS = {
    "#pay": _private(_pay),
    "#text": _private(limits.text_of),
    "#weigh": _private(limits.weigh),
    "#slice": _private(_slice),
    "#key": _private(_key),
}


@pass_context
def _finalize(_context: Context, value: object) -> str:
    return limits.text_of(value)


def _raise_exception(message: object) -> None:
    raise RefusedError(limits.text_of(message))
