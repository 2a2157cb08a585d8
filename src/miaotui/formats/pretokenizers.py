"""How byte-level BPE vocabularies cut text into words before merging: one entry per `tokenizer.ggml.pre`.

Names, regular expressions and flags are those of llama.cpp's `src/llama-vocab.cpp` (`llm_tokenizer_bpe` and
`llama_vocab::impl::load`). Where its comments quote the original `tokenizer.json`, the original is used here, because
that is what the model was trained with: llama.cpp spells out `(?i:...)` and letter cases for its own regex engine.
Unicode normalization (NFC) is part of the Qwen tokenizers (see their `tokenizer.json`), not of the GGUF file.

Several patterns mean: cut by the first, then cut the pieces (matches and gaps alike) by the next.
"""

from __future__ import annotations

from dataclasses import dataclass

from miaotui.errors import UnsupportedModelError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s+(?!\S)|\s+"
_ASCII_PUNCTUATION = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
_KANA_AND_HAN = "[一-龥\u3040-ゟ゠-ヿ]+"
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
# Letters with case, as DeepSeek LLM's tokenizer.json lists them (not quite Unicode's property of that name).
_CASED = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ\u1f5f-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌ"
    "\u1fd0-\u1fd3\u1fd6-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ"
    "𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """How one family of vocabularies treats text before merging."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False  # a word that is a token as a whole stays whole, even if no merges lead there
    add_bos: bool = False  # unless the file says otherwise
    normalize_nfc: bool = False


def _cl100k(digits: str, *, letter: str = r"\p{L}", mark: str = "", contractions: str = f"{_CONTRACTIONS}|") -> str:
    """The pattern of OpenAI's cl100k vocabulary and its many relatives."""
    return (
        rf"{contractions}[^\r\n\p{{L}}\p{{N}}]?{letter}+|{digits}| ?[^\s\p{{L}}{mark}\p{{N}}]+[\r\n]*"
        rf"|\s*[\r\n]+|{_BLANKS}"
    )


def _o200k(digits: str, contractions: str = f"{_CONTRACTIONS}?") -> str:
    """The pattern of OpenAI's o200k vocabulary, which also cuts where lower case turns to upper case."""
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{contractions}"
        rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{contractions}"
        rf"|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|{_BLANKS}"
    )


def _deepseek_words(after_punctuation: str = r"[\r\n]*|\s*[\r\n]+") -> str:
    return (
        rf"{_ASCII_PUNCTUATION}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
        rf"| ?[\p{{P}}\p{{S}}]+{after_punctuation}|{_BLANKS}"
    )


_GPT2_WORDS = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{_BLANKS}"
_BLOOM_WORDS = r" ?[^(\s|.,!?…。，、।۔،)]+"

_GPT2 = PreTokenizer((_GPT2_WORDS,))
_SINGLE_DIGITS = PreTokenizer((r"\p{N}", _GPT2_WORDS))
_LLAMA3 = PreTokenizer((_cl100k(r"\p{N}{1,3}"),), ignore_merges=True, add_bos=True)
_DBRX = PreTokenizer(_LLAMA3.patterns)
_STABLELM2 = PreTokenizer((_cl100k(r"\p{N}"),))
_QWEN2 = PreTokenizer(_STABLELM2.patterns, normalize_nfc=True)
_QWEN35 = PreTokenizer((_cl100k(r"\p{N}", letter=r"[\p{L}\p{M}]", mark=r"\p{M}"),), normalize_nfc=True)
_DEEPSEEK_LLM = PreTokenizer(
    (
        r"[\r\n]",
        rf"\s?[{_CASED}]+",
        "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
        r"(?<!\s)\s++$",  # `\s+$` in the original; this form finds the same without trying every space of a run
        "[一-龥ࠀ-一가-\ud7ff]+",
        r"\p{N}+",
    )
)
_DEEPSEEK_CODER = PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}"))
_DEEPSEEK3 = PreTokenizer((r"\p{N}{1,3}", _KANA_AND_HAN, _deepseek_words()))
_FALCON = PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2_WORDS, r"[0-9][0-9][0-9]"))
_DEFAULT = PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2_WORDS, r"\p{N}+", r"[0-9][0-9][0-9]"))
_GPT4O = PreTokenizer((_o200k(r"\p{N}{1,3}"),))
_BLOOM = PreTokenizer((_BLOOM_WORDS,))
_BAILING = PreTokenizer(
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|"
        rf"{_BLANKS}",
    )
)
_SEED_CODER = PreTokenizer(
    (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|{_BLANKS}",)
)

_FAMILIES: dict[PreTokenizer, tuple[str, ...]] = {
    _DEFAULT: ("default",),
    _GPT2: (
        *("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gigachat", "a.x-4.0"),
        *("mellum", "exaone4", "modern-bert", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de"),
    ),
    _SINGLE_DIGITS: ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"),
    _LLAMA3: ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    _DBRX: ("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"),
    PreTokenizer((r"\p{N}{1,3}", _cl100k(r"\p{N}+")), ignore_merges=True): ("minicpm5",),
    _STABLELM2: ("stablelm2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "hunyuan", "solar-open", "grok-2"),
    _QWEN2: ("qwen2",),
    _QWEN35: ("qwen35",),
    PreTokenizer((_cl100k(r"\p{N}", contractions=""),)): ("ufakzeka",),
    _DEEPSEEK_LLM: ("deepseek-llm",),
    _DEEPSEEK_CODER: ("deepseek-coder",),
    _DEEPSEEK3: ("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"),
    _FALCON: ("falcon",),
    _GPT4O: ("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"),
    PreTokenizer((_o200k(r"\p{N}", contractions=""),), ignore_merges=True, add_bos=True): ("tekken",),
    _BLOOM: ("bloom", "gpt3-finnish", "poro-chat"),
    PreTokenizer((_BLOOM_WORDS, r"\p{N}")): ("viking",),
    _BAILING: ("bailingmoe", "bailingmoe2", "llada-moe"),
    _SEED_CODER: ("seed-coder",),
}
PRE_TOKENIZERS: dict[str, PreTokenizer] = {name: family for family, names in _FAMILIES.items() for name in names}


def find_pre_tokenizer(name: str) -> PreTokenizer:
    """The rules named by `tokenizer.ggml.pre`; raises UnsupportedModelError that lists the known names."""
    try:
        return PRE_TOKENIZERS[name]
    except KeyError:
        known = ", ".join(sorted(PRE_TOKENIZERS))
        raise UnsupportedModelError(
            f"the model's pre-tokenizer {name!r} (tokenizer.ggml.pre) is not supported; supported are: {known}. "
            "Use another build of the model, or a Hugging Face folder with tokenizer.json."
        ) from None
