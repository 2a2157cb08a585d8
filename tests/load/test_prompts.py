"""Lengths, and the text that has them."""

from __future__ import annotations

import json
import statistics
from itertools import islice
from typing import Any

from miaotui.load.prompts import Scale, Writer
from miaotui.load.shapes import Demand, Limits, Shape, fixed, limited, sharegpt
from miaotui.load.words import WORDS


def words(writer: Writer, shape: Shape, *where: object) -> list[str]:
    return writer.prompt(shape, *where).split(" ")


def test_sharegpt_lengths_are_spread_and_repeat_with_their_seed() -> None:
    shapes = list(islice(sharegpt(3).shapes(), 5000))
    assert shapes == list(islice(sharegpt(3).shapes(), 5000))
    assert shapes[:50] != list(islice(sharegpt(4).shapes(), 50))
    lengths = [shape.output_tokens for shape in shapes]
    assert statistics.mean(lengths) > 1.5 * statistics.median(lengths)  # a long tail
    assert min(min(shape.prompt_tokens, shape.output_tokens) for shape in shapes) >= 4


def test_limits_scale_first_then_cut_and_tell() -> None:
    shape = Shape(1000, 10, 1.5, (1, 2), 512)
    assert Limits().fit(shape) == shape
    scaled = Limits(length_scale=0.1).fit(shape)
    assert (scaled.prompt_tokens, scaled.output_tokens, scaled.block_tokens, scaled.capped) == (100, 1, 51, False)
    cut = Limits(0.5, max_prompt_tokens=300, max_output_tokens=100).fit(shape)
    assert (cut.prompt_tokens, cut.output_tokens, cut.capped) == (300, 5, True)
    assert (cut.arrival_s, cut.blocks) == (1.5, (1, 2))
    assert Limits(max_prompt_tokens=1000, max_output_tokens=10).fit(shape).capped is False


def test_a_limited_demand_keeps_what_it_is() -> None:
    demand = limited(Demand("d", lambda: iter([Shape(9, 9)]), 1), Limits(max_output_tokens=3))
    assert (demand.name, demand.num_shapes, [s.output_tokens for s in demand.shapes()]) == ("d", 1, [3])


def test_prompts_have_the_words_that_make_so_many_tokens() -> None:
    shape = next(fixed(100, 1).shapes())
    for scale, count in ((Scale(), 100), (Scale(2, 30), 35), (Scale(1, 500), 1)):
        assert len(words(Writer("m", scale=scale), shape, 0, 0)) == count


def test_prompts_differ_from_their_first_words_on_and_repeat_with_their_seed() -> None:
    writer, shape = Writer("m"), Shape(50, 1)
    prompts = {writer.prompt(shape, run, number) for run in range(3) for number in range(50)}
    assert len(prompts) == 150
    assert len({tuple(prompt.split()[:3]) for prompt in prompts}) == 150
    assert Writer("m").prompt(shape, 1, 2) == writer.prompt(shape, 1, 2) != Writer("m", seed=1).prompt(shape, 1, 2)


def test_a_shared_prefix_comes_on_top_and_only_it_is_shared() -> None:
    writer = Writer("m", shared_prefix_tokens=20)
    first, second = (words(writer, Shape(10, 1), run, run) for run in (0, 1))
    assert len(first) == len(second) == 30
    assert first[:20] == second[:20]
    assert first[20:23] != second[20:23]


def test_equal_blocks_are_equal_text_within_a_run() -> None:
    writer = Writer("m", scale=Scale(2.0))
    one, other = Shape(100, 1, None, (5, 6), 40), Shape(70, 1, None, (5, 8), 40)
    first, second = words(writer, one, 0, 0), words(writer, other, 0, 1)
    assert (len(first), len(second)) == (50, 35)
    assert first[:20] == second[:20]
    assert first[20:23] != second[20:23]
    assert first[40:] != words(writer, one, 0, 9)[40:]  # what no block covers is the request's own
    assert first[:40] == words(writer, one, 0, 9)[:40]
    assert first[:3] != words(writer, one, 1, 0)[:3]  # another run's caches must not help


def test_bodies_are_what_the_endpoint_reads() -> None:
    def body(**options: Any) -> Any:
        return json.loads(Writer("m", **options).body("hi", 5))

    chat = body()
    assert chat["messages"] == [{"role": "user", "content": "hi"}]
    assert (chat["model"], chat["max_tokens"], chat["stream"]) == ("m", 5, True)
    assert chat["stream_options"] == {"include_usage": True}
    assert not {"prompt", "ignore_eos", "min_tokens", "miaotui"} & set(chat)
    assert body(endpoint="completions")["prompt"] == "hi"
    assert (body(exact_output=True)["ignore_eos"], body(exact_output=True)["min_tokens"]) == (True, 5)
    assert body(with_receipt=True)["miaotui"] is True


def test_words_are_many_and_plain() -> None:
    assert len(set(WORDS)) == len(WORDS) > 400
    assert all(word.isalpha() and word.isascii() and word.islower() for word in WORDS)
