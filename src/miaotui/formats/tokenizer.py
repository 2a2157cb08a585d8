"""Text to token ids and back, for every model file that miaotui opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from miaotui.errors import TokenizerError
from miaotui.formats.detokenize import StreamDecoder
from miaotui.formats.tokenizer_special import SpecialTokenFinder

if TYPE_CHECKING:
    from miaotui.formats import ModelFile


INFILL_TOKENS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen-Coder
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
)
LOOK_FIRST, LOOK_EVERY = 2048, 61
"""Tokens that vocabularies are compared by: all would take half a second."""


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """What a vocabulary says beside its tokens.

    `vocab_size` counts the rows of the model's embedding, so every id the model can produce is below it; the
    vocabulary may be a little smaller. `strip_space`: decoded text loses the one space that encoding put in front.
    `infill_ids`: the tokens before a text, before what comes behind a gap in it, and before what fills the gap.
    """

    vocab_size: int
    bos_id: int | None
    eos_id: int | None
    eos_ids: frozenset[int]
    add_bos: bool
    add_eos: bool
    strip_space: bool
    chat_template: str | None
    infill_ids: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        for wanted, id, name in ((self.add_bos, self.bos_id, "BOS"), (self.add_eos, self.eos_id, "EOS")):
            if wanted and id is None:
                raise TokenizerError(
                    f"the model wants a {name} token around every text but does not say which; "
                    "download the model again or use another build."
                )


class Codec(Protocol):
    """One kind of vocabulary: GGUF metadata or tokenizer.json."""

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Ids of `text`, which holds no lone surrogates."""

    def encode_pieces(self, pieces: Sequence[str | int]) -> list[int]:
        """Ids of plain texts and, as they are, of ids; nothing is added and no control token is recognized."""

    def split_special(self, text: str) -> list[str | int]:
        """`text` cut at everything that `parse_special` would recognize: plain texts and ids."""

    def control_tokens(self) -> Mapping[str, int]:
        """Text → id of the tokens that steer the model."""

    def token_bytes(self, id: int) -> bytes:
        """Bytes of the token `id`, 0 ≤ id < vocab_size."""

    def is_special(self, id: int) -> bool:
        """Whether `id`, 0 ≤ id < vocab_size, is a control or unknown token."""


class Tokenizer:
    """The vocabulary of one model. Safe to share between threads."""

    def __init__(self, spec: TokenizerSpec, codec: Codec) -> None:
        self._codec = codec
        self.spec = spec
        self.vocab_size = spec.vocab_size
        self.bos_id = spec.bos_id
        self.eos_id = spec.eos_id
        self.eos_ids = spec.eos_ids  # every id that ends a turn: EOS, <|im_end|>, <end_of_turn>, …
        self.add_bos = spec.add_bos
        self.chat_template = spec.chat_template
        self._bytes: dict[int, bytes] = {}

    @classmethod
    def from_model(cls, model_file: ModelFile) -> Tokenizer:
        """The tokenizer in a GGUF file's metadata, or in tokenizer.json of a Hugging Face folder.

        Raises TokenizerError when it is missing or damaged, UnsupportedModelError when its kind is not supported.
        """
        if model_file.metadata:
            from miaotui.formats.tokenizer_gguf import read_gguf_tokenizer

            return cls(*read_gguf_tokenizer(model_file.metadata, model_file.spec.vocab_size))
        from miaotui.formats.tokenizer_hf import read_folder_tokenizer

        return cls(*read_folder_tokenizer(model_file.path, model_file.spec.vocab_size))

    @cached_property
    def longest_token_bytes(self) -> int:
        """Most bytes that any token stands for; the first time, the whole vocabulary is looked through."""
        return max(len(self._codec.token_bytes(id)) for id in range(self.vocab_size))

    def first_difference(self, other: Tokenizer) -> int | None:
        """A token id that stands for other bytes in the other vocabulary; None: none was found.

        Ids that only one of them has, or that stand for nothing in one (padding), are no difference. The first ids and
        every LOOK_EVERY-th are looked at: vocabularies that agree there agree.
        """
        num_common = min(self.vocab_size, other.vocab_size)
        looked_at: list[int] = [*range(min(LOOK_FIRST, num_common)), *range(LOOK_FIRST, num_common, LOOK_EVERY)]
        for token_id in looked_at:
            here, there = self._codec.token_bytes(token_id), other._codec.token_bytes(token_id)
            if here and there and here != there:
                return token_id
        return None

    @property
    def bos_token(self) -> str:
        """Text of the BOS token, "" if the model has none; chat templates ask for it."""
        return self._text_of(self.bos_id)

    @property
    def eos_token(self) -> str:
        """Text of the EOS token, "" if the model has none; chat templates ask for it."""
        return self._text_of(self.eos_id)

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids of `text`.

        `add_special` puts BOS and EOS around it if the model was trained so. `parse_special` turns "<|im_start|>" and
        the like into control tokens: for text that a chat template rendered, never for what a user typed.
        Raises TokenizerError for lone surrogates, or characters that the vocabulary cannot express at all.
        """
        check_text(text)
        return self._codec.encode(text, add_special=add_special, parse_special=parse_special)

    def mark_control(self, text: str, mark: str) -> str:
        """`text` with the character `mark` inside every control token, and after what may be the beginning of one."""
        return self._control_tokens.broken_by(mark, text)

    def encode_marked(self, text: str, mark: str) -> list[int]:
        """Ids of rendered text, where `mark_control` keeps parts that a user wrote from becoming control tokens.

        Text is cut at the control tokens that are still whole, then marks are taken out of the plain text between them.
        Raises TokenizerError.
        """
        check_text(text)
        pieces = self._codec.split_special(text)
        return self._codec.encode_pieces([p.replace(mark, "") if isinstance(p, str) else p for p in pieces])

    def encode_gap(self, before: str, after: str) -> list[int] | None:
        """Ids that ask for what stands between two texts; None where the vocabulary has no tokens for that.

        The order is PSM of Bavarian et al., "Efficient Training of Language Models to Fill in the Middle", 2022.

        Control tokens in the texts are not recognized. Raises TokenizerError as `encode` does.
        """
        if self._infill_ids is None:
            return None
        check_text(before)
        check_text(after)
        begin, gap, middle = self._infill_ids
        ids = self._codec.encode_pieces([begin, before, gap, after, middle])
        return [self.bos_id, *ids] if self.add_bos and self.bos_id is not None else ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD.

        Raises TokenizerError for an id outside the vocabulary.
        """
        shown = (id for id in ids if not (skip_special and self.is_special(id)))
        joined = b"".join(map(self.token_bytes, shown))
        if self.spec.strip_space:
            joined = joined.removeprefix(b" ")
        return joined.decode("utf-8", "replace")

    def decoder(self, *, skip_special: bool = True) -> StreamDecoder:
        """As `decode`, for ids that come one by one."""
        return StreamDecoder(self, skip_special)

    def token_bytes(self, id: int) -> bytes:
        """Bytes that the token stands for, possibly part of a character; a control token's are its name.

        Raises TokenizerError for an id outside the vocabulary.
        """
        found = self._bytes.get(id)
        if found is None:
            self._check_id(id)
            found = self._bytes[id] = self._codec.token_bytes(id)
        return found

    def is_special(self, id: int) -> bool:
        """Whether the token is a control token rather than text; raises TokenizerError for an unknown id."""
        self._check_id(id)
        return self._codec.is_special(id)

    @cached_property
    def _infill_ids(self) -> tuple[int, int, int] | None:
        if self.spec.infill_ids is not None:
            return self.spec.infill_ids
        for names in INFILL_TOKENS:
            ids = [self.encode(name, add_special=False, parse_special=True) for name in names]
            if all(len(one) == 1 for one in ids):
                return ids[0][0], ids[1][0], ids[2][0]
        return None

    @cached_property
    def _control_tokens(self) -> SpecialTokenFinder:
        return SpecialTokenFinder({text: id for text, id in self._codec.control_tokens().items() if len(text) > 1})

    def _text_of(self, id: int | None) -> str:
        return "" if id is None else self.token_bytes(id).decode("utf-8", "replace")

    def _check_id(self, id: int) -> None:
        if not 0 <= id < self.vocab_size:
            raise TokenizerError(f"{id} is not a token id; this model's ids go from 0 to {self.vocab_size - 1}.")


def check_text(text: str) -> None:
    """Raises TokenizerError for lone surrogates, which no tokenizer can express."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start} of the text is half a surrogate pair ({text[error.start]!r}); "
            "decode the input as UTF-8, or replace such characters first."
        ) from None
