"""A measurement as one HTML file that needs nothing else: tables, remarks, charts; no scripts, all text escaped."""

from __future__ import annotations

from typing import Any

from miaotui.drawing import html
from miaotui.drawing.svg import escaped
from miaotui.load.charts import draw
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
    body = [html.pairs(facts(report)), *html.table(*overview(report)), *html.bullets(notes(report)), draw(report)]
    for run in report["runs"]:
        body += [f"<h2>{escaped(run['label'])}</h2>", *html.table(*latencies(run))]
    return html.page(f"{report['model']} under load", STYLE, body)
