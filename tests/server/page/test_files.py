"""The page as it is served: only its own files, under a policy that lets nothing else run, and never twice in vain."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from miaotui.answers.near.guards import GUARDS
from miaotui.server import page
from miaotui.server.keys import parse_keys
from server.conftest import serve
from server.conftest import tiny_model as tiny_model  # a fixture

REPOSITORY = Path(__file__).resolve().parents[3]
SOURCES = {path: path.read_text() for path in page.FOLDER.iterdir()}


@pytest.fixture(scope="module")
def url(tiny_model: Path) -> Iterator[str]:
    from miaotui.server.settings import ServerSettings

    settings = ServerSettings("tiny", keys=tuple(parse_keys(["secret"], "here")))
    with serve(tiny_model, settings, context_length=64) as running:
        yield running.url


@pytest.mark.parametrize("path", sorted(page.PATHS))
def test_every_file_is_open_to_all_and_bound_by_the_policy(url: str, path: str) -> None:
    reply = httpx.get(url + path)
    assert reply.status_code == 200
    policy = dict(rule.split(" ", 1) for rule in reply.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert "unsafe" not in str(policy)
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors", "object-src")} == {"'none'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-type"].split(";")[0] in (
        "text/html", "text/css", "text/javascript", "image/svg+xml",
    )  # fmt: skip


def test_a_file_that_is_known_is_not_sent_again(url: str) -> None:
    first = httpx.get(url + "/page/app.js")
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = httpx.get(url + "/page/app.js", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert httpx.get(url + "/page/app.js", headers={"if-none-match": '"other"'}).content == first.content


@pytest.mark.parametrize(
    "name",
    [
        "../page.py",
        "..%2fpage.py",
        "%2e%2e/page.py",
        "/etc/passwd",
        "app.js/",
        "app.js%00",
        "nothing",
        "",
        "%5c..%5cpage.py",
    ],
)
def test_nothing_but_the_page_is_read_from_the_disk(url: str, name: str) -> None:
    reply = httpx.get(f"{url}/page/{name}", headers={"authorization": "Bearer secret"})
    assert reply.status_code == 404
    assert httpx.get(f"{url}/page/{name}").status_code in (401, 404)


def test_the_page_may_not_be_changed(url: str) -> None:
    assert httpx.post(url + "/page/app.js", headers={"authorization": "Bearer secret"}).status_code == 405


def test_no_source_makes_markup_or_code_of_a_string() -> None:
    """What the policy forbids in the browser is not even tried."""
    sinks = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|createContextualFragment|DOMParser"
        r"|\beval\(|new Function"
    )
    assert {path.name: found for path, text in SOURCES.items() if (found := re.findall(sinks, text))} == {}


def test_the_front_page_holds_no_scripts_or_styles_of_its_own() -> None:
    html = SOURCES[page.FOLDER / "index.html"]
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:|https?://", html) == []


def test_every_module_that_is_imported_is_there_and_every_file_is_used() -> None:
    wanted = {"index.html"}
    for path, text in SOURCES.items():
        wanted |= set(re.findall(r'from "\./([\w.]+)"', text))
        wanted |= set(re.findall(r'(?:href|src)="page/([\w.]+)"', text)) if path.suffix == ".html" else set()
    assert wanted == {path.name for path in SOURCES} == set(page.FILES)


def test_both_languages_have_the_same_texts_with_the_same_places() -> None:
    texts = [
        dict(re.findall(r'^  (\w+):\s+"(.*)",$', SOURCES[page.FOLDER / f"strings_{name}.js"], re.MULTILINE))
        for name in ("en", "zh")
    ]
    assert len(texts[0]) > 150
    for name in ("en", "zh"):
        lines = re.findall(r"^  \w+:", SOURCES[page.FOLDER / f"strings_{name}.js"], re.MULTILINE)
        assert len(lines) == len(set(lines)) == len(texts[0]), f"strings_{name}.js says something twice"
    places = [{key: sorted(re.findall(r"\{\w+\}", text)) for key, text in some.items()} for some in texts]
    assert places[0] == places[1]


def test_every_guard_has_a_name_in_words() -> None:
    (known,) = re.findall(r"const GUARDS = \[(.*?)\];", SOURCES[page.FOLDER / "receipt.js"], re.DOTALL)
    assert set(GUARDS) <= set(re.findall(r'"(\w+)"', known))


def test_a_wheel_holds_the_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    command += ["--config-settings=wheel.cmake=false", "--wheel-dir", str(tmp_path), str(REPOSITORY)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("miaotui/server/page/")}
    assert held == set(page.FILES)
