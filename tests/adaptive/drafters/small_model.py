"""A draft model over the engine's fake program, and texts for it."""

from __future__ import annotations

from dataclasses import replace

from engine.fakes import GREEDY, VOCAB, FakeProgram, make_engine
from miaotui.adaptive.drafters.model import DraftModel
from miaotui.engine.block_pool import BlockPool
from miaotui.engine.runner import Runner
from miaotui.engine.scheduler import StepLimits
from miaotui.engine.sequence import Sequence


def make_model(
    *, num_blocks: int = 32, max_tokens: int = 64, max_sequences: int = 4, context: int = 512, num_common: int = VOCAB
) -> tuple[DraftModel, FakeProgram]:
    limits = StepLimits(max_tokens, max_sequences, max_sequences)
    program = FakeProgram(limits, num_blocks)
    runner = Runner(program, object(), limits, -(-context // 16))
    pool = BlockPool(num_blocks)
    model = DraftModel(runner, pool, limits, vocab_size=VOCAB, num_common=num_common, context_length=context)
    return model, program


def text_of(token_ids: list[int], tenant: str = "", max_tokens: int = 10**9) -> Sequence:
    """A sequence with these tokens that no engine runs."""
    engine, _ = make_engine(vocab_size=4 * VOCAB, context=4096, num_blocks=512)
    (sequence,) = engine.add(token_ids, replace(GREEDY, max_tokens=20), tenant=tenant)
    sequence.max_tokens = max_tokens
    return sequence
