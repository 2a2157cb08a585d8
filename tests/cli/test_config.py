"""`miaotui config`: what is in force and why, without the secrets; keys that the server takes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from miaotui.cli import main
from miaotui.config import SERVE_SETTINGS, SETTINGS, config_path
from miaotui.server.keys import find_key, hashed_line, parse_keys


@pytest.fixture(autouse=True)
def _own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for setting in (*SETTINGS, *SERVE_SETTINGS):
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["config", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_setting_is_shown_with_its_source(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text('offline = true\n[serve]\nhost_names = ["a.example"]\n')
    monkeypatch.setenv("MIAOTUI_MAX_WAITING", "5")
    report = shown(capsys, "--port", "9000")
    assert list(report["settings"]) == [setting.name for setting in SETTINGS]
    assert list(report["serve"]) == [setting.name for setting in SERVE_SETTINGS]
    assert report["serve"]["port"]["value"] == 9000
    assert report["serve"]["port"]["source"] == "flag --port"
    assert report["serve"]["max_waiting"]["source"] == "environment variable MIAOTUI_MAX_WAITING"
    assert report["serve"]["host_names"]["value"] == ["a.example"]
    assert str(config_path()) in report["serve"]["host_names"]["source"]
    assert report["settings"]["offline"]["value"] is True
    assert report["settings"]["model"]["source"] == "default"
    assert main(["config"]) == 0
    text = capsys.readouterr().out
    assert all(setting.name in text for setting in (*SETTINGS, *SERVE_SETTINGS))


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_secrets_are_counted_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MIAOTUI_API_KEYS", "hunter2,swordfish")
    assert main(["config", *arguments]) == 0
    out = capsys.readouterr().out
    assert "2 given" in out
    assert "hunter2" not in out


def test_a_bad_setting_is_wrong_usage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAOTUI_PORT", "x")
    assert main(["config"]) == 2
    assert "MIAOTUI_PORT" in capsys.readouterr().err
    assert main(["config", "nwe-key"]) == 2


def test_a_new_key_is_known_by_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    made = [shown(capsys, "new-key", "--name", "alice") for _ in range(2)]
    assert made[0]["key"] != made[1]["key"]
    for one in made:
        assert one["key"] not in one["line"]
        found = find_key(parse_keys([one["line"]], "here"), one["key"])
        assert found is not None
        assert found.name == "alice"
    assert main(["config", "new-key", "--name", "a b"]) == 2


def test_whose_keys_there_are_is_shown_with_their_tenants(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(hashed_line("swordfish", "bob"))
    file.chmod(0o600)
    monkeypatch.setenv("MIAOTUI_API_KEYS", "hunter2 alice")
    tenants = [parse_keys([key], "here")[0].tenant for key in ("hunter2", "swordfish")]
    want = [{"name": name, "tenant": tenant} for name, tenant in zip(("alice", "bob"), tenants, strict=True)]
    assert shown(capsys, "--api-keys", str(file))["keys"] == want
    assert main(["config", "--api-keys", str(file)]) == 0
    out = capsys.readouterr().out
    for name, tenant in zip(("alice", "bob"), tenants, strict=True):
        assert any(name in line and tenant in line for line in out.splitlines())
    assert not {"hunter2", "swordfish"} & set(out.split())
    assert main(["config", "--api-keys", "/nonexistent"]) == 0
    assert "/nonexistent" in capsys.readouterr().err


def test_a_key_file_that_others_can_read_is_remarked_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from miaotui.cli.serve_options import keys_of
    from miaotui.config import load_serve_config

    file = tmp_path / "keys"
    file.write_text("# ours\none\ntwo bob rpm=3\n")
    for mode, remarks in ((0o600, 0), (0o644, 1)):
        os.chmod(file, mode)
        keys = keys_of(load_serve_config({"api_keys_file": str(file)}))
        assert [key.name for key in keys] == [None, "bob"]
        assert capsys.readouterr().err.count("chmod 600") == remarks
