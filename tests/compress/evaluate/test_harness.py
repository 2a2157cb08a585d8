"""What the harness asks is what our engine answers; its own package is not needed for that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui import LLM
from miaotui.compress.evaluate.harness import harness_model, rolling_windows, sampling
from miaotui.errors import ConfigError, ContextLengthError, InvalidRequestError

TEXT = "the cat and the dog and the end"


@dataclass
class Instance:
    """As lm_eval.api.instance has it, as far as models look at it."""

    args: tuple[Any, ...]


class Hook:
    def __init__(self) -> None:
        self.kept: list[tuple[str, Any, Any]] = []

    def add_partial(self, method: str, args: Any, answer: Any) -> None:
        self.kept.append((method, args, answer))


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> type:
    """Stands for lm_eval.api.model.LM, with the abstract methods that it has."""
    import abc

    class LM(abc.ABC):
        def __init__(self) -> None:
            self.cache_hook = Hook()

        @abc.abstractmethod
        def loglikelihood(self, requests: Any) -> Any: ...
        @abc.abstractmethod
        def loglikelihood_rolling(self, requests: Any) -> Any: ...
        @abc.abstractmethod
        def generate_until(self, requests: Any) -> Any: ...

    modules = {name: ModuleType(name) for name in ("lm_eval", "lm_eval.api", "lm_eval.api.model")}
    modules["lm_eval.api.model"].LM = LM  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return LM


@pytest.fixture
def llm(tiny_model: Path) -> Iterator[LLM]:
    with LLM(tiny_model, context_length=64) as llm:
        yield llm


def test_it_is_a_model_of_the_harness(base: type, llm: LLM) -> None:
    assert isinstance(harness_model(llm), base)


def test_without_the_harness_its_name_is_told(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigError, match="pip install lm-eval"):
        harness_model(llm)


def test_likelihoods_are_those_of_the_engine(base: type, llm: LLM) -> None:
    model = harness_model(llm)
    requests = [Instance(("the cat", " and the dog")), Instance(("the cat ", "and the dog")), Instance(("", "the cat"))]
    got = model.loglikelihood(requests)
    ids = llm.tokenizer.encode("the cat and the dog")
    exact = llm.score(ids[: len(llm.tokenizer.encode("the cat"))], ids[len(llm.tokenizer.encode("the cat")) :])
    assert got[0] == got[1] == (exact.total, False)  # the blank belongs to the continuation
    assert got[2][0] == llm.score([llm.tokenizer.bos_id or 0], llm.tokenizer.encode("the cat")).total
    assert model.cache_hook.kept[0] == ("loglikelihood", requests[0].args, got[0])


def test_what_the_model_would_say_itself_is_greedy(base: type, llm: LLM) -> None:
    said = llm.generate("the cat", max_tokens=1, temperature=0.0).token_ids
    before = llm.tokenizer.encode("the cat")
    (best,) = llm.score_all([(before, list(said))])
    assert best.is_greedy
    (worse,) = llm.score_all([(before, [(said[0] + 1) % llm.spec.vocab_size])])
    assert not worse.is_greedy


def test_rolling_windows_predict_each_token_once_with_most_context() -> None:
    tokens = list(range(10))
    assert list(rolling_windows(tokens, -1, 5)) == [
        ([-1], [0, 1, 2, 3]),
        ([3], [4, 5, 6, 7]),
        ([5, 6, 7], [8, 9]),
    ]  # the example of the harness's documentation
    assert list(rolling_windows([], -1, 5)) == []
    assert list(rolling_windows([1], -1, 5)) == [([-1], [1])]


def test_long_texts_roll_and_long_requests_are_refused(base: type, llm: LLM) -> None:
    model = harness_model(llm)
    text = " ".join([TEXT] * 8)
    (total,) = model.loglikelihood_rolling([Instance((text,))])
    ids = llm.tokenizer.encode(text)
    assert len(ids) > 2 * llm.context_length
    parts = [llm.score(*pair).total for pair in rolling_windows(ids, llm.tokenizer.bos_id or 0, llm.context_length)]
    assert total == pytest.approx(sum(parts))
    assert model.loglikelihood_rolling([Instance(("",))]) == [0.0]
    with pytest.raises(ContextLengthError):
        model.loglikelihood([Instance((text, " end"))])


def test_generations_stop_where_the_task_says(base: type, llm: LLM) -> None:
    model = harness_model(llm)
    plain = llm.generate("the cat", max_tokens=12, temperature=0.0).text
    stop = plain[3]
    short, long, short_again = model.generate_until(
        [
            Instance(("the cat", {"until": [stop], "max_gen_toks": 12, "do_sample": False})),
            Instance(("the cat", {"until": [], "max_gen_toks": 12, "temperature": 0.0})),
            Instance(("the cat", {"until": stop, "max_gen_toks": 12})),
        ]
    )
    assert long == plain
    assert short == short_again == plain[: plain.index(stop)]


def test_settings_are_translated_or_refused() -> None:
    assert sampling({}) == {"temperature": 0.0, "stop": [], "max_tokens": 256}
    assert sampling({"do_sample": True, "top_p": 0.9, "until": "\n"}) == {
        "temperature": 1.0,
        "top_p": 0.9,
        "stop": ["\n"],
        "max_tokens": 256,
    }
    assert sampling({"do_sample": False, "temperature": 0.7})["temperature"] == 0.0
    with pytest.raises(InvalidRequestError, match="'num_beams' is not known"):
        sampling({"num_beams": 4})


def test_conversations_become_text_once(base: type, llm: LLM) -> None:
    model = harness_model(llm, "some/model")
    text = model.apply_chat_template([{"role": "user", "content": "hi"}])
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert model._encode(text) == llm.encode_chat("hi")
    assert model.tokenizer_name == "some__model"
    assert model.chat_template() == ""
    assert model.chat_template(True) == llm.chat_template
