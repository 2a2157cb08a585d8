"""Outputs that keep to a schema or grammar: which tokens may come next, as llguidance computes it.

Method: an Earley parser over bytes walks the trie of all tokens with a lexer of derivatives
(https://github.com/guidance-ai/llguidance). Tokens that are the only ones possible need no forward pass.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from miaotui.core import StructuredOutputs
from miaotui.errors import ConfigError, InvalidRequestError

if TYPE_CHECKING:
    from miaotui.formats.tokenizer import Tokenizer

log = logging.getLogger(__name__)

WORD_BITS = 32
MAX_COMPILE_S = 0.25
"""Processor time that a grammar may take to be compiled."""
MAX_KEPT = 32
"""Compiled grammars that are kept for the next request."""
HEAVY_S = 0.1
"""A grammar one of whose outputs took so much longer than HEAVY_TOKEN_S a token is not kept: its parser has grown."""
HEAVY_TOKEN_S = 0.0005
JSON_STYLE = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
"""Small models otherwise fill their budget with white space."""
# Of the parser, per step or grammar: a tenth to half of llguidance's defaults, with which ((a{1000}){1000}){1000} takes
# 2.4 s to compile and 1.5 s a token.
_LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 100_000,
    "step_lexer_fuel": 100_000,
    "step_max_items": 25_000,
    "max_lexer_states": 10_000,
    "max_grammar_size": 200_000,
}
MEAN_MASK_S = 0.005
"""Processor time that an output's grammar may take per token, beside MAX_COMPILE_S for all of them."""


class Constraint:
    """One output on its way through a grammar. Not safe for concurrent use. Nothing here raises: see `error`.

    allowed: uint32, a bit for each token of the vocabulary; as `compute` left it.
    error: why the output cannot be checked any further, or nothing.
    """

    def __init__(self, matcher: Any, vocab_size: int, grammar: TokenGrammar) -> None:
        self._matcher = matcher
        self._grammar = grammar
        self._spent_s = 0.0
        self._longest_s = 0.0
        self._num_tokens = 0
        self.allowed = np.zeros(-(-vocab_size // WORD_BITS), np.uint32)
        self.error = ""

    @property
    def mean_s(self) -> float:
        """Processor time that a token has taken so far."""
        return self._spent_s / max(self._num_tokens, 1)

    def compute(self) -> None:
        """Fill `allowed` for the token that comes next."""
        self._do(lambda: self._matcher.unsafe_compute_mask_ptr(self.allowed.ctypes.data, self.allowed.nbytes), None)

    def accept(self, token_id: int) -> None:
        """The output goes on with this token; whether that was possible, `error` tells."""
        self._num_tokens += 1
        self._do(lambda: self._matcher.consume_token(token_id), None)

    def forced(self) -> list[int]:
        """The tokens that must come next, in the way the tokenizer would write them."""
        return list(self._do(self._matcher.compute_ff_tokens, ()))

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._do(self._matcher.is_stopped, False))

    def _do(self, call: Callable[[], Any], otherwise: Any) -> Any:
        """What the parser says; `otherwise` once it has failed, broken down or used its time up."""
        if self.error:
            return otherwise
        start_s = time.thread_time()
        try:
            result = call()
            failed = self._matcher.is_error()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the parser's panics are no Exception, and none may end the engine
            log.exception("llguidance failed")
            self.error = f"structured_outputs cannot be followed here: {type(error).__name__}"
            return otherwise
        taken_s = time.thread_time() - start_s
        self._spent_s += taken_s
        self._longest_s = max(self._longest_s, taken_s)
        if self._spent_s > HEAVY_S + HEAVY_TOKEN_S * self._num_tokens:
            self._grammar.is_heavy = True
        if failed:
            self.error = f"structured_outputs cannot be followed here: {_first_line(self._matcher.get_error())}"
        # One call may have taken what is not the grammar's: Python's collection of garbage, a machine that stood still.
        elif self._spent_s - self._longest_s > MAX_COMPILE_S + MEAN_MASK_S * self._num_tokens:
            self.error = "structured_outputs takes too long to follow; use a simpler one."
        return otherwise if self.error else result


class TokenGrammar:
    """A compiled grammar, for any number of outputs. is_heavy: it has taken long, and much memory with it."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self.is_heavy = False

    def begin(self) -> Constraint:
        """A constraint of its own for one more output."""
        return Constraint(self._matcher.deep_copy(), self._vocab_size, self)


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
            for kept in [name for name, grammar in self._kept.items() if grammar.is_heavy]:
                del self._kept[kept]
            found = self._kept.get(source)
            if found is not None:
                self._kept.move_to_end(source)
                return found
            if self._vocabulary is None:
                self._vocabulary = _vocabulary(self._tokenizer)
        made = self._compile(source)  # without the lock: others need not wait for it
        with self._lock:
            self._kept[source] = made
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return made

    def _compile(self, source: str) -> TokenGrammar:
        import llguidance

        limits = llguidance.LLParserLimits(verbose_errors=False, **_LIMITS)
        for _ in range(2):  # the first may have met a collection of garbage or a machine that stood still
            start_s = time.thread_time()
            matcher = llguidance.LLMatcher(self._vocabulary, source, log_level=0, limits=limits)
            for _ in range(2):  # the first mask builds what the others share
                if not matcher.is_error():
                    matcher.compute_bitmask()
            if matcher.is_error():
                raise InvalidRequestError(f"structured_outputs cannot be compiled: {_first_line(matcher.get_error())}")
            taken_s = time.thread_time() - start_s
            if taken_s <= MAX_COMPILE_S:
                return TokenGrammar(matcher, self._tokenizer.vocab_size)
        raise InvalidRequestError(
            f"structured_outputs took {taken_s * 1e3:.0f} ms to compile, of {MAX_COMPILE_S * 1e3:.0f} allowed; "
            "use a simpler one."
        )


def _source(wanted: StructuredOutputs) -> str:
    """What llguidance reads."""
    llguidance = _library()
    if wanted.regex is not None:
        return str(llguidance.LLMatcher.grammar_from_regex(wanted.regex))
    if wanted.choice is not None:
        texts = " | ".join(literal(text) for text in wanted.choice)
        return str(llguidance.LLMatcher.grammar_from_lark(f"start: {texts}"))
    if wanted.grammar is not None:
        return str(llguidance.LLMatcher.grammar_from_lark(wanted.grammar))
    schema: Mapping[str, Any] | str = {"type": "object"} if wanted.json is None else wanted.json
    options = JSON_STYLE | {"lenient": not wanted.strict}
    try:
        return str(llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=options))
    except ValueError as error:
        raise InvalidRequestError(f"structured_outputs: json is no JSON schema: {_first_line(str(error))}") from None


def literal(text: str) -> str:
    """A text as Lark's syntax writes it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


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
        def __init__(self) -> None:
            token_ids = range(tokenizer.vocab_size)
            self.eos_token_id = min(tokenizer.eos_ids, default=tokenizer.vocab_size - 1)
            self.bos_token_id = tokenizer.bos_id
            self.tokens = [tokenizer.token_bytes(token_id) for token_id in token_ids]
            self.special_token_ids = [token_id for token_id in token_ids if tokenizer.is_special(token_id)]

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
