"""Every error a user can cause, as a type of its own; each message says what to do about it.

Anything that is not a `MiaotuiError` and escapes the package is a bug in the package.
"""

from __future__ import annotations


class MiaotuiError(Exception):
    """Base of all errors that miaotui raises on purpose."""


class ModelFileError(MiaotuiError, ValueError):
    """A model file is damaged, truncated or contradicts itself."""


class UnsupportedModelError(MiaotuiError, ValueError):
    """The file is sound, but its architecture, tensor type or tokenizer is not supported."""


class ModelNotFoundError(MiaotuiError, LookupError):
    """No model of that name or path."""


class DownloadError(MiaotuiError, OSError):
    """A model could not be fetched: no network, not enough disk, wrong checksum."""


class TokenizerError(MiaotuiError, ValueError):
    """Tokenizer metadata is inconsistent, or text or ids cannot be converted."""


class ChatTemplateError(MiaotuiError, ValueError):
    """A chat template is missing, broken, too slow or too talkative, or refused the messages."""


class InvalidRequestError(MiaotuiError, ValueError):
    """A request or one of its sampling parameters is out of range."""


class UnknownRequestError(InvalidRequestError):
    """It is about another request, of which nothing is known: too long ago, or never made."""


class BodyTooLargeError(InvalidRequestError):
    """A request's body is longer than the server takes."""


class ContextLengthError(InvalidRequestError):
    """Prompt plus requested tokens exceed the context; nothing is truncated silently."""


class CapacityError(MiaotuiError, MemoryError):
    """The request can never fit the planned memory; the message says what would fit."""


class EngineStoppedError(MiaotuiError, RuntimeError):
    """The engine was closed or has failed; nothing is answered any more."""


class OverloadedError(MiaotuiError, RuntimeError):
    """Too many requests wait already; the same request may succeed in a moment. what: the limit, as it is counted."""

    def __init__(self, message: str, *, what: str = "overloaded") -> None:
        super().__init__(message)
        self.what = what


class RateLimitError(OverloadedError):
    """A client has asked too much within a minute. what: "requests" or "tokens"; retry_after_s: whole seconds."""

    def __init__(self, message: str, *, what: str, retry_after_s: int) -> None:
        super().__init__(message, what=what)
        self.retry_after_s = retry_after_s


class UnauthorizedError(MiaotuiError, PermissionError):
    """No key was given, or one that is not known."""


class DeadlineError(MiaotuiError, TimeoutError):
    """A request cannot be answered in the time it gave; nothing of it was computed.

    predicted_ms: what it would take; deadline_ms: what it gave; fits_tokens: an answer of so many tokens would be in
    time; 0: none would.
    """

    def __init__(self, predicted_ms: float, deadline_ms: float, fits_tokens: int) -> None:
        self.predicted_ms, self.deadline_ms, self.fits_tokens = predicted_ms, deadline_ms, fits_tokens
        fits = "nothing but a kept answer would fit"
        if fits_tokens > 0:
            fits = f"max_tokens of {fits_tokens} would fit, or a kept answer"
        super().__init__(
            f"deadline_ms: the answer would take about {predicted_ms:.0f} ms, but the deadline is {deadline_ms:g} ms; "
            f"{fits}."
        )


class SlowReaderError(MiaotuiError, RuntimeError):
    """An answer was cancelled because its reader did not keep up."""


class StoreError(MiaotuiError, OSError):
    """A store of answers cannot be reached, is full, read-only or locked; answers are computed without it."""


class NotKeptError(MiaotuiError, LookupError):
    """No such answer, decision or request is kept."""


class OutputError(MiaotuiError, OSError):
    """A file cannot be written: no room, no permission; nothing half-written is left behind."""


class ServerReplyError(MiaotuiError, ConnectionError):
    """Another server cannot be reached, or does not answer as its API says it would."""


class TraceError(MiaotuiError, ValueError):
    """A file of requests to replay cannot be read."""


class TaskFileError(MiaotuiError, ValueError):
    """A file of tasks or prompts for an evaluation cannot be read; the message names line and field."""


class GateError(MiaotuiError, ValueError):
    """A cascade's gate cannot be used: its file is damaged, or it was calibrated for other models."""


class ExitsError(MiaotuiError, ValueError):
    """Exits from an encoder cannot be used: their file is damaged, or they were trained for another model."""


class ConfigError(MiaotuiError, ValueError):
    """A flag, environment variable or configuration file holds an unusable value."""


class CpuTierError(MiaotuiError, RuntimeError):
    """`MIAOTUI_ISA` names a tier that does not exist or that this CPU cannot run."""


def brief(value: object) -> str:
    """A value as a message may show it: of bounded length, however long or deeply nested it is."""
    import reprlib

    writer = reprlib.Repr()
    writer.maxlevel, writer.maxstring, writer.maxother = 3, 80, 80
    text = writer.repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
