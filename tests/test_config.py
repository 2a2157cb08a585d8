from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.config import (
    SERVE_SETTINGS,
    SETTINGS,
    Config,
    ServeConfig,
    config_path,
    export_native_settings,
    load_config,
    load_serve_config,
    parse_bytes,
)
from miaotui.errors import ConfigError


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def write_toml(environ: dict[str, str], text: str) -> Path:
    file = config_path(environ)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_flag_beats_environment_beats_file_beats_default(environ: dict[str, str]) -> None:
    assert (load_config({}, environ).threads, load_config({}, environ).sources["threads"]) == (None, "default")
    file = write_toml(environ, "threads = 2\n")
    assert load_config({}, environ).threads == 2
    assert str(file) in load_config({}, environ).sources["threads"]
    environ["MIAOTUI_THREADS"] = "3"
    assert load_config({}, environ).threads == 3
    assert load_config({"threads": 4}, environ).threads == 4
    assert load_config({"threads": None}, environ).threads == 3, "a flag that was not given decides nothing"


def test_every_setting_can_be_set_in_every_place(environ: dict[str, str], tmp_path: Path) -> None:
    good: dict[str, object] = {
        "home": str(tmp_path / "elsewhere"),
        "model": "other:1b",
        "threads": 7,
        "isa": "avx2",
        "activations": "float32",
        "kv_dtype": "int8",
        "context_length": 4096,
        "kv_memory_bytes": "256MiB",
        "offline": True,
        "pack_cache_bytes": 0,
        "prefix_cache_bytes": 1 << 30,
        "tune": False,
        "drafting": "past",
        "past_answers_bytes": "8MiB",
        "draft_model": "small:1b",
    }
    assert good.keys() == {setting.name for setting in SETTINGS}
    by_flag = load_config(good, environ)
    by_variable = load_config({}, environ | {s.variable: str(good[s.name]) for s in SETTINGS})
    lines = [
        f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for name, value in good.items()
    ]
    write_toml(environ, "\n".join(lines))
    by_file = load_config({}, environ)

    def values(config: Config) -> list[object]:
        return [getattr(config, setting.name) for setting in SETTINGS]

    assert values(by_flag) == values(by_variable) == values(by_file)
    assert "default" not in {*by_flag.sources.values(), *by_variable.sources.values(), *by_file.sources.values()}


def test_every_setting_of_the_server_can_be_set_in_every_place(environ: dict[str, str], tmp_path: Path) -> None:
    good: dict[str, object] = {
        "host": "0.0.0.0",
        "port": 9000,
        "host_names": ["a.example", "b.example"],
        "model_name": "mine",
        "embed_model": "minilm",
        "small_model": "smollm2:135m",
        "gate": str(tmp_path / "gate.json"),
        "api_keys_file": str(tmp_path / "keys"),
        "api_keys": ["one", "two"],
        "max_sequences": 3,
        "max_waiting": 0,
        "max_connections": 77,
        "max_body_bytes": "1MiB",
        "rate_limit_requests": 60,
        "rate_limit_tokens": 10_000,
        "header_timeout_s": 1.5,
        "body_timeout_s": 2,
        "send_timeout_s": 3,
        "idle_timeout_s": 0,
        "shutdown_timeout_s": 4,
        "exit_when_hung_s": 5,
        "log_format": "json",
        "cache": ["sqlite"],
        "cache_memory_bytes": "1MiB",
        "cache_store_bytes": "2MiB",
        "cache_ttl_s": 60,
        "cache_secret": "a long enough secret",
        "near": "guarded",
        "near_delta": 0.02,
        "planning": "adaptive",
    }
    assert good.keys() == {setting.name for setting in SERVE_SETTINGS}
    variables = {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in good.items()}
    by_flag = load_serve_config(good, environ)
    by_variable = load_serve_config({}, environ | {s.variable: variables[s.name] for s in SERVE_SETTINGS})
    write_toml(environ, "\n".join(["threads = 2", "[serve]", *(f"{name} = {value!r}" for name, value in good.items())]))
    by_file = load_serve_config({}, environ)

    def values(config: ServeConfig) -> list[object]:
        return [getattr(config, setting.name) for setting in SERVE_SETTINGS]

    assert values(by_flag) == values(by_variable) == values(by_file)
    assert by_flag.host_names == ("a.example", "b.example")
    assert "default" not in {*by_flag.sources.values(), *by_variable.sources.values(), *by_file.sources.values()}
    assert load_config({}, environ).threads == 2, "the server's table does not disturb other commands"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"port": "99999"}, r"flag --port is '99999'; --port .* from 0 to 65535"),
        ({"host_names": [1]}, "flag --host-name is .* a list of texts"),
        ({"header_timeout_s": "nan"}, "flag --header-timeout is 'nan'; .* seconds"),
        ({"header_timeout_s": float("inf")}, "seconds"),
        ({"exit_when_hung_s": "-1"}, "flag --exit-when-hung"),
        ({"log_format": "xml"}, "text, json, none"),
        ({"max_body_bytes": "0"}, "flag --max-body"),
    ],
)
def test_bad_flag_of_the_server_is_named_as_the_flag(
    environ: dict[str, str], flags: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_serve_config(flags, environ)


def test_secrets_are_not_in_messages(environ: dict[str, str]) -> None:
    write_toml(environ, '[serve]\napi_keys = ["s3cret", 3]\n')
    with pytest.raises(ConfigError, match="api_keys") as caught:
        load_serve_config({}, environ)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MIAOTUI_THREADS", "many"),
        ("MIAOTUI_THREADS", "0"),
        ("MIAOTUI_THREADS", "-1"),
        ("MIAOTUI_THREADS", "2.5"),
        ("MIAOTUI_THREADS", "٣"),
        ("MIAOTUI_THREADS", "9" * 5000),
        ("MIAOTUI_KV_DTYPE", "f64"),
        ("MIAOTUI_KV_MEMORY", "lots"),
        ("MIAOTUI_KV_MEMORY", "-1G"),
        ("MIAOTUI_KV_MEMORY", "nan"),
        ("MIAOTUI_KV_MEMORY", "1e400"),
        ("MIAOTUI_OFFLINE", "perhaps"),
        ("MIAOTUI_MODEL", " "),
    ],
)
def test_bad_value_is_named_with_its_source(environ: dict[str, str], variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=variable) as caught:
        load_config({}, environ | {variable: value})
    assert repr(value) in str(caught.value)


def test_bad_flag_is_named_as_the_flag(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"flag --kv-memory is 'x'.*256MiB"):
        load_config({"kv_memory_bytes": "x"}, environ)


def test_home_that_is_a_file_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"MIAOTUI_HOME.*folder"):
        load_config({}, environ | {"MIAOTUI_HOME": str(tmp_path / "file")})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thread = 2", "did you mean 'threads'"),
        ("zzz = 1", "known keys: home"),
        ("threads = ", "not valid TOML"),
        ("port = 1", r"unknown key 'port'; it belongs under \[serve\]"),
        ("[serve]\nprot = 1", "did you mean 'port'"),
        ("[serve]\nthreads = 1", "it belongs before the first table"),
        ("serve = 1", "must be a table"),
        ("threads = true", "key 'threads'"),
        ("[threads]\nn = 1", "key 'threads'"),
        ("#" * (1 << 20) + "\n", "larger"),
    ],
)
def test_bad_file_is_one_typed_error_naming_it(environ: dict[str, str], text: str, message: str) -> None:
    file = write_toml(environ, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config({}, environ)
    assert str(file) in str(caught.value)


@given(st.binary(max_size=64))
def test_any_bytes_as_file_give_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path_factory.getbasetemp() / "any"), "XDG_CACHE_HOME": "/nowhere"}
    config_path(environ).parent.mkdir(parents=True, exist_ok=True)
    config_path(environ).write_bytes(raw)
    with contextlib.suppress(ConfigError):
        load_config({}, environ)


@given(st.integers(1, 2**40), st.sampled_from(["", "B", "K", "MiB", "g", "TB"]))
def test_sizes_scale_with_their_unit(number: int, unit: str) -> None:
    scale = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}[unit.lower()[:1]]
    if number << scale < 2**53:
        assert parse_bytes(f"{number}{unit}") == number << scale


def test_relative_xdg_folders_are_ignored(environ: dict[str, str]) -> None:
    assert load_config({}, {"XDG_CACHE_HOME": "cache"}).home == Path.home() / ".cache" / "miaotui"
    assert load_config({}, environ).home == Path(environ["XDG_CACHE_HOME"]) / "miaotui"


def test_native_settings_reach_the_environment_of_the_core(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIAOTUI_THREADS", "1")
    monkeypatch.setenv("MIAOTUI_ISA", "scalar")
    export_native_settings(load_config({"threads": 2, "isa": "avx2"}, environ))
    assert (os.environ["MIAOTUI_THREADS"], os.environ["MIAOTUI_ISA"]) == ("2", "avx2")
