"""An answer out of a few given ones: the model is asked only where their tokens part.

Where all choices begin with different tokens, that is one token, whatever the choices' lengths; what all of them share
is never asked for. At each parting the likeliest branch is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Row
from dataclasses import dataclass, field

from miaotui.adaptive.cascade.answer import Answer, Position
from miaotui.adaptive.cascade.work import Asks, Work, done_by
from miaotui.core import MAX_LOGPROBS, Receipt, SamplingParams
from miaotui.engine.llm import LLM
from miaotui.engine.results import Completion
from miaotui.errors import InvalidRequestError, brief
from miaotui.formats.tokenizer import Tokenizer

ALLOWED_BIAS = 100.0
"""Added to the logits of tokens that may come: no other is ever so much likelier."""


@dataclass(slots=True, eq=False)
class _Node:
    """Tokens that may come next, by id; `choice` is set where one has ended."""

    children: dict[int, _Node] = field(default_factory=dict)
    choice: int | None = None


@dataclass(slots=True)
class _Walk:
    """How far one prompt has come."""

    prompt: list[int]
    node: _Node
    path: list[int] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def go(self, token_id: int) -> None:
        """Take a branch, and all behind it that leave no choice."""
        self.path.append(token_id)
        self.node = self.node.children[token_id]
        self.skip()

    def skip(self) -> None:
        while len(self.node.children) == 1:
            ((token_id, self.node),) = self.node.children.items()
            self.path.append(token_id)


def choose(llm: LLM, prompts: Row[list[int]], choices: Row[str], *, tenant: str = "") -> list[Answer]:
    """As `choosing`, done by this model. Raises what `LLM.generate` raises, too."""
    return done_by(llm, choosing(llm.tokenizer, prompts, choices), tenant)


def choosing(tokenizer: Tokenizer, prompts: Row[list[int]], choices: Row[str]) -> Asks[list[Answer]]:
    """Which of `choices` a model says behind each prompt of token ids; its positions are the partings.

    Raises InvalidRequestError for choices that cannot be told apart.
    """
    root = _tree(tokenizer, choices)
    walks = [_Walk(list(prompt), root) for prompt in prompts]
    for walk in walks:
        walk.skip()
    while groups := _by_node(walks):
        for group in groups:
            yield from _ask(group)
    return [_answer(walk, choices) for walk in walks]


def _tree(tokenizer: Tokenizer, choices: Row[str]) -> _Node:
    """The choices' tokens; one that ends where another goes on ends with the token that ends a turn."""
    root, end = _Node(), min(tokenizer.eos_ids, default=-1)
    for number, choice in enumerate(choices):
        node = root
        for token_id in (*tokenizer.encode(choice, add_special=False), end):
            node = node.children.setdefault(token_id, _Node())
        if node.choice is not None or node is root.children.get(end):
            raise InvalidRequestError(f"the choice {brief(choice)} is empty or there twice; give different ones.")
        node.choice = number
    if len(choices) < 2 or (end < 0 and _parts_at(root, end)):
        raise InvalidRequestError(
            f"{len(choices)} choices cannot be told apart by this model; give two different ones."
        )
    return root


def _parts_at(node: _Node, token_id: int) -> bool:
    ends = token_id in node.children and len(node.children) > 1
    return ends or any(_parts_at(child, token_id) for child in node.children.values())


def _by_node(walks: Iterable[_Walk]) -> list[list[_Walk]]:
    """Those that have not ended, together where they are at the same parting."""
    groups: dict[int, list[_Walk]] = {}
    for walk in walks:
        if walk.node.choice is None:
            groups.setdefault(id(walk.node), []).append(walk)
    return list(groups.values())


def _ask(group: Row[_Walk]) -> Asks[None]:
    """Have walks that are at the same parting go on by one token."""
    allowed = list(group[0].node.children)
    bias = dict.fromkeys(allowed, ALLOWED_BIAS)
    params = SamplingParams(temperature=0.0, max_tokens=1, logprobs=MAX_LOGPROBS, logit_bias=bias)
    done = yield Work([walk.prompt + walk.path for walk in group], params)
    for walk, one in zip(group, done, strict=True):
        (entry,) = one.logprobs or ()
        known = dict(entry.top)
        least = min(known.values())  # one that is not among the likeliest is as likely at most
        others = [min(known.get(id, least), entry.logprob) for id in allowed if id != entry.token_id]
        walk.positions.append(Position.among(entry.logprob, others))
        walk.receipts.append(one.receipt)
        walk.go(entry.token_id)


def _answer(walk: _Walk, choices: Row[str]) -> Answer:
    first, receipts = walk.receipts[0], walk.receipts
    receipt = Receipt(
        path=first.path,
        why=first.why,
        prompt_tokens=first.prompt_tokens,
        cached_tokens=first.cached_tokens,
        output_tokens=len(receipts),
        queue_s=first.queue_s,
        prefill_s=first.prefill_s,
        decode_s=sum(one.queue_s + one.prefill_s + one.decode_s for one in receipts[1:]) + first.decode_s,
        seed=first.seed,
    )
    text = choices[walk.node.choice or 0]
    token_ids = tuple(token_id for token_id in walk.path if token_id >= 0)
    completion = Completion(text, token_ids, "stop", None, None, receipt)
    return Answer(completion, tuple(walk.positions))
