"""Which language a question is in, and the question taken apart in it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Final

from miaotui.answers.near import chinese, english, plain
from miaotui.answers.near.english_words import MOODS, PERSONS, QUESTION_WORDS
from miaotui.answers.near.text import Text
from miaotui.answers.near.tokens import Token, tokenize
from miaotui.answers.near.vocabulary import words

_ENGLISH: Final = (
    PERSONS
    | frozenset(MOODS)
    | QUESTION_WORDS
    | words(
        """
        a an the some any to is are am be been being do does has have having there it its that and s so of in on at for
        not or with please
        """
    )
)
# Small words of languages that share the Latin letters; more of one's than of English's, and it is that one.
_OTHERS: Final[dict[str, frozenset[str]]] = {
    "de": words(
        """
        der die das den dem ein eine einen ist sind war wie wer wo wann warum und oder nicht mit von zu zum zur
        ich du er sie wir ihr im auf für kann man welche welcher wird es
        """
    ),
    "fr": words(
        """
        le la les un une des du de est sont et ou où que qui quoi quel quelle comment pourquoi quand je tu il
        elle nous vous dans pour sur avec pas ne en au aux ce cette
        """
    ),
    "es": words(
        """
        el la los las un una unos de del es son y o que qué quién cuál cómo dónde cuándo por para con no en se
        su mi tu yo lo al está
        """
    ),
    "it": words(
        """
        il lo la i gli le un una di del della è sono e o che chi cosa quale come dove quando perché per con non
        in si mi ti nel
        """
    ),
    "pt": words(
        """
        o a os as um uma de do da é são e ou que quem qual como onde quando por para com não em se no na meu
        """
    ),
    "nl": words(
        """
        de het een is zijn en of wat wie waar wanneer hoe waarom niet met van naar ik je hij wij op voor kan dat
        """
    ),
}  # fmt: skip
_SHARED: Final = words(
    """
        a i in is of was die do no me on an to he so man war as am be the
        """
)


@lru_cache(maxsize=4096)
def read(raw: str) -> Text:
    """A question taken apart. What was read lately is kept: candidates come again and again."""
    return read_once(raw)


def read_once(raw: str) -> Text:
    """The same of a text that will not come again."""
    tokens = tokenize(raw)
    language = language_of(tokens)
    if language == "zh":
        return chinese.analyse(raw, tokens)
    if language == "en":
        return english.analyse(raw, tokens)
    return plain.analyse(raw, tokens, language)


def language_of(tokens: list[Token]) -> str:
    """Code of a language, or name of a script; "en" for Latin letters that say nothing else, "" for no letters."""
    letters = Counter(_script(token) for token in tokens if token.kind in ("word", "han"))
    if not letters:
        return ""
    if letters["kana"]:
        return "ja"
    if letters["han"]:
        return "zh"
    script = max(letters, key=lambda name: letters[name])
    return _latin(tokens) if script == "latin" else script


def _script(token: Token) -> str:
    if token.kind == "han":
        return "han"
    name = unicodedata.name(token.text.lstrip(".")[0], "unknown").split()[0].lower()
    return "kana" if name in ("hiragana", "katakana") else name


def _latin(tokens: list[Token]) -> str:
    words = [token.text.lower() for token in tokens if token.kind == "word"]
    english_words = sum(word in _ENGLISH or word.endswith(("n't", "'s")) for word in words if word not in _SHARED)
    counts = {name: sum(word in small and word not in _SHARED for word in words) for name, small in _OTHERS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] > english_words else "en"
