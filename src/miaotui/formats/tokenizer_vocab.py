"""The vocabulary in a GGUF file's metadata, checked: token texts, types, scores and the ids with a meaning.

Keys and token types: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, "Tokenizer".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from miaotui.errors import TokenizerError
from miaotui.formats.gguf_values import StringArray

MAX_TOKENS = 1 << 22
MAX_TOKEN_CHARS = 4096  # real vocabularies stay below 600 (runs of spaces)

_PREFIX = "tokenizer.ggml."
_ID_KEYS = ("bos", "eos", "eot", "eom", "unknown")
# Tokens that end an assistant's turn in the well-known chat formats, whatever the file says about them.
TURN_ENDS = frozenset(
    {
        *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<|return|>"),
        *("<end_of_turn>", "<eos>", "<EOT>", "[EOT]", "<end_of_utterance>", "<｜end▁of▁sentence｜>"),
    }
)
# Some converters mark the delimiters of chat formats as ordinary added tokens. They steer the model, so they must
# not arise from a user's text.
_LOOKS_LIKE_CONTROL = re.compile(r"<[|｜][^<>]{1,60}[|｜]>|<(?:start|end)_of_turn>|\[/?INST\]")


class TokenType(enum.IntEnum):
    """Values of `tokenizer.ggml.token_type`."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id. `index` holds only the tokens that plain text may turn into (normal and user-defined ones)."""

    tokens: list[str]
    types: bytes  # one TokenType per token
    index: dict[str, int]
    bos_id: int | None = None
    eos_id: int | None = None
    unknown_id: int | None = None
    eos_ids: frozenset[int] = frozenset()
    _metadata: Mapping[str, object] = field(default_factory=dict, repr=False)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object], vocab_size: int) -> Vocabulary:
        """Reads and checks `tokenizer.ggml.*`; raises TokenizerError when the vocabulary contradicts itself.

        `vocab_size` is the number of rows of the embedding: a token without a row would be read out of bounds.
        """
        tokens = read_strings(metadata, "tokens")
        if not tokens or len(tokens) > min(vocab_size, MAX_TOKENS):
            raise _damaged(f"{len(tokens)} tokens for an embedding of {vocab_size} rows (at most {MAX_TOKENS})")
        if (longest := max(map(len, tokens))) > MAX_TOKEN_CHARS:
            raise _damaged(f"a token is {longest} characters long; at most {MAX_TOKEN_CHARS} are allowed")
        index = _index_tokens(tokens)
        ids = {name: _read_id(metadata, f"{name}_token_id", len(tokens)) for name in _ID_KEYS}
        types = _read_types(metadata, len(tokens))
        ends = {index[text] for text in TURN_ENDS if text in index}
        ends |= {end for name in ("eos", "eot", "eom") if (end := ids[name]) is not None}
        _settle_types(tokens, types, index, control_ids=ends)
        return cls(
            tokens, bytes(types), index, ids["bos"], ids["eos"], ids["unknown"], frozenset(ends), _metadata=metadata
        )

    def scores(self) -> np.ndarray:
        """`tokenizer.ggml.scores` as float32, one finite number per token; raises TokenizerError."""
        wanted = f"tokenizer.ggml.scores must hold one finite number for each of the {len(self.tokens)} tokens"
        try:
            # a copy, because views of the file are not aligned
            scores = np.array(self._metadata.get(_PREFIX + "scores"), dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise _damaged(wanted) from error
        if scores.shape != (len(self.tokens),) or not np.isfinite(scores).all():
            raise _damaged(wanted)
        return scores

    def flag(self, name: str, default: bool) -> bool:
        """A boolean such as `add_bos_token`; raises TokenizerError when it is something else."""
        value = self._metadata.get(_PREFIX + name, default)
        if not isinstance(value, bool | np.bool_):
            raise _damaged(f"tokenizer.ggml.{name} must be a boolean, not {value!r:.60}")
        return bool(value)

    def id_of(self, name: str) -> int | None:
        """A token's id such as `mask_token_id`, if the file has it; raises TokenizerError for what is no id."""
        return _read_id(self._metadata, name, len(self.tokens))

    def infill_ids(self) -> tuple[int, int, int] | None:
        """The tokens before a text, before what is behind a gap in it, and before what fills the gap, if it has them.

        Raises TokenizerError for ids that are none.
        """
        begin, gap, middle = (self.id_of(f"fim_{name}_token_id") for name in ("pre", "suf", "mid"))
        return None if begin is None or gap is None or middle is None else (begin, gap, middle)

    def byte_ids(self) -> dict[int, int]:
        """Byte value → id of its byte token; raises TokenizerError for names that are not `<0x00>` … `<0xFF>`."""
        found: dict[int, int] = {}
        for id in self.ids_of_type(TokenType.BYTE):
            found[parse_byte_token(self.tokens[id])] = id
        return found

    def ids_of_type(self, *types: TokenType) -> list[int]:
        """Ids of the tokens of these types, ascending."""
        return np.flatnonzero(np.isin(np.frombuffer(self.types, np.uint8), types)).tolist()


def read_strings(metadata: Mapping[str, object], name: str) -> list[str]:
    """The string array `tokenizer.ggml.<name>`; bytes that are not UTF-8 stay as surrogate escapes (PEP 383)."""
    value = metadata.get(_PREFIX + name)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise _damaged(f"tokenizer.ggml.{name} is missing or not an array of strings")
    if isinstance(value, StringArray):
        return value.to_list()
    strings = list(value)
    if not all(isinstance(string, str) for string in strings):
        raise _damaged(f"tokenizer.ggml.{name} must hold strings only")
    return strings


def parse_byte_token(text: str) -> int:
    """`<0x0A>` → 10; raises TokenizerError for anything but two hexadecimal digits."""
    match = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", text)
    if match is None:
        raise _damaged(f"the byte token {text!r:.60} is not of the form <0x00> … <0xFF>")
    return int(match.group(1), 16)


def _damaged(problem: str) -> TokenizerError:
    return TokenizerError(
        f"the model's vocabulary is damaged: {problem}; download the model again or use another build."
    )


def _index_tokens(tokens: list[str]) -> dict[str, int]:
    index = dict(zip(tokens, range(len(tokens)), strict=True))
    num_empty = tokens.count("") if "" in index else 0  # placeholders in some vocabularies; never matched
    index.pop("", None)
    if len(index) + num_empty != len(tokens):
        # `index` kept the last id of a text, so the first id that differs from it is a duplicate's.
        twice = next(token for id, token in enumerate(tokens) if token and index[token] != id)
        raise _damaged(f"the token {twice!r:.60} occurs twice")
    return index


def _read_types(metadata: Mapping[str, object], num_tokens: int) -> bytearray:
    value = metadata.get(_PREFIX + "token_type")
    if value is None:
        return bytearray([TokenType.NORMAL]) * num_tokens
    types = np.asarray(value)
    if types.shape != (num_tokens,) or types.dtype.kind not in "iu":
        raise _damaged(f"tokenizer.ggml.token_type must hold one integer for each of the {num_tokens} tokens")
    if types.min() < 0 or types.max() > max(TokenType):
        raise _damaged("tokenizer.ggml.token_type holds an unknown type (known: 0 to 6)")
    return bytearray(types.astype(np.uint8).tobytes())


def _settle_types(tokens: list[str], types: bytearray, index: dict[str, int], control_ids: set[int]) -> None:
    """Makes control tokens of `control_ids` and of what looks like them; leaves only text tokens in `index`."""
    for id in control_ids:
        types[id] = TokenType.CONTROL
    kinds = np.frombuffer(types, np.uint8)
    for id in np.flatnonzero(kinds == TokenType.USER_DEFINED).tolist():
        if _LOOKS_LIKE_CONTROL.fullmatch(tokens[id]):
            types[id] = TokenType.CONTROL
    text_types = (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNDEFINED)
    for id in np.flatnonzero(~np.isin(kinds, text_types)).tolist():
        index.pop(tokens[id], None)


def _read_id(metadata: Mapping[str, object], name: str, num_tokens: int) -> int | None:
    value = metadata.get(_PREFIX + name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < num_tokens:
        raise _damaged(f"tokenizer.ggml.{name} is {value!r:.40}, but ids go from 0 to {num_tokens - 1}")
    return int(value)
