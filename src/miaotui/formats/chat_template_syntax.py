"""What a chat template's syntax tree may hold, and where it has to pay for what it does."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer

from miaotui.errors import ChatTemplateError

_ALLOWED: tuple[type[nodes.Node], ...] = (
    *(nodes.Template, nodes.Output, nodes.For, nodes.If, nodes.Macro, nodes.CallBlock, nodes.FilterBlock),
    *(nodes.With, nodes.Scope, nodes.Assign, nodes.AssignBlock, nodes.Break, nodes.Continue, nodes.Expr, nodes.Helper),
)


_CLOCK = "strftime_now"


class GenerationExtension(Extension):
    """`{% generation %}` marks the assistant's part for training; here it is only a scope."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """The body alone."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def guard(tree: nodes.Template) -> None:
    """Rewrites the tree in place, before it is compiled; raises ChatTemplateError for syntax that is not allowed."""
    _Guard().generic_visit(tree)


def date_formats(tree: nodes.Template) -> frozenset[str] | None:
    """The formats that a tree, not guarded yet, gives to `strftime_now`; None where they may be others, too."""
    mentions = sum(name.name == _CLOCK for name in tree.find_all(nodes.Name))
    questions = sum(test.name == "defined" and _is_clock(test.node) for test in tree.find_all(nodes.Test))
    calls = [call for call in tree.find_all(nodes.Call) if _is_clock(call.node) and len(call.args) == 1]
    formats = [call.args[0].value for call in calls if isinstance(call.args[0], nodes.Const) and not _extras(call)]
    if mentions != questions + len(formats) or not all(isinstance(format, str) for format in formats):
        return None
    return frozenset(formats)


def _is_clock(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == _CLOCK


def _extras(call: nodes.Call) -> bool:
    return bool(call.kwargs or call.dyn_args or call.dyn_kwargs)


class _Guard(NodeTransformer):
    """Wraps everything that generated code would do by itself, and refuses syntax that chat templates don't need."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if not isinstance(node, _ALLOWED):
            raise ChatTemplateError(
                f"line {node.lineno} of the model's chat template uses {type(node).__name__!r}, which chat templates "
                "may not do; pass a template of your own."
            )
        return super().generic_visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._pay_at_start(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._pay_at_start(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._pay_at_start(node)

    def _pay_at_start(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        """Whenever the body runs, it pays for the literal text in it, and the clock is looked at."""
        text = nodes.Const(_num_literal_chars(node.body))
        self.generic_visit(node)
        node.body.insert(0, nodes.Output([_filter("#pay", text)]).set_lineno(node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_filter("#text", part) for part in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.expr, nodes.Const):  # comparing with a literal costs next to nothing
            node.expr = _filter("#weigh", node.expr)
        for operand in node.ops:
            if not isinstance(operand.expr, nodes.Const):
                operand.expr = _filter("#weigh", operand.expr)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filter("#weigh", node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filter("#weigh", node) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        for pair in node.items:
            pair.key = _filter("#key", pair.key)
        return _filter("#weigh", node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return _filter("#slice", node.node, *(nodes.Const(None) if bound is None else bound for bound in bounds))


def _filter(name: str, node: Any, *args: nodes.Expr) -> nodes.Filter:
    wrapped = nodes.Filter(node, name, list(args), [], None, None)
    wrapped.set_lineno(node.lineno)
    return wrapped


def _num_literal_chars(body: list[nodes.Node]) -> int:
    return sum(len(data.data) for node in body for data in node.find_all(nodes.TemplateData))
