"""Whatever a name says, the store reads nothing outside its folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miaotui.errors import ModelNotFoundError
from miaotui.formats.store import ModelStore, local_path
from miaotui.formats.store_names import is_safe_segment, parse_hub_name

SECRET = "secret.gguf"
NUM_COMPOSED = 5000
_touched: list[str] | None = None


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if _touched is not None and event in ("open", "os.listdir", "os.scandir") and arguments:
        _touched.append(os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, Path)) else "")


sys.addaudithook(_listen)  # cannot be taken back; it is idle unless `_touched` is a list


@contextlib.contextmanager
def files_touched() -> Iterator[list[str]]:
    """Every file opened and folder listed meanwhile."""
    global _touched
    _touched = []
    try:
        yield _touched
    finally:
        _touched = None


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    base = tmp_path_factory.mktemp("outer")
    (base / SECRET).write_text("outside")
    (base / "miaotui.json").write_text(json.dumps({"name": "x", "file": SECRET, "source": "", "size_bytes": 1}))
    store = ModelStore(base / "models")
    store.folder.mkdir()
    return store


HOSTILE = [
    "..",
    "../secret.gguf",
    "../../../../etc/passwd",
    "/etc/passwd",
    "~/.ssh/id_rsa",
    "%2e%2e%2fsecret.gguf",
    "..%2fsecret.gguf",
    "..\\secret.gguf",
    "smollm2:135m/../../secret.gguf",
    "smollm2:../secret.gguf",
    "smollm2:135m\0.gguf",
    "hf:../secret",
    "hf:../..",
    "hf:org/..",
    "hf:org/repo:../../secret.gguf",
    "hf:org/repo:/etc/passwd.gguf",
    "hf:org/repo:%2e%2e/secret.gguf",
    "hf:org/repo:a\\..\\secret.gguf",
    "hf:org/repo:a//b.gguf",
    "hf:org/repo:a\0.gguf",
    "hf:org/repo\n:a.gguf",
    "hf:con/nul",
    "hf:org/aux.txt",
    "hf:org/repo:LPT1.gguf",
    "hf:org/re--po",
    "hf:org",
    "hf:org/repo/extra",
    "hf:org/repo:",
    "hf::",
    "hf:",
    "con",
    "NUL",
    "COM1:latest",
    "/dev/zero",
    "／etc／passwd",
    "．．/secret.gguf",
    "\ud800",
    "a" * 100_000,
    "",
    " ",
    "-rf",
    "file:///etc/passwd",
    "http://127.0.0.1/x.gguf",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_name_is_not_found_and_reads_nothing_outside(store: ModelStore, name: str) -> None:
    with files_touched() as touched, pytest.raises(ModelNotFoundError) as caught:
        store.resolve_name(name)
    assert all(is_inside(store, path) for path in touched), touched
    assert len(str(caught.value)) < 600


pieces = st.sampled_from(
    ["..", ".", "/", "\\", "%2e", "%2f", "\0", "hf:", ":", "org", "repo", SECRET, "~", "con", "models"]
)


@given(st.one_of(st.text(max_size=40), st.lists(pieces, max_size=10).map("".join)))
@example("hf:org/repo:../../" + SECRET)
def test_no_text_reads_or_removes_anything_outside_the_store(store: ModelStore, name: str) -> None:
    with files_touched() as touched:
        for action in (store.resolve_name, store.remove):
            with pytest.raises(ModelNotFoundError):
                action(name)
    assert all(is_inside(store, path) for path in touched), touched
    assert (store.folder.parent / SECRET).exists()


def test_thousands_of_composed_names_read_nothing_outside(
    store: ModelStore, report_faults: Callable[[str, int, int], None]
) -> None:
    random = Random(20)
    parts = [
        "..",
        ".",
        "/",
        "//",
        "\\",
        "%2e",
        "%2f",
        "\0",
        "hf:",
        ":",
        "org",
        "repo",
        SECRET,
        "~",
        "con",
        "models",
        "*",
    ]
    num_failures = 0
    for _ in range(NUM_COMPOSED):
        name = "".join(random.choices(parts, k=random.randint(1, 9)))
        with files_touched() as touched, contextlib.suppress(ModelNotFoundError):
            store.resolve_name(name)
            num_failures += 1
        num_failures += not all(is_inside(store, path) for path in touched)
    report_faults("model names that read outside the store", NUM_COMPOSED, num_failures)


def is_inside(store: ModelStore, path: str) -> bool:
    root = os.path.realpath(store.folder)
    return os.path.commonpath([root, os.path.realpath(path)]) == root


@pytest.mark.parametrize("linked", ["folder", "record", "file"])
def test_link_inside_the_store_that_leads_out_is_not_followed(tmp_path: Path, linked: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "tiny.gguf").write_text("secret")
    record = {"name": "smollm2:135m", "file": "tiny.gguf", "source": "", "size_bytes": 6}
    (outside / "miaotui.json").write_text(json.dumps(record))
    store = ModelStore(tmp_path / "models")
    entry = store.folder / "smollm2-135m"
    if linked == "folder":
        store.folder.mkdir()
        entry.symlink_to(outside)
    else:
        entry.mkdir(parents=True)
        for name, kind in (("miaotui.json", "record"), ("tiny.gguf", "file")):
            if linked == kind:
                (entry / name).symlink_to(outside / name)
            else:
                (entry / name).write_bytes((outside / name).read_bytes())
    with files_touched() as touched, pytest.raises(ModelNotFoundError):
        store.resolve_name("smollm2:135m")
    assert all(is_inside(store, path) for path in touched), touched
    assert store.models() == []
    store.remove("smollm2:135m")
    assert sorted(os.listdir(outside)) == ["miaotui.json", "tiny.gguf"]
    assert not entry.exists()


@pytest.mark.parametrize("file", ["../secret.gguf", "/etc/passwd", "a/b", "..", "nul", "x\0", "%2e%2e"])
def test_record_cannot_point_out_of_its_folder(store: ModelStore, file: str) -> None:
    entry = store.folder / "smollm2-135m"
    entry.mkdir(exist_ok=True)
    (entry / "miaotui.json").write_text(
        json.dumps({"name": "smollm2:135m", "file": file, "source": "", "size_bytes": 1})
    )
    assert store.models() == []
    store.remove("smollm2:135m")


def test_path_of_the_user_is_used_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore(tmp_path / "models")
    file = tmp_path / "my model.gguf"
    file.write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in (str(file), "my model.gguf", "./my model.gguf", "~/my model.gguf"):
        assert store.pull(text).samefile(file)
        assert store.resolve(text).samefile(file)
    assert store.resolve(str(tmp_path)) == tmp_path
    assert not store.folder.exists()


@pytest.mark.parametrize(
    "text", ["/dev/null", "/dev/zero", "no/such.gguf", "x\0y/z", "~nobody-here/x", "/" + "a" * 5000]
)
def test_what_is_no_file_or_folder_is_refused(text: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        local_path(text)
    assert len(str(caught.value)) < 6000


def test_the_whole_path_of_a_missing_model_is_told() -> None:
    text = f"/{'a long name of a folder/' * 20}none.gguf"
    with pytest.raises(ModelNotFoundError, match=re.escape(repr(text))):
        local_path(text)


def test_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelNotFoundError, match="neither a regular file nor a folder"):
        local_path(str(tmp_path / "pipe.gguf"))


@given(st.text(st.characters(codec="ascii"), max_size=20))
def test_safe_segment_is_one_part_of_a_path_everywhere(text: str) -> None:
    if is_safe_segment(text):
        assert Path("root", text).parts == ("root", text)
        assert not set(text) & set('/\\:*?"<>|%~$ \0')
        assert text.rstrip(". ") == text != ""
        assert ".." not in text


@pytest.mark.parametrize("name", [name for name in HOSTILE if name.startswith("hf:")])
def test_malformed_name_of_the_hub_is_refused_before_anything_is_looked_up(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="is not a name of the form hf:ORG/REPO"):
        parse_hub_name(name)


@pytest.mark.parametrize(
    "segment", ["a..b", "a.", "con", "Aux.gguf", "lpt9.tar.gz", "", "-a", ".a", "a" * 97, "a/b", "é"]
)
def test_segment_with_a_meaning_of_its_own_is_unsafe(segment: str) -> None:
    assert not is_safe_segment(segment)
    assert is_safe_segment("SmolLM2-135M.Q4_1+x.gguf")


def test_names_of_different_files_have_different_folders() -> None:
    names = ["hf:o/r", "hf:o/r:a.gguf", "hf:o/r:a/b.gguf", "hf:o/r:a-b.gguf", "hf:o/r:A.gguf", "hf:o/r-a.gguf"]
    assert len({parse_hub_name(name).folder for name in names}) == len(names)
    assert [parse_hub_name(name).name for name in names] == names
