"""Outputs that keep to a schema or grammar: which tokens may come next, as llguidance computes it.

Method: an Earley parser over bytes walks the trie of all tokens with a lexer of derivatives
(https://github.com/guidance-ai/llguidance). Tokens that are the only ones possible need no forward pass.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from miaotui.core import StructuredOutputs
from miaotui.errors import ConfigError, InvalidRequestError

if TYPE_CHECKING:
    from miaotui.formats.tokenizer import Tokenizer

WORD_BITS = 32
MAX_COMPILE_S = 0.25
"""Processor time that a grammar may take to be compiled."""
MAX_KEPT = 64
"""Compiled grammars that are kept for the next request."""
_SEPARATORS = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
# Of the parser, per step or grammar: a tenth to half of llguidance's defaults, with which ((a{1000}){1000}){1000} takes
# 2.4 s to compile and 1.5 s a token.
_LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 100_000,
    "step_lexer_fuel": 100_000,
    "step_max_items": 25_000,
    "max_grammar_size": 200_000,
}
MEAN_MASK_S = 0.005
"""Processor time that an output's masks may take per token, beside MAX_COMPILE_S for all of them."""


class Constraint:
    """One output on its way through a grammar. Not safe for concurrent use.

    allowed: uint32, a bit for each token of the vocabulary; as `compute` left it.
    """

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._time_left_s = MAX_COMPILE_S
        self.allowed = np.zeros(-(-vocab_size // WORD_BITS), np.uint32)

    def compute(self) -> None:
        """Fill `allowed` for the token that comes next."""
        start_s = time.thread_time()
        if not self.error:
            self._matcher.unsafe_compute_mask_ptr(self.allowed.ctypes.data, self.allowed.nbytes)
        if self.error:
            self.allowed[:] = 0xFFFFFFFF  # something has to be chosen; `error` then ends the output
        self._time_left_s += MEAN_MASK_S - (time.thread_time() - start_s)

    def accept(self, token_id: int) -> None:
        """The output goes on with this token; whether that was possible, `error` tells."""
        if not self.error:
            self._matcher.consume_token(token_id)

    def forced(self) -> list[int]:
        """The tokens that must come next, in the way the tokenizer would write them."""
        return [] if self.error else list(self._matcher.compute_ff_tokens())

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._matcher.is_stopped())

    @property
    def error(self) -> str:
        """Why the output cannot be checked any further, or nothing."""
        if self._matcher.is_error():
            return f"structured_outputs cannot be followed here: {_first_line(self._matcher.get_error())}"
        return "structured_outputs takes too long to follow; use a simpler one." if self._time_left_s < 0 else ""


class TokenGrammar:
    """A compiled grammar, for any number of outputs."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    def begin(self) -> Constraint:
        """A constraint of its own for one more output."""
        return Constraint(self._matcher.deep_copy(), self._vocab_size)


class GrammarCompiler:
    """Compiles grammars for one vocabulary and keeps the latest. Safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: Any = None
        self._kept: OrderedDict[str, TokenGrammar] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, wanted: StructuredOutputs) -> TokenGrammar:
        """The grammar for what is wanted.

        Raises InvalidRequestError for one that is wrong or takes too long, ConfigError where llguidance is missing.
        """
        source = _source(wanted)
        with self._lock:
            found = self._kept.get(source)
            if found is None:
                found = self._kept[source] = self._compile(source)
                if len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(source)
            return found

    def _compile(self, source: str) -> TokenGrammar:
        import llguidance

        if self._vocabulary is None:
            self._vocabulary = _vocabulary(self._tokenizer)
        start_s = time.thread_time()
        limits = llguidance.LLParserLimits(verbose_errors=False, **_LIMITS)
        matcher = llguidance.LLMatcher(self._vocabulary, source, log_level=0, limits=limits)
        for _ in range(2):  # the first mask builds what the others share
            if not matcher.is_error():
                matcher.compute_bitmask()
        if matcher.is_error():
            raise InvalidRequestError(f"structured_outputs cannot be compiled: {_first_line(matcher.get_error())}")
        taken_s = time.thread_time() - start_s
        if taken_s > MAX_COMPILE_S:
            raise InvalidRequestError(
                f"structured_outputs took {taken_s * 1e3:.0f} ms to compile, of {MAX_COMPILE_S * 1e3:.0f} allowed; "
                "use a simpler one."
            )
        return TokenGrammar(matcher, self._tokenizer.vocab_size)


def _source(wanted: StructuredOutputs) -> str:
    """What llguidance reads."""
    llguidance = _library()
    if wanted.regex is not None:
        return str(llguidance.LLMatcher.grammar_from_regex(wanted.regex))
    if wanted.choice is not None:
        texts = " | ".join(json.dumps(text, ensure_ascii=False) for text in wanted.choice)
        return str(llguidance.LLMatcher.grammar_from_lark(f"start: {texts}"))
    if wanted.grammar is not None:
        return str(llguidance.LLMatcher.grammar_from_lark(wanted.grammar))
    schema: Mapping[str, Any] | str = {"type": "object"} if wanted.json is None else wanted.json
    options = _SEPARATORS | {"lenient": not wanted.strict}
    try:
        return str(llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=options))
    except ValueError as error:
        raise InvalidRequestError(f"structured_outputs: json is no JSON schema: {_first_line(str(error))}") from None


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        raise ConfigError("structured output needs llguidance: pip install 'miaotui[structured]'") from None
    return llguidance


def _vocabulary(tokenizer: Tokenizer) -> Any:
    """The tokens as llguidance wants them; some tenths of a second for large ones."""
    import llguidance

    class Vocabulary:
        eos_token_id = min(tokenizer.eos_ids, default=tokenizer.vocab_size - 1)
        bos_token_id = tokenizer.bos_id
        tokens = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]  # noqa: RUF012
        special_token_ids = [i for i in range(tokenizer.vocab_size) if tokenizer.is_special(i)]  # noqa: RUF012

        def __call__(self, text: bytes | str) -> list[int]:
            plain = text if isinstance(text, str) else text.decode("utf-8", "replace")
            return tokenizer.encode(plain, add_special=False)

    return llguidance.LLTokenizer(
        llguidance.TokenizerWrapper(Vocabulary()),
        n_vocab=tokenizer.vocab_size,
        eos_token=sorted(tokenizer.eos_ids) or None,
    )


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0][:300]
