"""Names of the hub, with its real client against a small server on this machine."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from miaotui.errors import DownloadError, ModelNotFoundError
from miaotui.formats.store import ModelStore
from miaotui.formats.store_hub import choose_files
from miaotui.formats.store_names import parse_hub_name
from miaotui.formats.store_transfer import HubFile

REVISION = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 1024


class Hub(ThreadingHTTPServer):
    """Serves one repository, org/repo; counts the bytes it sends; can cut an answer short and refuse from then on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.announced: dict[str, str] = {}  # sha256 that differ from the files'
        self.sent_bytes = 0
        self.num_requests = 0
        self.cut_after: int | None = None
        self.refuses = False
        self.refuses_after_cut = True
        self.announced_bytes: int | None = None

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        self.server.num_requests += 1
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/org/repo"):
            return self.send(
                200, json.dumps(self.description()).encode(), {"Content-Type": "application/json"}, with_body
            )
        file = path.removeprefix(f"/org/repo/resolve/{REVISION}/")
        if file not in self.server.files:
            return self.send(404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)
        content = self.server.files[file]
        digest = hashlib.sha256(content).hexdigest()
        if self.server.refuses:
            return self.send(403, b"", {}, with_body)
        headers = {"X-Repo-Commit": REVISION, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.send(206 if start else 200, content[start:], headers, with_body)

    def send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            if self.server.cut_after is not None and len(body) > 10_000:
                body = body[: self.server.cut_after]
                self.close_connection = True
                self.server.refuses = self.server.refuses_after_cut
            self.wfile.write(body)
            self.server.sent_bytes += len(body)

    def description(self) -> dict[str, object]:
        siblings = []
        for name, content in self.server.files.items():
            digest = self.server.announced.get(name, hashlib.sha256(content).hexdigest())
            sibling: dict[str, object] = {
                "rfilename": name,
                "size": self.server.announced_bytes or len(content),
                "blobId": "0" * 40,
            }
            if name.endswith((".gguf", ".safetensors")):
                sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(sibling)
        return {"id": "org/repo", "modelId": "org/repo", "sha": REVISION, "siblings": siblings}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_named_file_is_fetched_checked_and_then_used_without_the_hub(hub: Hub, store: ModelStore) -> None:
    hub.files = {"sub/model-Q8_0.gguf": WEIGHTS, "other.gguf": b"no"}
    path = store.pull("hf:org/repo:sub/model-Q8_0.gguf")
    assert (path.name, path.read_bytes()) == ("model-Q8_0.gguf", WEIGHTS)
    num_requests = hub.num_requests
    assert store.pull("hf:org/repo:sub/model-Q8_0.gguf") == store.resolve("hf:org/repo:sub/model-Q8_0.gguf") == path
    assert hub.num_requests == num_requests
    (stored,) = store.models()
    assert (stored.name, stored.size_bytes) == ("hf:org/repo:sub/model-Q8_0.gguf", len(WEIGHTS))
    assert REVISION in stored.source


def test_repository_without_gguf_becomes_a_model_folder(hub: Hub, store: ModelStore) -> None:
    hub.files = {
        "config.json": b"{}",
        "model.safetensors": WEIGHTS,
        "tokenizer.json": b"{}",
        "pytorch_model.bin": b"never",
        "modeling.py": b"never",
        "onnx/model.safetensors": b"never",
    }
    path = store.pull("hf:org/repo")
    assert path.is_dir()
    assert {file.name for file in path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "miaotui.json",
    }


def test_a_text_encoder_comes_with_what_says_how_it_pools(hub: Hub, store: ModelStore) -> None:
    small = ("config.json", "vocab.txt", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json")
    hub.files = {"model.safetensors": WEIGHTS, "2_Dense/model.safetensors": b"never"}
    hub.files |= {name: name.encode() for name in small}
    path = store.pull("hf:org/repo")
    assert {name: (path / name).read_bytes() for name in small} == {name: name.encode() for name in small}
    assert not (path / "2_Dense").exists()


def test_interrupted_file_is_continued_and_not_begun_again(hub: Hub, store: ModelStore) -> None:
    hub.files = {"model.gguf": WEIGHTS}
    hub.cut_after = 100_000
    with pytest.raises(DownloadError, match="check the network"):
        store.pull("hf:org/repo")
    assert store.models() == []
    hub.cut_after = None
    hub.refuses = False
    hub.sent_bytes = 0
    assert store.pull("hf:org/repo").read_bytes() == WEIGHTS
    assert len(WEIGHTS) - 200_000 < hub.sent_bytes < len(WEIGHTS) - 50_000


def test_line_that_drops_again_and_again_still_gets_there(hub: Hub, store: ModelStore) -> None:
    hub.files = {"model.gguf": WEIGHTS}
    hub.cut_after = 50_000
    hub.refuses_after_cut = False
    assert store.pull("hf:org/repo").read_bytes() == WEIGHTS


def test_endless_file_is_cut_off(hub: Hub, store: ModelStore) -> None:
    hub.files = {"model.gguf": bytes(50_000_000)}
    hub.announced_bytes = 1000
    with pytest.raises(DownloadError, match="longer than announced"):
        store.pull("hf:org/repo")
    assert list(store.folder.rglob("*.part")) == []
    assert hub.sent_bytes < 50_000_000, "the rest was fetched although it could only be thrown away"


def test_file_that_is_not_what_the_hub_announced_is_refused(hub: Hub, store: ModelStore) -> None:
    hub.files = {"model.gguf": WEIGHTS}
    hub.announced = {"model.gguf": "0" * 64}
    with pytest.raises(DownloadError, match="sha256"):
        store.pull("hf:org/repo")
    assert store.models() == []
    assert list(store.folder.rglob("*.gguf")) == []


def test_missing_repository_and_missing_file_are_not_found(hub: Hub, store: ModelStore) -> None:
    hub.files = {"a.gguf": WEIGHTS}
    with pytest.raises(ModelNotFoundError, match="no public model org/nothing"):
        store.pull("hf:org/nothing")
    with pytest.raises(ModelNotFoundError, match=r"has no file b\.gguf; its GGUF files: a\.gguf"):
        store.pull("hf:org/repo:b.gguf")


def test_hub_that_does_not_answer_is_one_clear_sentence(
    hub: Hub, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(DownloadError, match=r"cannot fetch hf:org/repo: .*check the network") as caught:
        store.pull("hf:org/repo")
    assert "\n" not in str(caught.value)


def test_absent_client_names_the_extra_to_install(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DownloadError, match=r"pip install 'miaotui\[hub\]'"):
        store.pull("hf:org/repo")


@pytest.mark.parametrize(
    ("paths", "chosen"),
    [
        (["a-Q8_0.gguf", "a-Q4_K_M.gguf", "a-F16.gguf"], ["a-Q4_K_M.gguf"]),
        (["a-F16.gguf"], ["a-F16.gguf"]),
        (["config.json", "x.safetensors", "a-Q8_0.gguf"], ["config.json", "x.safetensors"]),
        (["x.safetensors", "a-Q8_0.gguf"], ["a-Q8_0.gguf"]),
        (["../a-Q8_0.gguf", "b-F16.gguf"], ["b-F16.gguf"]),
        (
            ["config.json", "x.safetensors", "tokenizer/../../x.json", "tokenizer.json"],
            ["config.json", "x.safetensors", "tokenizer.json"],
        ),
    ],
)
def test_repository_without_a_named_file_gives_its_obvious_model(paths: list[str], chosen: list[str]) -> None:
    files = choose_files(parse_hub_name("hf:org/repo"), [HubFile(path, 1, None) for path in paths])
    assert [file.path for file in files] == chosen


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a-F16.gguf", "a-F32.gguf"], r"name one: hf:org/repo:FILE of a-F16\.gguf, a-F32\.gguf"),
        (["README.md", "pytorch_model.bin"], "neither a GGUF file nor"),
    ],
)
def test_repository_without_an_obvious_model_says_what_it_has(paths: list[str], message: str) -> None:
    with pytest.raises(ModelNotFoundError, match=message):
        choose_files(parse_hub_name("hf:org/repo"), [HubFile(path, 1, None) for path in paths])
