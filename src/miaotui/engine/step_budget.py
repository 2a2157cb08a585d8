"""How many prompt tokens a step may take along beside running answers, so that nobody's stream stalls."""

from __future__ import annotations

from collections import Counter

SLOWDOWN = 1.8
"""A step that reads prompts beside running answers may take so many times as long as one that does not."""
CROWD = 2
"""Where so many wait to be read, a step may be longer: one long prompt would slow everybody down for seconds."""
CROWDED_SLOWDOWN, CROWDED_S = 8.0, (0.05, 0.25)
"""Then it may take so many times as long, at least and at most so many seconds (20 and 4 tokens/s each)."""
LEAST_TOKENS = 2
"""A prompt goes on by at least this many tokens a step."""
CAREFUL_TOKENS = 8
"""As long as it is not known what they cost."""
STEPS_BETWEEN_LOOKS = 200
"""So often a step reads no prompt, to learn how long that takes: under steady load there would never be one."""
WEIGHT = 0.1
"""Of a new observation in a running mean."""


def longest_step_s(alone_s: float, num_waiting: int) -> float:
    """How long a step may be that reads prompts of so many who wait, beside answers that alone take so long."""
    usual_s = SLOWDOWN * alone_s
    if num_waiting < CROWD:
        return usual_s
    least_s, most_s = CROWDED_S
    return max(usual_s, min(max(CROWDED_SLOWDOWN * alone_s, least_s), most_s))


def tokens_that_fit(alone_s: float, per_token_s: float, num_waiting: int, most: int) -> int:
    """How many prompt tokens make a step that long, if each adds so much to it; at most so many."""
    left_s = longest_step_s(alone_s, num_waiting) - alone_s
    return min(max(int(left_s / per_token_s), LEAST_TOKENS), most)


class StepBudget:
    """Learns what steps cost, and from that how many prompt tokens fit one.

    A step of answers alone takes some time, each prompt token adds to it. Both are means of what was seen, kept apart
    by how many answers run (in powers of two).
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._num_asked = Counter[int]()
        self._alone_s: dict[int, float] = {}
        self._per_token_s: float | None = None

    def prompt_tokens(self, num_running: int, num_waiting: int = 0) -> int:
        """The most prompt tokens of a step in which so many answers go on while so many have a prompt to be read.

        To be asked once a step: now and then the answer is 0.
        """
        if num_running == 0:
            return self._max_tokens
        kind = num_running.bit_length()
        self._num_asked[kind] += 1
        if self._num_asked[kind] % STEPS_BETWEEN_LOOKS == 1:
            return 0
        alone_s = self._alone_s.get(kind)
        if alone_s is None or self._per_token_s is None:
            return min(CAREFUL_TOKENS, self._max_tokens)
        return tokens_that_fit(alone_s, self._per_token_s, num_waiting, self._max_tokens)

    def observe(self, num_running: int, num_prompt_tokens: int, seconds: float) -> None:
        """A step with so many running answers and prompt tokens took so long."""
        if num_prompt_tokens == 0:
            kind = num_running.bit_length()
            self._alone_s[kind] = _mean(self._alone_s.get(kind), seconds)
            return
        alone_s = self._alone_s.get(num_running.bit_length(), 0.0) if num_running else 0.0
        per_token_s = max(seconds - alone_s, 0.1 * seconds) / num_prompt_tokens
        if num_running or self._per_token_s is None:
            self._per_token_s = _mean(self._per_token_s, per_token_s)


def _mean(before: float | None, seen: float) -> float:
    return seen if before is None else before + WEIGHT * (seen - before)
