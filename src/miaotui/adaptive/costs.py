"""What a request will cost on this machine, in time and energy; corrected as requests end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from miaotui.adaptive.answer_length import AnswerLengths
from miaotui.adaptive.draft_gain import DraftGain
from miaotui.adaptive.drift import Drift
from miaotui.adaptive.energy import Consumption, Unit
from miaotui.adaptive.step_time import StepTime
from miaotui.adaptive.typical import Typical
from miaotui.core import Plan, Receipt
from miaotui.engine.prospect import Load, Prospect
from miaotui.engine.step_budget import CAREFUL_TOKENS, tokens_that_fit
from miaotui.engine.step_work import ATTENTION_UNIT, StepWork

FIRST_LOOK_MS: Mapping[str, float] = {"exact": 0.3, "near": 12.0}
"""What looking for a kept answer is taken to cost before it was done: by the question's digest, and by its meaning."""
FIRST_RESIDENCE_S = 2.0
MOST_PROMPT_TOKENS = 512
"""That a step reads, where nobody answers."""
FIRST_MARGIN, LEAST_MARGIN, MOST_MARGIN = 0.25, 0.1, 1.0
"""Share by which a request may take longer than predicted, for deadlines."""
ERRORS_IN_MARGIN = 2.0
"""That many times the usual error."""
ENOUGH_STEPS = 4
"""Before so many were seen, nothing is refused for what it seems to cost."""
PHASES = ("queue", "read", "token")
LEAST_SHARE = 0.1
"""A wait that was predicted and did not come counts as so much of it: logarithms know no zero."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one request that the model computes: milliseconds until its turn, of reading, and of each token behind the
    first; tokens that it is expected to say; energy in the model's unit; what the three times were corrected by."""

    queue_ms: float
    read_ms: float
    token_ms: float
    output_tokens: float
    energy: float = 0.0
    corrections: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def ms(self) -> float:
        """From asking to the last token."""
        return self.ms_of(self.output_tokens)

    def ms_of(self, output_tokens: float) -> float:
        """The same, of an answer of so many tokens."""
        return self.queue_ms + self.read_ms + max(output_tokens - 1, 0) * self.token_ms

    def sped_up(self, gain: float) -> Forecast:
        """The same with tokens that come so many times as fast."""
        token_ms = self.token_ms / gain
        return Forecast(self.queue_ms, self.read_ms, token_ms, self.output_tokens, self.energy, self.corrections)

    def tokens_within(self, ms: float) -> int:
        """How many tokens come within that time."""
        left_ms = ms - self.queue_ms - self.read_ms
        return 0 if left_ms < 0 else int(1 + left_ms / max(self.token_ms, 1e-9))


class CostModel:
    """Adds requests up from steps, whose time is learned, and corrects the sums by what requests took.

    Corrections are apart for waiting, reading and answering, and by how much there was to do (in powers of two). Not
    safe for concurrent use.
    """

    def __init__(self, steps: StepTime | None = None, consumption: Consumption | None = None) -> None:
        self.steps = StepTime() if steps is None else steps
        self.lengths = AnswerLengths()
        self._consumption = Consumption() if consumption is None else consumption
        self._looks = {kind: Typical(ms) for kind, ms in FIRST_LOOK_MS.items()}
        self._residence_s = Typical(FIRST_RESIDENCE_S)
        self._gains = DraftGain()
        self._error = Typical(FIRST_MARGIN / ERRORS_IN_MARGIN)
        self._drifts: dict[tuple[str, int], Drift] = {}

    @property
    def energy_unit(self) -> Unit:
        """What energy is counted in."""
        return self._consumption.unit

    @property
    def is_known(self) -> bool:
        """Whether enough was seen to hold anybody to it."""
        return self.steps.num_seen >= ENOUGH_STEPS

    @property
    def margin(self) -> float:
        """Share by which requests may take longer than predicted; twice the usual error."""
        return min(max(ERRORS_IN_MARGIN * self._error.value, LEAST_MARGIN), MOST_MARGIN)

    def draft_gain(self, load: Load) -> float:
        """How many times as fast tokens come with drafts as without, at such a load."""
        return self._gains.of(min(load.num_running + 1, load.max_sequences))

    def look_ms(self, kind: str) -> float:
        """What looking for a kept answer costs, "exact" or "near"."""
        return self._looks[kind].value

    def forecast(self, prospect: Prospect, tenant: str) -> Forecast:
        """What the model will take for a request without drafts."""
        load, num = prospect.load, prospect.num_sequences
        expected = prospect.max_tokens
        if not prospect.will_fill:
            expected = self.lengths.expect(tenant, prospect.max_tokens)
        position = prospect.num_prompt_tokens + expected / 2
        together = min(load.num_running + num, load.max_sequences)  # who reads now answers soon
        token_ms = answering_ms(self.steps, together, position)
        read_ms, busy_ms = self._read_ms(prospect)
        busy_ms += num * max(expected - 1, 0) * token_ms / together
        queue, read, token = (self._drift(phase, load.num_unfinished).factor for phase in PHASES)
        energy = busy_ms / 1e3 * self._consumption.per_busy_s
        queue_ms = self._queue_ms(load, num)
        return Forecast(queue_ms * queue, read_ms * read, token_ms * token, expected, energy, (queue, read, token))

    def observe_step(self, work: StepWork, seconds: float, *, learn: bool = True) -> None:
        """A step took so long. learn: whether to learn from it more than that it was."""
        if learn:
            self.steps.observe(work, seconds)
            self._gains.observe(work, self.steps)
        self._consumption.observe(seconds)

    def observe_look(self, kind: str, seconds: float) -> None:
        """Looking for a kept answer took so long."""
        self._looks[kind].observe(seconds * 1e3)

    def observe_request(self, plan: Plan, receipt: Receipt) -> None:
        """A request that the model computed has ended by itself."""
        num = plan.num_beside
        queue, read, token = (self._drift(phase, num) for phase in PHASES)
        by_queue, by_read, by_token = plan.corrections
        if plan.queue_ms > 0:
            queue.observe(plan.queue_ms / by_queue, max(receipt.queue_s * 1e3, LEAST_SHARE * plan.queue_ms))
        read.observe(plan.read_ms / by_read, receipt.prefill_s * 1e3)
        if receipt.output_tokens > 1:
            token_ms = receipt.decode_s * 1e3 / (receipt.output_tokens - 1)
            token.observe(plan.token_ms / by_token, token_ms)
        self._residence_s.observe(receipt.prefill_s + receipt.decode_s)
        if receipt.whole_s > 0:
            told_ms = plan.queue_ms + plan.read_ms + max(receipt.output_tokens - 1, 0) * plan.token_ms
            self._error.observe(abs(told_ms / (receipt.whole_s * 1e3) - 1.0))

    def _read_ms(self, prospect: Prospect) -> tuple[float, float]:
        """Milliseconds until the first token, once there is a place, and how many of them are this request's own.

        Prompts that were there before are read before it, or beside it.
        """
        load = prospect.load
        own = max(prospect.num_prompt_tokens - prospect.num_cached_tokens, 1)
        total, beside = own + prospect.num_tokens_before, load.num_answering
        most = tokens_beside(self.steps, beside, num_waiting=load.num_waiting + load.num_reading + 1)
        ms, begin = 0.0, prospect.num_cached_tokens
        full_steps, rest = divmod(total, most)
        middle = begin + own / 2
        if full_steps:
            ms += full_steps * reading_ms(self.steps, beside, most, middle)
        if rest:
            ms += reading_ms(self.steps, beside, rest, middle)
        return ms, ms * own / total * (most / (most + beside))

    def _queue_ms(self, load: Load, num_sequences: int) -> float:
        """Until a place is free: places become so one after the other, each time somebody who runs has ended."""
        num_before = load.num_running + load.num_waiting + num_sequences - load.max_sequences
        return max(num_before, 0) * self._residence_s.value * 1e3 / load.max_sequences

    def _drift(self, phase: str, num_beside: int) -> Drift:
        key = (phase, num_beside.bit_length())
        found = self._drifts.get(key)
        if found is None:
            found = self._drifts[key] = Drift()
        return found


def answering_ms(steps: StepTime, num_answers: int, position: float) -> float:
    """Of a step in which so many answers go on that are so long."""
    return steps.ms_of(num_answers, num_answers, num_answers * position / ATTENTION_UNIT)


def reading_ms(steps: StepTime, num_answers: int, num_tokens: int, position: float) -> float:
    """The same, with so many tokens of a prompt beside them, behind about as many others."""
    together = num_answers + num_tokens
    return steps.ms_of(together, num_answers, together * position / ATTENTION_UNIT)


def tokens_beside(steps: StepTime, num_answering: int, *, num_waiting: int = 1) -> int:
    """How many tokens of prompts a step reads beside those who answer; as `StepBudget` decides it."""
    if not num_answering:
        return MOST_PROMPT_TOKENS
    if not steps.num_seen:
        return CAREFUL_TOKENS
    alone_ms = answering_ms(steps, num_answering, 0)
    per_token_ms = max((reading_ms(steps, num_answering, 64, 0) - alone_ms) / 64, 1e-9)
    return tokens_that_fit(alone_ms / 1e3, per_token_ms / 1e3, num_waiting, MOST_PROMPT_TOKENS)
