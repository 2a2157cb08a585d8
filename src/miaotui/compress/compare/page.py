"""A comparison as one HTML file that needs nothing else, by day and by night, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from miaotui.compress.compare.plot import NUM_COLORS, draw
from miaotui.compress.compare.text import facts, notes, same_words, tables
from miaotui.drawing import html
from miaotui.drawing.svg import escaped

LIGHT = ("#3454c5", "#b4540a", "#1f7a34", "#c0143c", "#7d1a9e", "#0b7285", "#7a4d1a", "#5f6410")
DARK = ("#8ea4f4", "#f2a266", "#6fce84", "#f5849b", "#d59aec", "#5fcfe0", "#d3a877", "#c3c95f")

STYLE = (
    """
:root { color-scheme: light dark; --paper: light-dark(#fff, #14161a); --ink: light-dark(#1e2126, #e9e7e2);
  --muted: light-dark(#5c6068, #a3a9b3); --line: light-dark(#e0ddd6, #2d3138); --wash: light-dark(#f6f4ef, #1b1e24);
"""
    + "".join(f"  --c{n}: light-dark({a}, {b});\n" for n, (a, b) in enumerate(zip(LIGHT, DARK, strict=True)))
    + """}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 68rem; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem; margin: 0; }
dt { color: var(--muted); } dd { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem; text-align: right; white-space: nowrap; }
th { color: var(--muted); font-weight: 500; }
th:first-child, td:first-child { text-align: left; padding-left: 0; position: sticky; left: 0;
  background: var(--paper); max-width: min(45vw, 17rem); overflow: hidden; text-overflow: ellipsis; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; font-family: inherit; }
.names { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
.names i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .4em; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: .8rem; }
.answers > div { background: var(--wash); border-radius: .5rem; padding: .6rem .8rem; }
.answers b { display: block; } .answers small { color: var(--muted); }
pre { white-space: pre-wrap; font: inherit; margin: .4rem 0 0; }
blockquote { margin: 1.2rem 0 .5rem; padding-left: .8rem; border-left: 3px solid var(--c0); white-space: pre-wrap; }
mark { background: none; color: inherit; text-decoration: underline; text-decoration-color: var(--c1);
  text-decoration-thickness: 2px; text-underline-offset: 3px; }
ul.notes { color: var(--muted); padding-left: 1.2rem; }
"""
)
VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'


def page(report: Mapping[str, Any]) -> str:
    """The whole document."""
    models = report["models"]
    others = ", ".join(model["name"] for model in models[1:])
    title = f"{models[0]['name']} and {others}" if others else str(models[0]["name"])
    body = [html.pairs(facts(report))]
    if pictures := draw(report):
        body += ["<h2>Speed, quality, size</h2>", f'<div class="pictures">{"".join(pictures)}</div>', *_names(models)]
    for heading, heads, rows in tables(report):
        label = escaped(heading)
        wide = f'<div class="wide" tabindex="0" role="region" aria-label="{label}">'
        body += [f"<h2>{label}</h2>", wide, *html.table(heads, rows), "</div>"]
    body += [line.replace("<ul>", '<ul class="notes">', 1) for line in html.bullets(notes(report))]
    body += _answers(report["answers"] or ())
    return html.page(f"Compared: {title}", STYLE, body, head=VIEWPORT)


def _names(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield '<ol class="names">'
    for at, model in enumerate(models):
        color = f'<i style="background: var(--c{at % NUM_COLORS})"></i>'
        best = " · on the frontier" if model["on_frontier"] else ""
        yield f"<li>{color}{at + 1}: {escaped(model['name'])}{best}</li>"
    yield "</ol>"


def _answers(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Prompts with the answers below, side by side where there is room; where one parts from the first is marked."""
    if answers:
        yield "<h2>Answers</h2>"
    for row in answers:
        yield f'<blockquote>{escaped(row["prompt"])}</blockquote>\n<div class="answers">'
        for at, (name, answer) in enumerate(row["answers"].items()):
            relation = "" if at == 0 else f" <small>{escaped(same_words(answer))}</small>"
            yield f"<div><b>{escaped(name)}</b>{relation}<pre>{_parted(answer, is_first=at == 0)}</pre></div>"
        yield "</div>"


def _parted(answer: Mapping[str, Any], *, is_first: bool) -> str:
    words, at = str(answer["text"]), int(answer["agrees"])
    shown = escaped(words)
    if not is_first and not answer["is_same"]:
        shown = f"{escaped(words[:at])}<mark>{escaped(words[at:])}</mark>"
    return shown if answer["has_ended"] else f"{shown}…"
