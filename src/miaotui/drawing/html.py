"""What pages of every kind are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from miaotui.drawing.svg import escaped


def page(title: str, style: str, body: Iterable[str], *, head: str = "") -> str:
    """One HTML file that needs nothing else, and that the browser lets fetch nothing and run nothing."""
    shown = escaped(title)
    return "\n".join(
        [
            f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{shown}</title>{head}',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<style>{style}</style></head>\n<body>\n<main>\n<h1>{shown}</h1>",
            *body,
            "</main>\n</body>\n</html>\n",
        ]
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of texts."""
    yield "<table>\n<tr>" + "".join(f"<th>{escaped(head)}</th>" for head in heads) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>"
    yield "</table>"


def bullets(items: Sequence[str]) -> Iterator[str]:
    """A list of texts; nothing where there are none."""
    if items:
        yield "<ul>\n" + "\n".join(f"<li>{escaped(item)}</li>" for item in items) + "\n</ul>"


def pairs(items: Iterable[tuple[str, str]]) -> str:
    """Names and values."""
    return "<dl>\n" + "".join(f"<dt>{escaped(n)}</dt><dd>{escaped(v)}</dd>\n" for n, v in items) + "</dl>"
