"""API keys as they are written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from miaotui.errors import ConfigError
from miaotui.server.keys import digest_of, find_key, hashed_line, parse_keys, read_keys_file
from miaotui.server.settings import ServerSettings


def test_plain_and_hashed_lines_stand_for_the_same_key() -> None:
    plain = parse_keys(["", "# nobody", "  s3cret  alice rpm=60 tpm=10000 "], "here")
    hashed = parse_keys([hashed_line("s3cret") + " alice tpm=10000 rpm=60"], "here")
    assert plain == hashed
    assert find_key(hashed, "s3cret") == plain[0]
    assert (plain[0].requests_per_min, plain[0].tokens_per_min) == (60, 10_000)
    assert find_key(hashed, digest_of("s3cret").hex()) is None, "the hash is not the key"
    assert find_key(hashed, hashed_line("s3cret")) is None


@pytest.mark.parametrize(
    "line",
    [
        "sha256:12",
        "sha256:",
        "k rpm=0",
        "k rpm=x",
        "k rpm=-1",
        "k a b",
        "k what=1",
        "k rpm=1e9",
        "k a/b",
        "k floor=1.1",
        "k floor=-1",
        "k floor=nan",
        "k floor=",
    ],
)
def test_an_unusable_line_is_named_by_number_without_its_key(line: str) -> None:
    with pytest.raises(ConfigError, match="here, line 2") as caught:
        parse_keys(["good", line.replace("k ", "s3cret ")], "here")
    assert "s3cret" not in str(caught.value)


def test_a_key_may_have_a_floor_of_quality() -> None:
    (strict, exact, free) = parse_keys(["one floor=0.99 bob", "two floor=1", "three"], "here")
    assert (strict.quality_floor, exact.quality_floor, free.quality_floor) == (0.99, 1.0, 0.0)
    assert strict.name == "bob"
    policies = ServerSettings("m", keys=(strict, exact, free)).policies
    assert {name: policy.floor for name, policy in policies.items()} == {strict.tenant: 0.99, exact.tenant: 1.0}


@pytest.mark.parametrize("content", [b"", b"# none\n", b"\xff\xfe"])
def test_a_file_without_keys_is_refused_rather_than_served_to_everybody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ConfigError, match="keys"):
        read_keys_file(tmp_path / "keys", "flag --api-keys")
    with pytest.raises(ConfigError, match="No such file"):
        read_keys_file(tmp_path / "none", "flag --api-keys")
