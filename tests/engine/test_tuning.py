"""Choices by measurement: never another result, never a choice because of one noisy figure, never an error."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miaotui import LLM
from miaotui.engine import engine_thread, tuning
from miaotui.engine.async_llm import AsyncLLM
from miaotui.engine.tuning import NEVER, PANEL_TOKENS, Tuning
from miaotui.errors import ModelFileError

DEFAULTS = {"panel_tokens": 48, "panel_blocks": 2, "short_threads": 2, "long_threads": 2}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "MIN_WEIGHT_BYTES", 0)
    monkeypatch.setattr(tuning, "UNCROWDED", 0.0)  # the tests share the machine
    return tmp_path


@pytest.mark.parametrize("activations", ["int16", "int8"])
def test_no_choice_changes_a_bit(tiny_model: Path, activations: Any) -> None:
    with LLM(tiny_model, context_length=160, activations=activations, max_logit_rows=150) as llm:  # in one long step
        program = llm.loaded.compiled.program
        prompt = [i % 90 + 5 for i in range(150)]
        want = llm.logits(prompt)
        for panel_tokens in (1, NEVER):
            for panel_blocks in (1, 2):
                for threads in (1, 2):
                    program.tune(
                        panel_tokens=panel_tokens,
                        panel_blocks=panel_blocks,
                        short_threads=threads,
                        long_threads=threads,
                    )
                    np.testing.assert_array_equal(llm.logits(prompt), want)


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("value", [0, -1])
def test_choices_out_of_range_are_refused(tiny_model: Path, name: str, value: int) -> None:
    with LLM(tiny_model, context_length=64) as llm:
        program = llm.loaded.compiled.program
        before = program.tuning
        with pytest.raises(ModelFileError):
            program.tune(**{**DEFAULTS, name: value})
        assert program.tuning == before


def test_the_first_start_measures_and_later_ones_do_not(
    tiny_model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LLM(tiny_model, context_length=64, tune=True) as llm:
        chosen = llm.loaded.compiled.program.tuning
    (file,) = home.glob("tuning/*.json")
    monkeypatch.setattr(tuning, "measure", lambda *_, **__: pytest.fail("measured again"))
    with LLM(tiny_model, context_length=64, tune=True) as llm:
        assert llm.loaded.compiled.program.tuning == chosen
    row = json.loads(file.read_text())
    row["choices"] |= {"panel_tokens": 77, "short_threads": 1}
    file.write_text(json.dumps(row))
    with LLM(tiny_model, context_length=64, tune=True) as llm:
        assert llm.loaded.compiled.program.tuning == row["choices"]


def test_a_model_may_be_ready_first_and_measure_later(tiny_model: Path, home: Path) -> None:
    with LLM(tiny_model, context_length=64, tune=True, tune_in_pauses=True) as llm:
        assert not list(home.glob("tuning/*.json"))
        llm.tune()
    (file,) = home.glob("tuning/*.json")
    kept = tuning.load(file)
    assert kept is not None
    assert kept.is_complete


def test_a_draft_model_is_measured_with_the_large_one(tiny_model: Path, home: Path) -> None:
    options: dict[str, Any] = {"context_length": 64, "tune": True, "kv_memory_bytes": 8 << 20}
    with LLM(tiny_model, draft_model=tiny_model, tune_in_pauses=True, **options) as llm:
        llm.tune()
    assert len(list(home.glob("tuning/*.json"))) == 2  # the draft model's steps are shorter


def test_a_pause_of_a_server_is_for_measuring_and_who_comes_ends_it(
    tiny_model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, num_pauses = tuning.measure, 0

    def endless(*args: Any, may_go_on: Callable[[], bool], **options: Any) -> Tuning:
        nonlocal num_pauses
        num_pauses += 1
        if num_pauses == 1:
            while may_go_on():
                time.sleep(0.001)
        return measure(*args, may_go_on=may_go_on, **options)

    monkeypatch.setattr(tuning, "measure", endless)
    monkeypatch.setattr(engine_thread, "QUIET_S", 0.01)

    async def use() -> None:
        async with AsyncLLM(tiny_model, context_length=64, tune=True) as llm:
            while not num_pauses:
                await asyncio.sleep(0.001)
            assert (await llm.generate("the cat", max_tokens=2)).text
            while not list(home.glob("tuning/*.json")):
                await asyncio.sleep(0.001)
            assert num_pauses == 2
            assert (await llm.generate("the cat", max_tokens=2)).text

    asyncio.run(asyncio.wait_for(use(), 60))


def test_a_measurement_that_was_called_away_goes_on_the_next_time(tiny_model: Path) -> None:
    with LLM(tiny_model, context_length=64) as llm:
        loaded = llm.loaded
        before = loaded.compiled.program.tuning

        def measured(num_steps: int, found: Tuning | None) -> Tuning:
            steps = iter(range(num_steps))
            return tuning.measure(
                loaded.compiled,
                loaded.file.spec,
                "int16",
                max_tokens=512,
                budget_s=30.0,
                before=found,
                may_go_on=lambda: next(steps, None) is not None,
            )

        first = measured(0, None)
        assert (first.measured, first.choices) == ([], before)
        second = measured(60, first)  # the threads of decoding take 24 at most, the number of tokens 96
        assert second.measured == ["short_threads"]
        assert loaded.compiled.program.tuning == second.choices
        assert measured(10_000, second).is_complete


def made(gains: dict[str, float] | None = None, measured: tuple[str, ...] = tuple(DEFAULTS)) -> Tuning:
    return Tuning("toy", tuning.machine(), DEFAULTS, gains or {"decode": 1.5}, list(measured), 1.0)


def damaged(change: Callable[[dict[str, Any]], object]) -> str:
    row = json.loads(made().to_json())
    change(row)
    return json.dumps(row)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        damaged(lambda row: row.update(version=0)),
        damaged(lambda row: row["gains"].update(decode=float("nan"))),
        damaged(lambda row: row["gains"].update(luck=2.0)),
        damaged(lambda row: row.update(model="a\x1b[2Jb")),
        damaged(lambda row: row["measured"].append("everything")),
        json.dumps(json.loads(made().to_json())).replace('"seconds": 1.0', '"seconds": 1' + "0" * 400),
        "[" * 200_000,
        damaged(lambda row: row.pop("choices")),
        damaged(lambda row: row["choices"].pop("panel_tokens")),
        damaged(lambda row: row["choices"].update(more=1)),
        damaged(lambda row: row["choices"].update(panel_tokens=0)),
        damaged(lambda row: row["choices"].update(panel_tokens=True)),
        damaged(lambda row: row["choices"].update(panel_tokens="24")),
        damaged(lambda row: row["choices"].update(panel_blocks=1 << 40)),
        damaged(lambda row: row.update(seconds=[])),
        damaged(lambda row: row.update(gains={"decode": "much"})),
    ],
    ids=lambda text: str(zlib.crc32(text.encode())),
)
def test_a_stale_or_damaged_file_is_ignored_and_rebuilt(text: str, tiny_model: Path, home: Path) -> None:
    with LLM(tiny_model, context_length=64, tune=True):
        pass
    (file,) = home.glob("tuning/*.json")
    file.write_text(text)
    assert tuning.load(file) is None
    with LLM(tiny_model, context_length=64, tune=True):
        pass
    assert tuning.load(file) is not None


def test_choices_that_the_program_does_not_have_are_measured_anew(tiny_model: Path, home: Path) -> None:
    with LLM(tiny_model, context_length=64, tune=True):
        pass
    (file,) = home.glob("tuning/*.json")
    file.write_text(damaged(lambda row: row["choices"].update(panel_blocks=3)))
    with LLM(tiny_model, context_length=64, tune=True) as llm:
        assert llm.loaded.compiled.program.tuning["panel_blocks"] in (1, 2)
    assert json.loads(file.read_text())["choices"]["panel_blocks"] in (1, 2)


def test_what_was_chosen_is_what_is_kept(home: Path) -> None:
    chosen = made()
    tuning.save(home / "tuning" / "x.json", chosen)
    assert tuning.load(home / "tuning" / "x.json") == chosen
    tuning.save(home / "tuning" / "y.json", replace(chosen, machine="another one"))
    assert tuning.kept(home) == [chosen]
    assert not list(home.glob("tuning/*.part"))


def test_a_folder_that_cannot_be_written_is_no_error(tiny_model: Path, home: Path) -> None:
    (home / "tuning").write_text("in the way")
    with LLM(tiny_model, context_length=64, tune=True) as llm:
        assert llm.generate("the cat", max_tokens=2).text


def test_without_time_the_defaults_stay(tiny_model: Path) -> None:
    with LLM(tiny_model, context_length=64) as llm:
        before = llm.loaded.compiled.program.tuning
        loaded = llm.loaded
        found = tuning.measure(loaded.compiled, loaded.file.spec, "int16", max_tokens=512, budget_s=0.0)
        assert found.choices == before == loaded.compiled.program.tuning
        assert not found.gains


class MadeUpBench:
    """Steps that take as long as the test says."""

    def __init__(self, direct_s: Callable[[int], float], panels_s: Callable[[int], float]) -> None:
        self.direct_s, self.panels_s = direct_s, panels_s

    def compare(self, candidates: list[dict[str, int]], tokens: int, *, whole: bool) -> list[float]:
        del whole
        return [(self.panels_s if c["panel_tokens"] <= tokens else self.direct_s)(tokens) for c in candidates]


def choose(direct_s: Callable[[int], float], panels_s: Callable[[int], float]) -> tuple[int, dict[str, float]]:
    choices, gains = dict(DEFAULTS), dict[str, float]()
    tuning._choose_panel_tokens(MadeUpBench(direct_s, panels_s), choices, gains)  # type: ignore[arg-type]
    return choices["panel_tokens"], gains


@pytest.mark.parametrize("crossing", [*PANEL_TOKENS, NEVER])
def test_the_crossing_is_found(crossing: int) -> None:
    chosen, gains = choose(lambda n: n * 1.0, lambda n: n * (0.8 if n >= crossing else 1.25))
    assert chosen == crossing
    assert gains == ({} if crossing == DEFAULTS["panel_tokens"] else {"small batches": pytest.approx(1.25)})


def test_one_noisy_figure_decides_nothing() -> None:
    noisy = {96: 3.0}
    assert choose(lambda n: n * 1.0, lambda n: n * (0.7 if n >= 48 else 1.3) * noisy.get(n, 1.0)) == (48, {})


def test_a_gain_within_the_noise_changes_nothing() -> None:
    assert choose(lambda n: n * 1.0, lambda n: n * 0.99) == (48, {})


def test_what_there_was_no_time_for_is_measured_by_the_next_start(tiny_model: Path) -> None:
    with LLM(tiny_model, context_length=64) as llm:
        loaded = llm.loaded
        before = made({"decode": 1.5}, ("short_threads", "panel_blocks"))
        found = tuning.measure(loaded.compiled, loaded.file.spec, "int16", max_tokens=512, budget_s=30.0, before=before)
        assert found.is_complete
        assert not before.is_complete
        assert found.gains["decode"] == 1.5


class Scripted:
    """Answers comparisons with what the test has written down, one after the other."""

    def __init__(self, *answers: list[float] | None) -> None:
        self.answers = list(answers)
        self.asked: list[list[int]] = []

    def compare(self, candidates: list[dict[str, int]], tokens: int, *, whole: bool) -> list[float] | None:
        del tokens, whole
        self.asked.append([c["short_threads"] for c in candidates])
        return self.answers.pop(0)


def take(bench: Scripted) -> tuple[bool, int, dict[str, float]]:
    choices, gains = {**DEFAULTS, "short_threads": 8}, dict[str, float]()
    done = tuning._take_fastest(bench, choices, gains, "short_threads", (8, 4, 2), 1, "decode")  # type: ignore[arg-type]
    return done, choices["short_threads"], gains


def test_the_fastest_candidate_is_taken_if_it_is_so_twice() -> None:
    bench = Scripted([1.0, 0.9, 0.5], [1.0, 0.8])
    assert take(bench) == (True, 2, {"decode": pytest.approx(1.25)})
    assert bench.asked == [[8, 4, 2], [8, 2]]


def test_what_is_fast_only_once_is_noise() -> None:
    assert take(Scripted([1.0, 0.5, 0.9], [1.0, 0.99])) == (True, 8, {})
    assert take(Scripted([1.0, 0.97, 0.99])) == (True, 8, {})


def test_out_of_time_nothing_is_taken() -> None:
    assert take(Scripted(None)) == (False, 8, {})
    assert take(Scripted([1.0, 0.5, 0.9], None)) == (False, 8, {})


def test_steps_too_short_for_a_choice_do_not_make_it() -> None:
    choices, gains = dict(DEFAULTS), dict[str, float]()
    for name, largest in (("panel_tokens", 64), ("panel_blocks", 127), ("long_threads", 127)):
        assert tuning._choose(name, Scripted(), choices, gains, largest)  # type: ignore[arg-type]
    assert choices == DEFAULTS


def test_while_others_take_the_processors_nothing_is_chosen(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "ENOUGH_S", 0.0)
    monkeypatch.setattr(tuning, "UNCROWDED", 0.9)
    with LLM(tiny_model, context_length=64) as llm:
        loaded = llm.loaded
        before = loaded.compiled.program.tuning
        clock = iter(range(1 << 30))
        monkeypatch.setattr(tuning.time, "process_time", lambda: next(clock) * 1e-9)  # hardly any
        found = tuning.measure(loaded.compiled, loaded.file.spec, "int16", max_tokens=512, budget_s=30.0)
        assert found.choices == before == loaded.compiled.program.tuning
        assert not found.measured
