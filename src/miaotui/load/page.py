"""A measurement as one HTML file that needs nothing else: tables, remarks, charts; no scripts, all text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from miaotui.load.charts import draw, escaped
from miaotui.load.text import facts, latencies, notes, overview

STYLE = """
body { font: 15px/1.5 sans-serif; color: #222; margin: 2em auto; max-width: 1140px; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: .25em .7em; text-align: right; }
th:first-child, td:first-child { text-align: left; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1em 1.5em; } dd { margin: 0; }
svg { max-width: 100%; height: auto; }
"""


def page(report: dict[str, Any]) -> str:
    """The whole document."""
    title = escaped(f"{report['model']} under load")
    pairs = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>\n" for name, value in facts(report))
    parts = [
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n<dl>\n{pairs}</dl>",
        *_table(*overview(report)),
        *_list(notes(report)),
        draw(report),
    ]
    for run in report["runs"]:
        parts += [f"<h2>{escaped(run['label'])}</h2>", *_table(*latencies(run))]
    return "\n".join([*parts, "</body>\n</html>\n"])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "<table>\n<tr>" + "".join(f"<th>{escaped(head)}</th>" for head in heads) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>"
    yield "</table>"


def _list(items: Sequence[str]) -> Iterator[str]:
    if items:
        yield "<ul>\n" + "\n".join(f"<li>{escaped(item)}</li>" for item in items) + "\n</ul>"
