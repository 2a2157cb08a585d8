"""What came of one request."""

from __future__ import annotations

from dataclasses import dataclass, field

from miaotui.load.shapes import Shape


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request counts as failed: a kind to count by ("timeout", "http_500", …) and what was said, for people."""

    kind: str
    detail: str = ""


@dataclass(slots=True)
class Outcome:
    """Times are seconds of one clock. due_s: when the request was to be sent; all latencies count from there.

    sent_s: when it was sent. content_s: when each piece of text arrived, usually a token. end_s: when the last byte
    did. output_tokens: as the server counts them, else pieces (`counted_by`). queue_s: time the server says the request
    waited. prompt_tokens, cached_tokens, queue_s: None where the server does not tell.
    """

    shape: Shape
    due_s: float
    sent_s: float
    end_s: float = 0.0
    content_s: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int = 0
    counted_by: str = "usage"
    queue_s: float | None = None
    num_retries: int = 0
    fault: Fault | None = None

    @property
    def first_token_s(self) -> float:
        """Seconds from when it was due to the first piece of text; only for answers without fault."""
        return self.content_s[0] - self.due_s

    @property
    def whole_s(self) -> float:
        """Seconds from when it was due to its end."""
        return self.end_s - self.due_s

    @property
    def gaps_s(self) -> list[float]:
        """Seconds between each piece of text and the next."""
        return [later - earlier for earlier, later in zip(self.content_s, self.content_s[1:], strict=False)]

    @property
    def token_gap_s(self) -> float | None:
        """Mean seconds a token behind the first; None for answers of one token."""
        if self.output_tokens < 2:
            return None
        return (self.content_s[-1] - self.content_s[0]) / (self.output_tokens - 1)
