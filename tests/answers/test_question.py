"""Two requests share a key exactly when the answer to one is the answer to the other."""

from __future__ import annotations

from typing import Any

import pytest

from miaotui.answers.question import Question, params_of, why_not_kept
from miaotui.core import RepetitionDetection, SamplingParams, StructuredOutputs

ASKED: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is the light turned on?"},
]


def question(
    conversation: Any = ASKED, tenant: str = "", model: str = "m", options: Any = None, **params: Any
) -> Question:
    return Question(tenant, model, conversation, SamplingParams(temperature=0, **params), (), options or {})


@pytest.mark.parametrize(
    "other",
    [
        question(tenant="somebody"),
        question(model="n"),
        question([{"role": "system", "content": "Be verbose."}, ASKED[1]]),
        question([ASKED[0], {"role": "user", "content": "Is the light turned off?"}]),
        question([ASKED[1]]),
        question([*ASKED, {"role": "assistant", "content": ""}]),
        question("Is the light turned on?"),
        question(options={"enable_thinking": False}),
        question(stop=["."]),
        question(repetition_penalty=1.1),
        question(logit_bias={5: 1.0}),
        question(structured_outputs=StructuredOutputs(json_object=True)),
        question(min_tokens=3),
        question(ignore_eos=True),
        question(repetition_detection=RepetitionDetection(8, 3)),
        question(stop_when="json"),
        question(stop_when={"choice": ["yes", "no"]}),
    ],
)
def test_whatever_can_change_the_answer_changes_the_key(other: Question) -> None:
    assert other.key != question().key


def test_what_cannot_change_a_greedy_answer_does_not_change_the_key() -> None:
    assert question(seed=7, top_k=3, top_p=0.5, max_tokens=9, drafting=False).key == question().key


def test_parameters_that_came_later_are_no_part_of_questions_that_do_not_use_them() -> None:
    assert not {"repetition_detection", "stop_when"} & set(params_of(SamplingParams()))


def test_with_a_temperature_seed_and_bounds_count() -> None:
    drawn = [
        Question("", "m", ASKED, SamplingParams(temperature=1, seed=seed, top_p=share)).key
        for seed, share in ((1, 1.0), (2, 1.0), (1, 0.5))
    ]
    assert len(set(drawn)) == 3


def test_the_order_of_a_message_s_fields_is_not_part_of_the_question() -> None:
    turned = [dict(reversed(list(message.items()))) for message in ASKED]
    assert question(turned).key == question().key


def test_questions_of_one_group_differ_in_the_last_text_alone() -> None:
    other = [ASKED[0], {"role": "user", "content": "Quite another thing"}]
    assert question(other).group == question().group
    assert question([ASKED[1]]).group != question().group
    assert question(tenant="t").group != question().group


def test_hostile_text_has_a_key_of_its_own() -> None:
    texts = ["\0", "", "\ud800", "\udfff", '"', "\\", '","role":"system', "\u00e9", "e\u0301"]
    assert len({question([{"role": "user", "content": text}]).key for text in texts}) == len(texts)


def test_parts_of_text_are_read_as_text_and_images_are_not() -> None:
    parts = [{"type": "text", "text": "Is it "}, {"type": "text", "text": "on?"}]
    assert question([{"role": "user", "content": parts}]).text == "Is it on?"
    assert question([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]).text is None
    assert question("a prompt").text is None
    assert question([1, 2, 3]).text is None


def test_only_a_question_that_stands_alone_is_a_first_one() -> None:
    assert question().is_first
    assert not question([ASKED[1], {"role": "assistant", "content": "Yes."}, ASKED[1]]).is_first
    assert not question(structured_outputs=StructuredOutputs(json_object=True)).is_first


@pytest.mark.parametrize(
    ("params", "tools", "word"),
    [
        ({"temperature": 0.7}, [], "chance"),
        ({"temperature": 0, "n": 2}, [], "several"),
        ({"temperature": 0, "logprobs": 1}, [], "log-prob"),
        ({"temperature": 0}, [{"type": "function"}], "tools"),
    ],
)
def test_what_would_not_come_again_is_not_kept(params: dict[str, Any], tools: list[Any], word: str) -> None:
    assert word in (why_not_kept(SamplingParams(**params), tools) or "")


def test_what_would_come_again_is_kept() -> None:
    assert why_not_kept(SamplingParams(temperature=0), []) is None
    assert why_not_kept(SamplingParams(temperature=1, seed=3), []) is None
