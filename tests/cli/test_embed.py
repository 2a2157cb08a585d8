"""`miaotui embed` and a text encoder under `miaotui serve`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest

from cli.test_serve import serving, url_of
from miaotui import Embedder
from miaotui.cli import main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path))
    return tmp_path


def rows_of(text: str) -> np.ndarray:
    return np.array([[float(number) for number in line.split()] for line in text.splitlines()])


def test_a_line_per_text(tiny_bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", str(tiny_bert), "the cat", "a dog", "--dimensions", "6"]) == 0
    with Embedder(tiny_bert) as embedder:
        want = embedder.embed(["the cat", "a dog"], dimensions=6)
    np.testing.assert_allclose(rows_of(capsys.readouterr().out), want, atol=1e-7)


def test_lines_of_standard_input(
    tiny_bert: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n\na dog\n"))
    assert main(["embed", str(tiny_bert), "--json"]) == 0
    with Embedder(tiny_bert) as embedder:
        want = embedder.embed(["the cat", "", "a dog"])
    np.testing.assert_array_equal(np.array(json.loads(capsys.readouterr().out)["vectors"], np.float32), want)


def test_similarities(tiny_bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", str(tiny_bert), "the cat", "the cat", "12 dogs", "--similarity"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows.shape == (3, 3)
    np.testing.assert_allclose(np.diag(rows), 1, atol=1e-4)
    assert rows[0, 1] == rows[0, 0] > rows[0, 2]


def test_problems_are_told_in_a_sentence(
    tiny_bert: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["embed", str(tiny_bert)]) == 1
    assert main(["embed", str(tiny_bert), "cat " * 99]) == 1
    assert main(["embed", str(tiny_model), "cat"]) == 1
    assert main(["run", str(tiny_bert), "Hi"]) == 1
    assert main(["embed", str(tiny_bert), "cat " * 99, "--truncate"]) == 0
    said = capsys.readouterr().err.splitlines()
    for line, what in zip(
        said, ("nothing to embed", "at most 32", "makes no embeddings", "writes no text"), strict=True
    ):
        assert what in line


def test_show_tells_of_a_text_encoder_and_nothing_of_what_it_lacks(
    tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(tiny_bert)]) == 0
    shown = capsys.readouterr().out
    assert "text encoder" in shown
    assert "KV" not in shown
    assert "rope" not in shown
    assert main(["show", str(tiny_bert), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["spec"]["max_text_tokens"] == 32
    # Two layers of four square matrices and two of twice the width, 34 bytes for 32 weights.
    assert report["memory"]["weight_bytes"] == 2 * (4 + 4) * 64 * 64 // 32 * 34
    assert main(["show", str(tiny_bert), "--graph"]) == 0
    assert "self_attention" in capsys.readouterr().out


def test_a_server_embeds_beside_a_model_that_writes(tiny_model: Path, tiny_bert: Path, tmp_path: Path) -> None:
    with serving(tiny_model, tmp_path, "--embed-model", str(tiny_bert)) as (_, text):
        assert "embed    tiny-bert" in text
        reply = httpx.post(f"{url_of(text)}/v1/embeddings", json={"input": "the cat", "model": "tiny-bert"})
        assert len(reply.json()["data"][0]["embedding"]) == 64
        body = {"prompt": "Hi", "max_tokens": 2}
        assert httpx.post(f"{url_of(text)}/v1/completions", json=body).status_code == 200


def test_a_server_of_a_text_encoder_embeds_alone(tiny_bert: Path, tmp_path: Path) -> None:
    with serving(tiny_bert, tmp_path) as (_, text):
        assert "model    " not in text
        assert "/v1/embeddings" in text
        assert httpx.post(f"{url_of(text)}/v1/embeddings", json={"input": "the cat"}).status_code == 200


def test_two_text_encoders_are_refused(tiny_bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tiny_bert), "--embed-model", str(tiny_bert)]) == 2
    assert "makes embeddings itself" in capsys.readouterr().err
