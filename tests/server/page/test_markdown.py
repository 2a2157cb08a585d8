"""Markdown of answers: what it looks like, and that no text, however odd, breaks or is lost in it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from server.page.conftest import Tab, open_tab
from server.page.stub import serve_stub

# Elements as nested lists: what was built, without regard to how a browser writes it.
SHAPE = """
async (text) => {
  const { markdown } = await import("/page/markdown.js");
  const shape = (node) => {
    if (node.nodeType === 3) return node.data;
    const name = node.nodeName.toLowerCase() + (node.getAttribute("href") ? " " + node.getAttribute("href") : "");
    return [name, ...[...node.childNodes].map(shape)];
  };
  return [...markdown(text).childNodes].map(shape);
}
"""


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Tab]:
    with serve_stub() as stub, open_tab(browser, stub.url) as tab:
        tab.open()
        yield tab
        assert tab.problems == []


@pytest.fixture
def shape(tab: Tab) -> Callable[[str], Any]:
    return lambda text: tab.page.evaluate(SHAPE, text)


CASES: list[tuple[str, list[Any]]] = [
    ("plain", [["p", "plain"]]),
    ("one\ntwo\n\nthree", [["p", "one", ["br"], "two"], ["p", "three"]]),
    ("**bold** and *thin*", [["p", ["strong", "bold"], " and ", ["em", "thin"]]]),
    ("***both***", [["p", ["em", ["strong", "both"]]]]),
    ("**这是重点。**然后", [["p", ["strong", "这是重点。"], "然后"]]),
    ("snake_case_name and _thin_", [["p", "snake_case_name and ", ["em", "thin"]]]),
    ("2 * 3 * 4", [["p", "2 * 3 * 4"]]),
    ("~~gone~~ ~kept~", [["p", ["del", "gone"], " ~kept~"]]),
    ("**open", [["p", "**open"]]),
    ("`a*b*` and ``x`y``", [["p", ["code", "a*b*"], " and ", ["code", "x`y"]]]),
    ("`open", [["p", "`open"]]),
    (r"\*not\* thin", [["p", "*not* thin"]]),
    (r"\(x_1 + x_2\) and $$a*b*c$$", [["p", ["span", "x_1 + x_2"], " and ", ["span", "a*b*c"]]]),
    ("It costs $5 or $6", [["p", "It costs $5 or $6"]]),
    ("# One\n## Two ##\n#hash", [["h4", "One"], ["h5", "Two"], ["p", "#hash"]]),
    ("---", [["hr"]]),
    ("> said\nmore\n\nnot", [["blockquote", ["p", "said", ["br"], "more"]], ["p", "not"]]),
    ("- a\n- b", [["ul", ["li", "a"], ["li", "b"]]]),
    ("- a\n  - b\n- c", [["ul", ["li", "a", ["ul", ["li", "b"]]], ["li", "c"]]]),
    ("1. a\n   - b\n2. c", [["ol", ["li", "a", ["ul", ["li", "b"]]], ["li", "c"]]]),
    ("1. a\n\n2. b", [["ol", ["li", ["p", "a"]], ["li", ["p", "b"]]]]),
    ("text:\n1. a\n2. b", [["p", "text:"], ["ol", ["li", "a"], ["li", "b"]]]),
    ("- [x] done\n- [ ] open", [["ul", ["li", "☑ ", "done"], ["li", "☐ ", "open"]]]),
    ("1. a\n```\ncode\n```\n2. b", [["ol", ["li", "a"]], ["CODE", "code"], ["ol", ["li", "b"]]]),
    ("1. a\n   ```\n   code\n   ```\n2. b", [["ol", ["li", "a", ["CODE", "code"]], ["li", "b"]]]),
    ("```py\nif a < b:\n    pass\n```\nafter", [["CODE", "if a < b:\n    pass"], ["p", "after"]]),
    ("```\nstill being written", [["CODE", "still being written"]]),
    ("[here](https://a.example/x_(y)) end", [["p", ["a https://a.example/x_(y)", "here"], " end"]]),
    ("[*here*](<https://a.example> 'title')", [["p", ["a https://a.example/", ["em", "here"]]]]),
    ("see https://a.example/b_c_d.", [["p", "see ", ["a https://a.example/b_c_d", "https://a.example/b_c_d"], "."]]),
    ("见https://a.example/路。好", [["p", "见", ["a https://a.example/%E8%B7%AF", "https://a.example/路"], "。好"]]),
    ("<https://a.example>", [["p", ["a https://a.example/", "https://a.example"]]]),
    ("<me@a.example>", [["p", ["a mailto:me@a.example", "me@a.example"]]]),
    ("[dead](javascript:x) [rel](/v1/x)", [["p", ["span", "dead (javascript:x)"], " ", ["span", "rel (/v1/x)"]]]),
    ("![cat](https://a.example/c.png)", [["p", ["a https://a.example/c.png", "🖼 cat"]]]),
    ("a &amp; b &#65; &nope; &#0;", [["p", "a & b A &nope; \ufffd"]]),
    ("a<br>b<br/>c <b>d</b>", [["p", "a", ["br"], "b", ["br"], "c <b>d</b>"]]),
    (
        "| a | b |\n|---|--:|\n| 1 | `x|y` |\n| 2 |\n\nend",
        [
            ["div", ["table", ["thead", ["tr", ["th", "a"], ["th", "b"]]],
                     ["tbody", ["tr", ["td", "1"], ["td", ["code", "x|y"]]], ["tr", ["td", "2"], ["td"]]]]],
            ["p", "end"],
        ],
    ),
    ("a | b\nno table", [["p", "a | b", ["br"], "no table"]]),
]  # fmt: skip


def simple(shape: Any) -> Any:
    """Code blocks without their frame."""
    if not isinstance(shape, list) or not shape:
        return shape
    if shape[0] == "div" and len(shape) == 3:
        return ["CODE", shape[2][1][1]]
    return [simple(child) for child in shape]


@pytest.mark.parametrize(("text", "wanted"), CASES, ids=[text[:30] for text, _ in CASES])
def test_markdown_looks_as_it_is_meant(shape: Callable[[str], Any], text: str, wanted: list[Any]) -> None:
    assert simple(shape(text)) == wanted


SIGNS = [
    "*", "**", "_", "`", "```", "~~", "[", "]", "(", ")", "](", "<", ">", "!", "\\", "|", "\n", "\n\n", "  ", "    ",
    "- ", "1. ", "> ", "# ", "$$", "\\(", "\\)", "&amp;", "&#x41;", "https://a.example/", "|---|---|", "---", "===",
    "\t", "\0", "\r\n", "word", "中文", "。", "😀", "\ud83d", "\u202e", "\u2028", "\ufeff", "[ ]", "[x]", ":", "<br>",
    "~~~", "<b>",
]  # fmt: skip


def test_no_mixture_of_signs_breaks_it_or_loses_a_word(
    tab: Tab, report_faults: Callable[[str, int, int], None]
) -> None:
    chance = random.Random(5)
    texts = []
    for number in range(3000):
        parts = [chance.choice(SIGNS) for _ in range(chance.randint(1, 40))]
        texts.append("".join(parts) + f" mark{number}mark " + chance.choice(SIGNS))
    failed = tab.page.evaluate(
        """
        async (texts) => {
          const { markdown, MarkdownView } = await import("/page/markdown.js");
          const bad = [];
          texts.forEach((text, number) => {
            try {
              const whole = document.createElement("div");
              whole.append(markdown(text));
              const grown = document.createElement("div");
              const view = new MarkdownView(grown);
              for (let end = 0; end <= text.length; end += 7) view.update(text.slice(0, end));
              view.update(text);
              const isKept = whole.innerHTML.includes(`mark${number}mark`);
              if (!isKept || whole.innerHTML !== grown.innerHTML) bad.push(text);
            } catch (error) {
              bad.push(`${error}: ${text}`);
            }
          });
          return bad;
        }
        """,
        texts,
    )
    assert failed[:3] == []
    report_faults("mixtures of Markdown's signs, whole and as they grow", len(texts), len(failed))


LEVELS = ["*", "**"] * 45
HARD = {
    "emphasis in emphasis": " ".join(f"{sign}a" for sign in LEVELS)
    + " "
    + " ".join(f"a{sign}" for sign in LEVELS[::-1]),
    "emphasis that never ends": "*a " * 30_000,
    "emphasis that never begins": "a* " * 30_000,
    "runs": "*" * 60_000 + "a" + "*" * 60_000,
    "mixed runs": "*a_ " * 20_000,
    "brackets": "[" * 60_000,
    "brackets that close": "[" * 30_000 + "]" * 30_000,
    "links in links": "[a](" * 20_000,
    "titles": '[a](b "' * 10_000,
    "ticks": "".join("`" * (number % 300 + 1) + " " for number in range(2000)),
    "quotes": ">" * 20_000 + "a",
    "lists": "\n".join(" " * (number % 60) + "- a" for number in range(5000)),
    "numbers": "1" * 50_000 + ". a",
    "tables": "|" * 30_000 + "\n" + "|-" * 30_000,
    "rules": "- " * 30_000 + "x",
    "heads": "#" * 6 + " " + "# " * 30_000,
    "entities": "&" * 60_000,
    "angles": "<" * 60_000,
    "formulas": "\\(" * 30_000,
    "addresses": "https://" * 8_000,
    "backslashes": "\\" * 60_000,
    "spaces": "a" + " " * 60_000 + "\n" + "b",
    "lines": "a\n" * 30_000,
    "fences": "```\n" * 10_000,
}


@pytest.mark.parametrize("name", HARD)
def test_texts_made_to_be_slow_are_read_and_stay_shallow(tab: Tab, name: str) -> None:
    """Layout recurses into elements: thousands inside each other would end the tab."""
    depth = tab.page.evaluate(
        """
        async (text) => {
          const { markdown } = await import("/page/markdown.js");
          const root = document.createElement("div");
          root.append(markdown(text));
          document.body.append(root);
          root.getBoundingClientRect();
          let deepest = 0;
          let row = [root];
          while (row.length) {
            deepest += 1;
            row = row.flatMap((one) => [...one.children]);
          }
          root.remove();
          return deepest;
        }
        """,
        HARD[name],
    )
    assert depth <= 60


def test_an_event_stream_is_read_however_it_is_cut(tab: Tab) -> None:
    stream = (
        ': silence\r\n\r\ndata: {"a": "é中😀"}\n\ndata:one\ndata: two\n\nevent: x\ndata: three\r\n\r\ndata: unfinished'
    )
    found = tab.page.evaluate(
        """
        async (text) => {
          const { eventsOf } = await import("/page/sse.js");
          const bytes = new TextEncoder().encode(text);
          const results = new Set();
          for (let size = 1; size <= bytes.length; size += 1) {
            let at = 0;
            const source = new ReadableStream({
              pull(controller) {
                if (at >= bytes.length) return controller.close();
                controller.enqueue(bytes.slice(at, (at += size)));
              },
            });
            const events = [];
            for await (const event of eventsOf(source)) events.push(event);
            results.add(JSON.stringify(events));
          }
          return [...results];
        }
        """,
        stream,
    )
    assert [json.loads(one) for one in found] == [['{"a": "é中😀"}', "one\ntwo", "three"]]
