"""Trace files, right and wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from miaotui.errors import TraceError
from miaotui.load import traces
from miaotui.load.traces import read_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = "2023-11-16 18:15:46.6805900,374,44\n"


def mooncake(**changes: object) -> str:
    return json.dumps({"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [0, 7], **changes}) + "\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_azure_gives_lengths_and_arrivals_in_order(tmp_path: Path) -> None:
    rows = AZURE + "2023-11-16 18:15:50.6805900,396,109\n\n" + ROW
    demand = read_trace(written(tmp_path / "t", rows.replace("\n", "\r\n")))
    assert (demand.num_shapes, demand.has_arrivals, demand.name) == (2, True, "Azure trace t")
    assert [(s.prompt_tokens, s.output_tokens) for s in demand.shapes()] == [(374, 44), (396, 109)]
    assert [s.arrival_s for s in demand.shapes()] == [0, pytest.approx(4)]


@pytest.mark.parametrize("zipped", [False, True])
def test_mooncake_gives_blocks_too_plain_and_gzipped(tmp_path: Path, zipped: bool) -> None:
    data = ("\n" + mooncake(timestamp=5000) + mooncake(timestamp=8500, hash_ids=[])).encode()
    (tmp_path / "m").write_bytes(gzip.compress(data) if zipped else data)
    first, second = read_trace(tmp_path / "m").shapes()
    assert (first.prompt_tokens, first.output_tokens, first.arrival_s) == (1000, 5, 0)
    assert (first.blocks, first.block_tokens) == ((0, 7), 512)
    assert (second.arrival_s, second.blocks) == (3.5, ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no trace that is known"),
        ("a,b,c\n1,2,3\n", "no trace that is known"),
        (AZURE, "no requests"),
        (AZURE + "2023-11-16 18:15:46,374\n", "line 2: there should be 3 columns"),
        (AZURE + ROW + "yesterday,374,44\n", "line 3: 'yesterday' is no date"),
        (AZURE + "2023-11-16,0,44\n", "line 2: ContextTokens"),
        (AZURE + "2023-11-16,374,-4\n", "GeneratedTokens"),
        (AZURE + "2023-11-16,374,1e3\n", "GeneratedTokens"),
        (AZURE + "2023-11-16,374," + "9" * 5000 + "\n", "GeneratedTokens"),
        (AZURE + "2023-11-16,374,٣\n", "GeneratedTokens"),
        (mooncake() + "{nonsense\n", "line 2 is not JSON"),
        (mooncake() + "[" * 100_000 + "\n", "line 2 is not JSON"),
        (mooncake() + "7\n", "line 2 should be an object"),
        (mooncake(timestamp="now"), "timestamp"),
        (mooncake(timestamp=float("nan")), "timestamp"),
        (mooncake(timestamp=float("inf")), "timestamp"),
        (mooncake(timestamp=10**400), "timestamp"),
        (mooncake(timestamp=-1), "timestamp"),
        (mooncake(timestamp=True), "timestamp"),
        (mooncake(input_length=None), "input_length"),
        (mooncake(output_length=1.5), "output_length"),
        (mooncake(output_length=10**9), "output_length"),
        (mooncake(hash_ids="abc"), "hash_ids"),
        (mooncake(hash_ids=[1, "a"]), "hash_ids"),
    ],
)  # fmt: skip
def test_wrong_lines_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TraceError, match=said) as caught:
        read_trace(written(tmp_path / "t", text))
    assert len(str(caught.value)) < 600


def test_files_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gzip.compress(mooncake().encode() * 100)
    for data in (b"\xff\xfe\x00", whole[:-20], whole[:10] + b"damage" + whole[16:]):
        (tmp_path / "t").write_bytes(data)
        with pytest.raises(TraceError):
            read_trace(tmp_path / "t")
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "none")
    monkeypatch.setattr(traces, "MAX_BYTES", 1000)
    (tmp_path / "bomb").write_bytes(whole)
    with pytest.raises(TraceError, match="longer than"):
        read_trace(tmp_path / "bomb")
