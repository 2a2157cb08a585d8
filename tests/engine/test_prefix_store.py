"""What was read before a restart is not read again; what is damaged, foreign or too much is not used."""

from __future__ import annotations

import errno
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tiny_model import write_tiny_model
from failure_rate import failure_rate_bound
from miaotui import LLM, _native
from miaotui.engine.prefix_store import PAUSE_S, PrefixStore, folder_name
from miaotui.formats import store_files

PROMPT = "a word and the next " * 12
ASK: dict[str, Any] = {"temperature": 0.0, "max_tokens": 8, "ignore_eos": True}
MEGABYTE = 1 << 20


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "prefixes"


def ask(model: Path, prompt: str = PROMPT, limit: int = MEGABYTE, **options: Any) -> tuple[tuple[int, ...], int]:
    """What is said, and how many of the prompt's tokens were found."""
    with LLM(model, prefix_cache_bytes=limit, **options) as llm:
        completion = llm.generate(prompt, **ASK)
        llm.loaded.engine.check_integrity()
    return completion.token_ids, completion.receipt.cached_tokens


def pages(home: Path) -> list[Path]:
    return sorted(home.glob("*/*.kv"))


def test_a_restart_finds_what_was_read_before_it_and_says_the_same(home: Path, tiny_model: Path) -> None:
    first, found = ask(tiny_model)
    assert found == 0
    again, found = ask(tiny_model)
    assert again == first
    assert found >= 160
    assert ask(tiny_model, limit=0) == (first, 0)


def test_the_beginning_of_another_prompt_is_found_too(home: Path, tiny_model: Path) -> None:
    ask(tiny_model)
    want, _ = ask(tiny_model, PROMPT[:150] + "ends in another way", limit=0)
    assert ask(tiny_model, PROMPT[:150] + "ends in another way") == (want, 96)


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
def test_pages_of_one_instruction_set_serve_another(home: Path, tiny_model: Path, isa: str) -> None:
    if isa not in _native.cpu_info()["tiers"]:
        pytest.skip(f"this CPU has no {isa}")
    import subprocess
    import sys

    program = (
        "import sys; from miaotui import LLM\n"
        f"llm = LLM(sys.argv[1], prefix_cache_bytes={MEGABYTE}); c = llm.generate({PROMPT!r}, temperature=0,"
        " max_tokens=8, ignore_eos=True); print(*c.token_ids, c.receipt.cached_tokens); llm.close()"
    )
    first, _ = ask(tiny_model)
    environ = os.environ | {"MIAOTUI_ISA": isa}
    run = subprocess.run(
        [sys.executable, "-c", program, str(tiny_model)], env=environ, capture_output=True, text=True, check=True
    )
    *said, found = map(int, run.stdout.split())
    assert tuple(said) == first
    assert found >= 160


@pytest.mark.parametrize("change", [{"kv_dtype": "int8"}, {"activations": "float32"}])
def test_other_numbers_have_pages_of_their_own(home: Path, tiny_model: Path, change: dict[str, Any]) -> None:
    ask(tiny_model)
    assert ask(tiny_model, **change)[1] == 0


def test_another_model_has_pages_of_its_own(home: Path, tmp_path: Path) -> None:
    one, other = (write_tiny_model(tmp_path / f"{seed}.gguf", seed=seed) for seed in (1, 2))
    ask(one)
    assert ask(other)[1] == 0
    assert ask(one)[1] > 0


def test_a_copy_of_the_model_elsewhere_finds_the_pages_of_the_first(home: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "one.gguf")
    data = model.read_bytes()
    assert data.count(b"general.name") == 1
    model.write_bytes(data.replace(b"general.name", b"general.nome"))  # now the file's name is the model's
    want, _ = ask(model)
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / "other.gguf"
    copy.write_bytes(model.read_bytes())
    model.unlink()
    said, found = ask(copy)
    assert (said, found >= 160) == (want, True)
    assert len(list(home.iterdir())) == 1


def test_a_model_is_read_for_its_digest_once_and_only_where_pages_are_kept(
    home: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digested: list[Path] = []
    digest_file = store_files.digest_file
    monkeypatch.setattr(store_files, "digest_file", lambda path: digested.append(path) or digest_file(path))
    ask(tiny_model, limit=0)
    ask(tiny_model, prefix_cache=False)
    assert digested == []
    ask(tiny_model)
    assert ask(tiny_model)[1] >= 160
    assert digested == [tiny_model]


def test_a_model_whose_digest_cannot_be_had_keeps_pages_for_the_same_file(
    home: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(store_files, "digest_file", refuse)
    ask(tiny_model)
    assert ask(tiny_model)[1] >= 160


def test_tenants_do_not_find_each_others_pages(home: Path, tiny_model: Path) -> None:
    ask(tiny_model)
    with LLM(tiny_model, prefix_cache_bytes=MEGABYTE) as llm:
        engine, ids = llm.loaded.engine, llm.encode_prompt(PROMPT)
        from miaotui import SamplingParams

        (sequence,) = engine.add(ids, SamplingParams(**ASK), tenant="somebody else")
        while engine.scheduler.has_work:
            engine.step()
    assert sequence.num_cached_tokens == 0


def test_damaged_pages_are_read_by_the_model_again_and_replaced(home: Path, tiny_model: Path) -> None:
    rng = np.random.default_rng(0)
    want, _ = ask(tiny_model)
    failed = 0
    for case in range(40):
        files = pages(home)
        victim = files[int(rng.integers(len(files)))]
        data = bytearray(victim.read_bytes())
        if case % 4 == 0:
            data = data[: int(rng.integers(len(data)))]  # torn
        elif case % 4 == 1:
            data = bytearray(files[(files.index(victim) + 1) % len(files)].read_bytes())  # another page
        else:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        victim.write_bytes(data)
        said, _ = ask(tiny_model)
        failed += said != want
    print(
        f"40 damaged pages, {failed} wrong answers; at most {failure_rate_bound(failed, 40):.1%} with 95 % confidence"
    )
    assert failed == 0
    assert ask(tiny_model)[1] >= 160  # replaced


def test_the_limit_holds_and_the_latest_stay(home: Path, tiny_model: Path) -> None:
    with LLM(tiny_model, prefix_cache_bytes=MEGABYTE) as llm:
        page_bytes = llm.loaded.engine.scheduler.saved._file_bytes
    limit = 20 * page_bytes
    for number in range(4):
        ask(tiny_model, f"{number} " + PROMPT, limit)
        assert sum(file.stat().st_size for file in pages(home)) <= limit
    assert ask(tiny_model, "3 " + PROMPT, limit)[1] >= 160
    assert ask(tiny_model, "0 " + PROMPT, limit)[1] == 0


def test_memory_that_holds_more_than_the_limit_is_not_written_again_and_again(
    home: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LLM(tiny_model, prefix_cache_bytes=MEGABYTE) as llm:
        page_bytes = llm.loaded.engine.scheduler.saved._file_bytes
    with LLM(tiny_model, prefix_cache_bytes=320 * page_bytes) as llm:
        for number in range(50):
            llm.generate(f"{number} " + PROMPT, **ASK)
        engine = llm.loaded.engine
        assert engine.scheduler.pool.num_idle > 400
        written: list[bytes] = []
        save = PrefixStore.save
        monkeypatch.setattr(PrefixStore, "save", lambda *what: written.append(what[1]) or save(*what))
        num_turns = 0
        while not engine.save_prefixes(8) and num_turns < 100:
            num_turns += 1
        assert len(written) == len(set(written)) == engine.scheduler.saved.max_pages
        written.clear()
        assert engine.save_prefixes(8)
        assert not written


def test_a_prefix_loses_its_end_first(home: Path, tiny_model: Path) -> None:
    with LLM(tiny_model, prefix_cache_bytes=MEGABYTE) as llm:
        page_bytes = llm.loaded.engine.scheduler.saved._file_bytes
    ask(tiny_model, limit=5 * page_bytes)
    assert ask(tiny_model, limit=5 * page_bytes)[1] == 5 * 16


def test_memory_has_the_beginning_and_the_disk_the_rest(home: Path, tiny_model: Path) -> None:
    want, _ = ask(tiny_model)
    with LLM(tiny_model, prefix_cache_bytes=MEGABYTE, context_length=256) as llm:
        page = llm.loaded.kv_plan.block_bytes
    with LLM(tiny_model, prefix_cache_bytes=MEGABYTE, kv_memory_bytes=14 * page, context_length=208) as llm:
        llm.loaded.engine.scheduler.saved, saved = None, llm.loaded.engine.scheduler.saved
        llm.generate(PROMPT[:80], **ASK)
        llm.loaded.engine.scheduler.saved = saved
        completion = llm.generate(PROMPT, **ASK)
        llm.loaded.engine.check_integrity()
    assert (completion.token_ids, completion.receipt.cached_tokens >= 160) == (want, True)


def test_what_was_of_use_last_stays_longest(home: Path, tiny_model: Path) -> None:
    with LLM(tiny_model, prefix_cache_bytes=MEGABYTE) as llm:
        page_bytes = llm.loaded.engine.scheduler.saved._file_bytes
        for prompt in ("A " + PROMPT, "B " + PROMPT):
            llm.generate(prompt, **ASK)
        assert not llm.loaded.engine.save_prefixes(5)
        assert llm.loaded.engine.save_prefixes(1000)
        llm.generate("A " + PROMPT, **ASK)
    ask(tiny_model, "C " * 20, 15 * page_bytes)
    assert ask(tiny_model, "A " + PROMPT, 15 * page_bytes)[1] > 100
    assert ask(tiny_model, "B " + PROMPT, 15 * page_bytes)[1] < 100


def test_pages_are_for_this_user_alone(home: Path, tiny_model: Path) -> None:
    ask(tiny_model)
    assert {file.stat().st_mode & 0o777 for file in pages(home)} == {0o600}
    assert {file.parent.stat().st_mode & 0o777 for file in pages(home)} == {0o700}


def test_a_disk_that_cannot_be_written_costs_nothing_but_the_pages(
    home: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home.parent.mkdir()
    home.write_text("in the way")
    want, _ = ask(tiny_model, limit=0)
    assert ask(tiny_model) == (want, 0)
    assert "not kept on disk" in caplog.text


def test_little_memory_is_not_filled_from_disk_at_the_cost_of_others(home: Path, tiny_model: Path) -> None:
    want, _ = ask(tiny_model)
    with LLM(tiny_model, prefix_cache_bytes=0) as llm:
        page = llm.loaded.kv_plan.block_bytes
    for num_pages in (17, 18, 20, 30):
        assert ask(tiny_model, kv_memory_bytes=num_pages * page, context_length=256)[0] == want


def filled(store: PrefixStore, first: int, count: int) -> None:
    """Keep so many pages, eight at a time as the engine does."""
    for start in range(first, first + count, 8):
        for number in range(start, min(start + 8, first + count)):
            store.save(number.to_bytes(32), 0)
        store.make_room()


def small_store(home: Path, limit: int = MEGABYTE) -> PrefixStore:
    return PrefixStore(home, "x", _native.KvPool(1, 1, 16, 4, "f32"), limit)


class Listing(list[os.DirEntry[str]]):
    """A folder's entries, all read at once."""

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_page_that_another_process_removes_meanwhile_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(small_store(tmp_path), 0, 3)
    scandir = os.scandir

    def overtaken(path: Any) -> Listing:
        with scandir(path) as entries:
            listing = Listing(entries)
        os.unlink(listing[0].path)
        return listing

    monkeypatch.setattr(os, "scandir", overtaken)
    store = small_store(tmp_path)
    assert len(store) == 2
    assert store.works


def test_a_page_that_is_gone_is_read_by_the_model_without_a_word(
    home: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    want, _ = ask(tiny_model)
    with LLM(tiny_model, prefix_cache_bytes=MEGABYTE) as llm:
        for file in pages(home)[::2]:
            file.unlink()
        assert llm.generate(PROMPT, **ASK).token_ids == want
    assert not caplog.records


def test_a_page_that_cannot_be_read_now_stays_for_later(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    filled(store, 0, 1)
    key = (0).to_bytes(32)
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    try:
        assert not store.load(key, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    assert len(pages(tmp_path)) == 1
    assert small_store(tmp_path).load(key, 0)


@pytest.mark.parametrize(
    ("number", "passes"), [(errno.ENOSPC, True), (errno.EMFILE, True), (errno.EACCES, False), (errno.EROFS, False)]
)
def test_a_disk_that_refuses_once_is_asked_again_unless_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int, passes: bool
) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    store = small_store(tmp_path)
    filled(store, 0, 32)
    refused = 0

    def refuse(*_: object) -> None:
        nonlocal refused
        refused += 1
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as full:
        full.setattr(store_files, "write_whole", refuse)
        filled(store, 100, 16)
        assert (store.works, refused, len(caplog.records)) == (False, 1, 1)
        now_s += PAUSE_S
        filled(store, 100, 16)
        assert len(caplog.records) == refused == 1 + passes
    now_s += PAUSE_S
    filled(store, 100, 1)
    assert store.works == passes
    num_given_back = 2 + 2 if number == errno.ENOSPC else 0  # a sixteenth each time, the oldest first
    assert len(store) == len(pages(tmp_path)) == 32 - num_given_back + passes
    assert ((0).to_bytes(32) in store) == (number != errno.ENOSPC)


def test_keeping_pages_does_not_look_through_all_of_them_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small_store(tmp_path, 1000 * MEGABYTE)
    looks: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looks.append(str(path)) or scandir(path))
    filled(store, 0, 8)
    after_first = len(looks)
    filled(store, 8, 200)
    assert len(looks) == after_first > 0
    assert len(store) == len(pages(tmp_path)) == 208


def test_two_models_together_keep_to_the_limit_and_seldom_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = _native.KvPool(1, 1, 16, 4, "f32")
    limit = 800 * PrefixStore(tmp_path, "one", kv, 1)._file_bytes
    stores = [PrefixStore(tmp_path, name, kv, limit) for name in ("one", "other")]
    looks = 0
    look_through = PrefixStore._look_through

    def counted(store: PrefixStore) -> Any:
        nonlocal looks
        looks += 1
        return look_through(store)

    monkeypatch.setattr(PrefixStore, "_look_through", counted)
    for turn in range(200):
        filled(stores[turn % 2], 8 * turn, 8)
        if turn % 10 == 9:
            assert sum(file.stat().st_size for file in pages(tmp_path)) <= limit
    assert looks < 100
    latest = [int(file.stem, 16) for file in pages(tmp_path)]
    assert len(latest) > 700
    assert min(latest) > 700  # of 1,600: the latest stay, whose ever they are


@given(st.binary(max_size=300), st.text("0123456789abcdef.kv", max_size=70))
@settings(max_examples=50, deadline=None)
def test_whatever_lies_in_the_folder_is_left_alone(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    home = tmp_path_factory.mktemp("prefixes")
    folder = home / folder_name("x")
    folder.mkdir()
    if name not in ("", ".", ".."):
        (folder / name).write_bytes(data)
    (folder / ("f" * 64 + ".kv")).mkdir()
    store = PrefixStore(home, folder_name("x"), _native.KvPool(1, 1, 16, 4, "f32"), MEGABYTE)
    assert len(store) == 0
