"""The tokenizer of a Hugging Face folder: tokenizer.json, run by `tokenizers`, and the configuration beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from miaotui.errors import ModelFileError, TokenizerError, UnsupportedModelError
from miaotui.formats.json_file import read_json_object
from miaotui.formats.safetensors import inside
from miaotui.formats.tokenizer import TokenizerSpec
from miaotui.formats.tokenizer_bpe import token_to_bytes
from miaotui.formats.tokenizer_special import SpecialTokenFinder
from miaotui.formats.tokenizer_spm import SPACE
from miaotui.formats.tokenizer_vocab import TURN_ENDS, parse_byte_token

if TYPE_CHECKING:
    import tokenizers

MAX_TOKENIZER_BYTES = 256 << 20
MAX_CONFIG_BYTES = 16 << 20
MAX_TEMPLATE_BYTES = 1 << 20


def read_folder_tokenizer(folder: Path, vocab_size: int) -> tuple[TokenizerSpec, HubCodec]:
    """Reads tokenizer.json, tokenizer_config.json, generation_config.json and chat_template.jinja, as far as present.

    Raises TokenizerError when tokenizer.json is missing or a file is damaged, UnsupportedModelError when its decoder is
    of a kind that miaotui lacks.
    """
    tokenizer = load_tokenizer(folder)
    if tokenizer.get_vocab_size(with_added_tokens=True) > vocab_size:
        raise TokenizerError(
            f"{folder}: tokenizer.json has {tokenizer.get_vocab_size(with_added_tokens=True)} tokens, but the model's "
            f"embedding only {vocab_size} rows; the files belong to different models, download the folder again."
        )
    config = optional_json(folder, "tokenizer_config.json")
    bos_id = _special_id(tokenizer, config.get("bos_token"))
    eos_id = _special_id(tokenizer, config.get("eos_token"))
    ends = {id for text in TURN_ENDS if (id := tokenizer.token_to_id(text)) is not None}
    for name in ("generation_config.json", "config.json"):
        ends |= _ids_in(optional_json(folder, name).get("eos_token_id"), vocab_size)
    if eos_id is not None:
        ends.add(eos_id)
    elif len(ends) == 1:
        (eos_id,) = ends
    around = tokenizer.encode("", add_special_tokens=True).ids
    codec = HubCodec(tokenizer)
    spec = TokenizerSpec(
        vocab_size,
        bos_id,
        eos_id,
        frozenset(ends),
        add_bos=bos_id is not None and around[:1] == [bos_id],
        add_eos=eos_id is not None and around[-1:] == [eos_id],
        strip_space=codec.strips_space,
        chat_template=_chat_template(folder, config),
    )
    return spec, codec


class HubCodec:
    """Encodes and decodes with a tokenizer.json; implements `tokenizer.Codec`."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        """Raises UnsupportedModelError for a decoder whose tokens have no bytes of their own."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._added = tokenizer.get_added_tokens_decoder()
        steps = _decoder_steps(tokenizer)
        kinds = {step.get("type") for step in steps}
        self._byte_level = "ByteLevel" in kinds
        self._byte_fallback = "ByteFallback" in kinds
        self.strips_space = any(
            (step.get("type") == "Strip" and step.get("content") == " " and step.get("start") == 1)
            or (step.get("type") == "Metaspace" and step.get("prepend_scheme") != "never")
            for step in steps
        )
        if not kinds & {"ByteLevel", "Metaspace", "Replace"}:
            raise UnsupportedModelError(
                f"the decoder of tokenizer.json ({', '.join(map(str, sorted(map(str, kinds)))) or 'none'}) is not "
                "supported; supported are: ByteLevel, Metaspace, and Replace with ByteFallback."
            )

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """See `Codec`."""
        with rust_errors("the text cannot be encoded"):
            tokenizer = self._tokenizer if parse_special else self._plain
            ids: list[int] = tokenizer.encode(text, add_special_tokens=add_special).ids
        return ids

    def encode_pieces(self, pieces: Sequence[str | int]) -> list[int]:
        """See `Codec`."""
        ids: list[int] = []
        for piece in pieces:
            ids += [piece] if isinstance(piece, int) else self.encode(piece, add_special=False, parse_special=False)
        return ids

    def split_special(self, text: str) -> list[str | int]:
        """See `Codec`."""
        return list(self._special.split(text))

    def control_tokens(self) -> dict[str, int]:
        """See `Codec`."""
        return {str(token.content): id for id, token in self._added.items() if token.special}

    def token_bytes(self, id: int) -> bytes:
        """See `Codec`; rows of the embedding without a token have no bytes."""
        added = self._added.get(id)
        if added is not None:
            return str(added.content).encode()
        text = self._tokenizer.id_to_token(id)
        if text is None:
            return b""
        if self._byte_level:
            return token_to_bytes(text)
        if self._byte_fallback and len(text) == 6 and text.startswith("<0x"):
            return bytes((parse_byte_token(text),))
        return str(text).replace(SPACE, " ").encode()

    def is_special(self, id: int) -> bool:
        """See `Codec`."""
        added = self._added.get(id)
        return added is not None and bool(added.special)

    @cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """One that takes control tokens for text. As that is state of a tokenizer, a lock would be needed otherwise."""
        plain = _twin(self._tokenizer)
        plain.encode_special_tokens = True
        return plain

    @cached_property
    def _special(self) -> SpecialTokenFinder:
        return SpecialTokenFinder(self.control_tokens())


def _twin(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Another tokenizer over the same vocabulary in memory, that says the same."""
    from tokenizers import Tokenizer

    twin = Tokenizer(tokenizer.model)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if (value := getattr(tokenizer, part)) is not None:
            setattr(twin, part, value)
    for _, token in sorted(tokenizer.get_added_tokens_decoder().items()):
        (twin.add_special_tokens if token.special else twin.add_tokens)([token])
    if twin.get_added_tokens_decoder() == tokenizer.get_added_tokens_decoder():
        return twin
    return Tokenizer.from_str(tokenizer.to_str())  # ids with gaps between them cannot be given anew


def load_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """The folder's tokenizer.json. Raises TokenizerError when it is missing or damaged."""
    from tokenizers import Tokenizer

    path = inside(folder, "tokenizer.json")
    if not path.is_file():
        raise TokenizerError(
            f"{folder}: holds no tokenizer.json; convert the model's tokenizer with transformers "
            "(AutoTokenizer.from_pretrained(...).save_pretrained(...)), or use a GGUF build."
        )
    if path.stat().st_size > MAX_TOKENIZER_BYTES:
        raise TokenizerError(f"{path}: is longer than {MAX_TOKENIZER_BYTES} bytes; this is not a tokenizer.")
    with rust_errors(f"{path}: is damaged"):
        return Tokenizer.from_buffer(path.read_bytes())


@contextmanager
def rust_errors(problem: str) -> Iterator[None]:
    """Turns what `tokenizers` raises, its Rust panics included, into TokenizerError."""
    try:
        yield
    except (TokenizerError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic derives from BaseException
        raise TokenizerError(f"{problem} ({error!s:.200}); download the model again or use a GGUF build.") from error


def _decoder_steps(tokenizer: tokenizers.Tokenizer) -> list[Mapping[str, object]]:
    if tokenizer.decoder is None:
        return []
    decoder = json.loads(tokenizer.decoder.__getstate__())
    steps = decoder.get("decoders", [decoder])
    return [step for step in steps if isinstance(step, dict)]


def optional_json(folder: Path, name: str) -> dict[str, object]:
    """A file of the folder; empty when it is missing. Raises TokenizerError when it is damaged."""
    path = inside(folder, name)
    if not path.is_file():
        return {}
    try:
        return read_json_object(path, MAX_CONFIG_BYTES)
    except ModelFileError as error:
        raise TokenizerError(str(error)) from error


def _special_id(tokenizer: tokenizers.Tokenizer, value: object) -> int | None:
    """Id of a token given as text or as an AddedToken's dictionary."""
    text = value.get("content") if isinstance(value, dict) else value
    return tokenizer.token_to_id(text) if isinstance(text, str) else None


def _ids_in(value: object, vocab_size: int) -> set[int]:
    values = value if isinstance(value, list) else [value]
    return {id for id in values if isinstance(id, int) and not isinstance(id, bool) and 0 <= id < vocab_size}


def _chat_template(folder: Path, config: Mapping[str, object]) -> str | None:
    """chat_template.jinja, else the configuration's template (the one named "default" of several)."""
    path = inside(folder, "chat_template.jinja")
    if path.is_file():
        if path.stat().st_size > MAX_TEMPLATE_BYTES:
            raise TokenizerError(f"{path}: is longer than {MAX_TEMPLATE_BYTES} bytes; this is not a chat template.")
        try:
            return path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise TokenizerError(f"{path}: is not UTF-8; download the model again.") from error
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise TokenizerError(f"{folder}: chat_template in tokenizer_config.json is not a string.")
    return template
