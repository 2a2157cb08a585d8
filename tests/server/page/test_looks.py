"""What the page looks like: on a phone, by day and by night, and to tools that check it for everybody's use.

The guide's pictures are taken here:
`MIAOTUI_SCREENSHOTS=guide make test TESTS=tests/server/page/test_looks.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from server.page.conftest import DOCS, GUIDE_TEXT, PHONE, Tab
from server.page.stub import Stub

GUIDE = {"width": 960, "height": 700}
VIEWS = ("ask", "history", "cache", "dashboard", "settings")
ANSWER = """The capital of France is **Paris**. In short:

1. It lies on the *Seine*.
2. About `2.1` million people live there.

| city | since |
|---|--:|
| Paris | 987 |
| Versailles | 1682 |

```python
def capital(country: str) -> str:
    return {"France": "Paris"}[country]
```

More at [the city's page](https://www.paris.fr)."""
ANSWERS = {
    "What is the capital of France?": ANSWER,
    "法国的首都是哪里?": "法国的首都是**巴黎**。它位于塞纳河畔,是全国的政治、经济和文化中心。",
    "How do I turn the heating on?": "Press and hold the **+** button for three seconds.",
}
NEAR = {"How can I switch on the heating?": "How do I turn the heating on?"}
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3


@pytest.fixture
def filled(stub: Stub) -> Stub:
    """A server with something to show."""
    stub.model = "smollm2:135m"
    stub.answers |= ANSWERS
    stub.near |= NEAR
    stub.hits |= {"memory": 412, "store": 163, "near": 21, "curated": 38}
    stub.misses = 207
    stub.keep(
        "How do I reset my password?", "Choose *Forgot password* on the login page.", origin="curated", tags=["faq"]
    )
    stub.keep("How do I turn the heating on?", ANSWERS["How do I turn the heating on?"], uses=14)
    stub.keep("Name three primary colours", "Red, yellow and blue.", uses=3)
    stub.keep("法国的首都是哪里?", ANSWERS["法国的首都是哪里?"])
    return stub


def conversation(tab: Tab) -> None:
    """A generated answer, the same from the store, and a near hit."""
    tab.open()
    tab.answered("What is the capital of France?")
    tab.answered("What is the capital of France?")
    tab.answered("How can I switch on the heating?")


def look(tab: Tab, view: str) -> None:
    if view == "ask":
        conversation(tab)
        return
    tab.open(view)
    tab.page.locator("main .item, main .tile, main fieldset, main .empty").first.wait_for()
    if view == "dashboard":
        expect(tab.page.locator(".chart path.line").first).to_have_attribute("d", re.compile("^M.*L"))


def two_minutes(tab: Tab, stub: Stub) -> None:
    """Let the dashboard watch a server whose load comes and goes, with a clock that need not be waited for."""
    tab.page.clock.install()
    tab.open("dashboard")
    for second in range(118):
        wave = 1 + math.sin(second / 9) * 0.5 + math.sin(second / 2.3) * 0.12
        first, gap = 140 * wave, 14 + 5 * wave
        stub.load = {
            "uptime_s": 4321.0 + second,
            "ttft_ms": {"p50": first, "p95": first * 2.1, "p99": first * (3.4 + math.sin(second / 5))},
            "itl_ms": {"p50": gap, "p95": gap * 1.4, "p99": gap * (2.2 + 0.3 * math.sin(second / 4))},
            "tokens_per_s": 170 - 40 * wave,
            "running": round(4 * wave),
            "waiting": max(0, round(6 * wave - 6)),
            "kv": {"used": round(260 * wave + second), "total": 1000},
            "memory_bytes": (400 << 20) + second * 300_000,
        }
        stub.hits["memory"] += second % 3
        stub.hits["store"] += second % 2
        stub.misses += second % 4 == 0
        tab.page.clock.run_for(1000)
        tab.page.wait_for_function(
            "n => document.querySelector('.chart path.line').getAttribute('d').split('L').length >= n", arg=second
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_shows_every_view_without_scrolling_sideways(
    new_tab: Callable[..., Tab], filled: Stub, picture: Callable[[Page, str], Path], view: str, scheme: str
) -> None:
    tab = new_tab(viewport=PHONE, color_scheme=scheme, is_mobile=True, has_touch=True, device_scale_factor=1.5)
    look(tab, view)
    assert not tab.is_wider_than_the_screen()
    picture(tab.page, f"phone-{view}-{scheme}")


def test_long_words_and_wide_code_stay_on_a_phones_screen(new_tab: Callable[..., Tab], stub: Stub) -> None:
    tab = new_tab(viewport={"width": 320, "height": 600}, is_mobile=True, has_touch=True)
    tab.open()
    table = f"| {LONG} | b |\n|---|---|\n| a | {LONG} |"
    stub.answers[LONG] = f"{LONG}\n\n```\n{LONG}\n```\n\n{table}\n\n\\({LONG}\\)\n\n# {LONG}\n\n- `{LONG}`"
    stub.near[f"near {LONG}"] = LONG
    stub.model = LONG
    card = tab.answered(LONG)
    tab.action(card, "why").click()
    near = tab.answered(f"near {LONG}")
    tab.action(near, "wrong").click()
    assert not tab.is_wider_than_the_screen()
    for view in VIEWS[1:]:
        look(tab, view)
        if view == "cache":
            tab.page.locator(".entry button").first.click()
        assert not tab.is_wider_than_the_screen(), view


def test_what_a_finger_must_hit_is_big_enough(new_tab: Callable[..., Tab], stub: Stub) -> None:
    tab = new_tab(viewport=PHONE, is_mobile=True, has_touch=True)
    tab.open()
    tab.answered("Hi")
    boxes = [one.bounding_box() for one in tab.page.locator("nav a, .actions button, .send").all() if one.is_visible()]
    assert len(boxes) >= 10
    assert [box for box in boxes if box and min(box["width"], box["height"]) < 40] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_stands_in_the_way_of_assistive_tools(
    new_tab: Callable[..., Tab], filled: Stub, view: str, scheme: str
) -> None:
    """Names, roles, contrast and the like, as axe-core checks them."""
    tab = new_tab(color_scheme=scheme)
    look(tab, view)
    if view == "ask":
        last = tab.page.locator("article.card").last
        tab.action(last, "why").click()
        tab.action(tab.page.locator("article.card").first, "wrong").click()
    if view == "cache":
        tab.page.locator(".entry button").first.click()
    found = Axe().run(
        tab.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    assert found.violations_count == 0, found.generate_report()


def test_the_guides_pictures(new_tab: Callable[..., Tab], filled: Stub, picture: Callable[[Page, str], Path]) -> None:
    tab = new_tab(viewport=GUIDE)
    tab.open()
    picture(tab.page, "welcome")
    filled.held.clear()
    tab.ask("What is the capital of France?")
    expect(tab.page.locator(".prose")).to_contain_text("million")
    picture(tab.page, "streaming")
    filled.held.set()
    expect(tab.page.locator("article.card")).to_have_attribute("data-status", "done")
    tab.answered("What is the capital of France?")
    picture(tab.page, "hit")
    near = tab.answered("How can I switch on the heating?")
    picture(tab.page, "near")
    tab.action(near, "why").click()
    expect(near.locator(".decision")).to_contain_text("The whole decision")
    picture(tab.page, "why")
    tab.action(near, "wrong").click()
    near.get_by_label("What would be right?").fill("There is a switch behind the door.")
    picture(tab.page, "wrong")
    for view in ("history", "cache", "settings"):
        look(tab, view)
        if view == "cache":
            tab.page.locator(".entry > button").nth(1).click()
            tab.page.evaluate("document.querySelector('main').scrollTop = 0")
        picture(tab.page, view)
    dark = new_tab(viewport=GUIDE, color_scheme="dark", locale="zh-CN")
    dark.open()
    dark.answered("法国的首都是哪里?")
    picture(dark.page, "chinese-dark")
    for scheme, name in (("light", "dashboard"), ("dark", "dashboard-dark")):
        watched = new_tab(viewport={"width": 960, "height": 1000}, color_scheme=scheme)
        two_minutes(watched, filled)
        picture(watched.page, name)


def test_the_guide_shows_all_its_pictures() -> None:
    named = set(re.findall(r"qa/([\w-]+)\.png", GUIDE_TEXT))
    assert named
    assert {file.stem for file in (DOCS / "qa").glob("*.png")} == named
