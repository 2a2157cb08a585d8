"""Every subcommand: its output for people, its JSON, its exit codes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from miaotui import __version__
from miaotui.cli import COMMANDS, main
from miaotui.cli.output import print_pairs


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))
    for name in ("MIAOTUI_MODEL", "MIAOTUI_THREADS", "MIAOTUI_ISA"):
        monkeypatch.delenv(name, raising=False)


def call(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    capfd.readouterr()
    code = main([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def call_json(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    code, out, err = call(capfd, *arguments, "--json")
    assert code == 0, err
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_help_lists_every_command_and_each_has_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capfd, "--help")
    assert code == 0
    assert call(capfd) == (2, "", out)
    for name in COMMANDS:
        assert f"\n  {name} " in out
        code, own, err = call(capfd, name, "--help")
        assert (code, err) == (0, "")
        assert f"usage: miaotui {name}" in own
        assert "--json" in own


def test_help_imports_neither_numpy_nor_the_engine() -> None:
    for arguments in (["--help"], ["run", "--help"]):
        code = f"import sys; from miaotui.cli import main; main({arguments}); print(*sys.modules, file=sys.stderr)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        modules = done.stderr.split()
        assert "miaotui.cli" in modules
        for heavy in ("numpy", "tokenizers", "jinja2", "miaotui._native", "miaotui.engine", "miaotui.formats"):
            assert heavy not in modules


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "did you mean"),
        (["run", "--bogus"], "unrecognized arguments: --bogus; see miaotui run --help"),
        (["pull"], "model"),
        (["eval", "kl", "m", "--text", "x"], "'kl'"),
        (["run", "m", "--top-k", "x"], "--top-k: it must be a whole number, not 'x'"),
        (["run", "m", "hi", "--top-p", "two"], "--top-p: it must be a number, not 'two'"),
        (["run", "m", "hi", "--temperature", "nan"], "--temperature must be a number from 0 to 100"),
        (["run", "m", "hi", "--repetition-penalty", "0"], "--repetition-penalty must be a number from 0.01 to 10"),
        (["run", "m", "hi", "--repetition-detection", "64"], "must be SIZE,COUNT such as 64,4, not '64'"),
        (["run", "m", "hi", "--repetition-detection", "64,1"], "min_count must be a whole number from 2 to"),
        (["run", "m", "hi", "--stop-when", "xml"], "must be json or choices such as A,B,C, not 'xml'"),
        (["run", "m", "hi", "--stop-when", "A,(B)"], "each choice must have 1 to"),
        (["run", "m", "hi", "--kv-dtype", "f8"], "flag --kv-dtype is 'f8'"),
        (["run", "m", "hi", "--kv-memory", "lots"], "flag --kv-memory is 'lots'"),
        (["run", "m", "hi", "--threads", "0"], "flag --threads is '0'"),
        (["bench", "m", "--repeats", "0"], "--repeats: it must be at least 1, not 0"),
        (["eval", "ppl", "m", "--text", "x", "--windows", "0"], "--windows: it must be at least 1, not 0"),
        (["run", "What is the capital?"], "the first argument is the model, as in: miaotui run smollm2:135m 'What"),
        (["run", "Is 1/2 a number?"], "the first argument is the model"),
    ],
    ids=str,
)
def test_wrong_usage_exits_2_with_a_sentence(
    capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = call(capfd, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("miaotui: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "/none/at/all.gguf"], "there is no file"),
        (["run", "nosuchmodel", "hi"], "there is no model"),
        (["run", "SmolLM:135M", "hi"], "did you mean smollm2:135m?"),
        (["rm", "smollm2:135m"], "is not here"),
        (["rm", "./some/model.gguf"], "delete that file yourself"),
        (["pull", os.devnull], "neither a regular file"),
        (["eval", "ppl", "m", "--text", "/none"], "cannot read '/none'"),
    ],
    ids=str,
)
def test_problems_are_one_message_without_a_traceback(
    capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = call(capfd, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("miaotui: ")
    assert message in err
    assert "Traceback" not in err


def test_ctrl_c_anywhere_exits_130_without_a_word(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("miaotui.cli.ls.run", interrupted)
    assert call(capfd, "ls") == (130, "", "")


def test_options_may_stand_anywhere(capfd: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    answers = {
        call(capfd, "run", *order)[1]
        for order in (
            (tiny_model, "the", "cat", "--quiet", "--max-tokens", "5"),
            ("--max-tokens", "5", tiny_model, "--quiet", "the", "cat"),
            (tiny_model, "--max-tokens", "5", "the cat", "--quiet"),
        )
    }
    assert len(answers) == 1


def test_version_and_module_entry_point() -> None:
    done = subprocess.run([sys.executable, "-m", "miaotui", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"miaotui {__version__}\n"


def test_store_commands_follow_a_model_from_absent_to_deleted(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path
) -> None:
    assert call_json(capfd, "ls") == []
    code, out, err = call(capfd, "ls")
    assert (code, out) == (0, "")
    assert "miaotui pull" in err
    from miaotui.formats.store import ModelStore
    from miaotui.formats.store_files import Record

    folder = ModelStore.default().folder / "smollm2-135m"
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(tiny_model.read_bytes())
    size = tiny_model.stat().st_size
    Record("smollm2:135m", "model.gguf", "a test", size).write(folder)
    path = str(folder / "model.gguf")
    assert call_json(capfd, "ls") == [{"name": "smollm2:135m", "size_bytes": size, "source": "a test", "path": path}]
    assert "smollm2:135m" in call(capfd, "ls")[1]
    assert call(capfd, "pull", "smollm2:135m")[:2] == (0, path + "\n")
    assert call_json(capfd, "pull", "smollm2:135m") == {"model": "smollm2:135m", "path": path}
    assert call_json(capfd, "show", "smollm2:135m")["path"] == path
    assert call_json(capfd, "rm", "smollm2:135m")["freed_bytes"] > size
    assert call_json(capfd, "ls") == []


def test_pull_of_a_file_that_is_no_model_is_refused(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty.gguf").touch()
    code, out, err = call(capfd, "pull", tmp_path / "empty.gguf")
    assert (code, out) == (1, "")
    assert "empty.gguf" in err


def test_show_says_what_limits_the_kv_memory(capfd: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    memory = call_json(capfd, "show", tiny_model)["memory"]
    assert memory["kv_bytes_at_most"] == 16 * memory["kv_bytes_of_a_context"]  # few enough for any machine
    assert memory["kv_bytes_of_a_context"] == 1024 * memory["kv_bytes_per_token"]
    for options, limit in (((), "16 full contexts"), (("--kv-memory", "100k"), "flag --kv-memory")):
        lines = call(capfd, "show", tiny_model, *options)[1].splitlines()
        assert [limit in line for line in lines if line.startswith("  KV  ")] == [True]


def test_show_gives_spec_types_memory_and_rates(capfd: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    report = call_json(capfd, "show", tiny_model)
    assert (report["spec"]["architecture"], report["spec"]["num_layers"]) == ("llama", 2)
    assert report["file_bytes"] == tiny_model.stat().st_size
    assert sum(t["bytes"] for t in report["tensor_types"]) == report["memory"]["weight_bytes"] < report["file_bytes"]
    assert [t["type"] for t in report["tensor_types"]] == ["Q8_0", "F32"]
    assert report["memory"]["context_length"] == report["memory"]["model_context_length"] == 1024
    assert report["memory"]["kv_bytes_per_token"] == 2 * 2 * 2 * (
        16 * 2 + 4
    )  # layers x heads x (k, v) x (width x int16 + scale)
    assert report["predicted"]["decode_tokens_per_s"] > 0
    assert report["predicted"]["prefill_tokens_per_s"] > 0
    text = call(capfd, "show", tiny_model, "--context-length", "64")[1]
    for part in ("llama", "Q8_0", "64 tokens (the model allows 1024)", "decode", "GB/s", "GOPS"):
        assert part in text


def test_show_graph_prints_operators_before_and_after_fusion(
    capfd: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    text = call(capfd, "show", tiny_model, "--graph")[1]
    assert "before fusion" in text
    assert "after fusion" in text
    graph = call_json(capfd, "show", tiny_model, "--graph")["graph"]
    assert len(graph["before"]) > len(graph["after"]) > 0
    assert {"kind", "flops", "weight_bytes"} <= set(graph["after"][0])


def test_eval_ppl_reads_files_and_pipes(capfd: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path) -> None:
    text = "the cat and the dog are in the house. " * 150
    (tmp_path / "t.txt").write_text(text)
    result = call_json(capfd, "eval", "ppl", tiny_model, "--text", tmp_path / "t.txt", "--windows", "2")
    assert set(result) == {"ppl", "stderr", "windows"}
    assert result["windows"] == 2
    assert math.isfinite(result["ppl"])
    assert result["ppl"] > result["stderr"] > 0
    line = [sys.executable, "-m", "miaotui", "eval", "ppl", str(tiny_model), "--text", "-", "--windows", "2"]
    done = subprocess.run(line, input=text, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"perplexity {result['ppl']:.4f} ± {result['stderr']:.4f} over 2 windows")
    (tmp_path / "bad.txt").write_bytes(b"ab\xff")
    assert "not UTF-8 text (byte 2)" in call(capfd, "eval", "ppl", tiny_model, "--text", tmp_path / "bad.txt")[2]


def test_bench_gives_rates_beside_the_ceilings(capfd: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    options = ("--prompt-tokens", "64", "--output-tokens", "8", "--repeats", "1")
    report = call_json(capfd, "bench", tiny_model, *options)
    assert report["prefill"]["tokens_per_s"] > 0
    assert report["prefill"]["gops"] > 0
    assert report["decode"]["tokens_per_s"] > 0
    assert report["decode"]["gb_per_s"] > 0
    assert {"read_gb_per_s", "int8_gops", "model", "tier", "threads"} <= set(report["machine"])
    code, out, err = call(capfd, "bench", tiny_model, *options)
    assert code == 0
    assert "GOPS" in out
    assert "GB/s" in out
    assert "threads" in err


def test_tune_measures_keeps_and_doctor_shows_it(capfd: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    report = call_json(capfd, "tune", tiny_model, "--seconds", "1")
    assert set(report["choices"]) == {"panel_tokens", "panel_blocks", "short_threads", "long_threads"}
    kept = json.loads(Path(report["file"]).read_text())
    assert kept["choices"] == report["choices"]
    code, out, _ = call(capfd, "tune", tiny_model, "--seconds", "1")
    assert code == 0
    assert "threads" in out
    assert Path(report["file"]).name in out
    tunings = call_json(capfd, "doctor")["tuning"]
    assert [row["choices"] for row in tunings] == [json.loads(Path(report["file"]).read_text())["choices"]]
    assert "tuned for this machine" in call(capfd, "doctor")[1]


def test_bench_shows_where_the_time_goes(capfd: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    options = ("--prompt-tokens", "40", "--output-tokens", "8", "--repeats", "2", "--ops")
    report = call_json(capfd, "bench", tiny_model, *options)
    for phase, tokens in (("prefill", 40), ("decode", 1)):
        ops = {(op["kind"], op["name"]): op for op in report["ops"][phase]}
        assert sum(op["share"] for op in ops.values()) == pytest.approx(1)
        down = ops["linear", "down"]
        assert down["count"] == 2  # layers
        # Two int8 products for one of 16 bits; the last layer works on the one row whose logits are wanted.
        assert down["operations"] == pytest.approx(2 * 2 * 64 * 128 * (tokens + 1), rel=0.01)
        assert down["bytes"] > 2 * 64 * 128 / 2
        assert 0 < down["of_roofline"] == pytest.approx(down["ceiling_s"] / down["seconds"])
    code, out, _ = call(capfd, "bench", tiny_model, *options)
    assert code == 0
    assert "of roofline" in out


def test_bench_draws_where_the_time_goes(capfd: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path) -> None:
    options = ("--prompt-tokens", "40", "--output-tokens", "8", "--repeats", "1")
    picture = tmp_path / "ops.svg"
    code, _, err = call(capfd, "bench", tiny_model, *options, "--plot", picture)
    assert code == 2
    assert "add --ops" in err
    report = call_json(capfd, "bench", tiny_model, *options, "--ops", "--plot", picture)
    drawing = ElementTree.parse(picture).getroot()
    texts = [element.text or "" for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    for phase in ("prefill", "decode"):
        for op in report["ops"][phase]:
            if op["share"] > 0.02:
                assert any(f"{op['kind']} {op['name']}, {op['of_roofline']:.0%}" in text for text in texts)
    assert drawing.findall("{http://www.w3.org/2000/svg}circle")
    code, _, err = call(capfd, "bench", tiny_model, *options, "--ops", "--plot", tmp_path / "no" / "folder.svg")
    assert code == 1
    assert "folder.svg" in err


def test_doctor_knows_the_machine_and_what_is_missing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = call_json(capfd, "doctor")
    assert report["cpu"]["tier"] in report["cpu"]["tiers"]
    assert report["memory"]["available_bytes"] > 0
    assert any(finding["fix"] == "miaotui pull smollm2:135m" for finding in report["findings"])
    assert not any(finding["fatal"] for finding in report["findings"])
    monkeypatch.setattr("miaotui.cli.doctor.NEEDED", ("numpy", "no-such-package"))
    code, out, _ = call(capfd, "doctor")
    assert code == 1
    assert "pip install no-such-package" in out


def test_doctor_exits_1_when_a_model_can_neither_be_found_nor_fetched(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(capfd, "doctor")[0] == 0
    monkeypatch.setenv("MIAOTUI_OFFLINE", "1")
    assert call(capfd, "doctor")[0] == 1


def test_columns_of_names_and_values_never_touch(capfd: pytest.CaptureFixture[str]) -> None:
    long = "a fix that is longer than any name"
    print_pairs("to do", [(long, "a problem"), ("short", "another")])
    assert capfd.readouterr().out == f"to do\n  {long}  a problem\n  {'short':<{len(long)}}  another\n"
