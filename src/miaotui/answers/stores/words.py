"""The words of a text, the same for every store, so that a search finds the same rows wherever they are kept.

A word is a run of letters and digits, folded (ＡＢＣ, abc and ABC are one; so are ß and ss). Scripts that put no spaces
between words give every character and every pair of neighbours instead: a search for 北京 finds 我在北京 and not 京北.
Every other sign is a word by itself, so that C++ is not C, and the signs of a store's own search language can be
searched for like any others. What stores index are terms: ASCII, short, and free of signs.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata

from miaotui.answers.stores.texts import to_bytes
from miaotui.errors import InvalidRequestError

MAX_SEARCH_TERMS = 256
"""More words than a person searches for; what stores take in one query is limited, too."""
MAX_TERM_CHARACTERS = 32

# Thai, Lao, Myanmar, Khmer, Hangul, kana, bopomofo and Han, with the marks and extensions beside them.
_UNSPACED = (
    r"\u0e01-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035"
    r"\u3041-\u312f\u3130-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff"
    r"\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U000323af"
)
_PAIR = re.compile(rf"[{_UNSPACED}]{{2}}")
_WORDS = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?:(?![{_UNSPACED}])[^\W_])+|\S")


def words_of(text: str) -> set[str]:
    """The different words of a text."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words: set[str] = set()
    for match in _WORDS.finditer(folded):
        run = match.group()
        if match.lastgroup == "unspaced":
            words.update(run)
            words.update(map("".join, itertools.pairwise(run)))
        else:
            words.add(run)
    return words


def terms_of(text: str) -> set[str]:
    """The words of a text as stores index them."""
    return {_term(word) for word in words_of(text)}


def search_terms(text: str) -> list[str]:
    """The terms that a text must have to be found. Raises InvalidRequestError for too many.

    A single character of an unspaced script is left out where a pair says more.
    """
    words = words_of(text)
    within_pairs = {sign for word in words if _PAIR.fullmatch(word) for sign in word}
    terms = sorted(_term(word) for word in words - within_pairs)
    if len(terms) > MAX_SEARCH_TERMS:
        raise InvalidRequestError(
            f"a search of {len(terms)} words is too long; give at most {MAX_SEARCH_TERMS} that must all occur"
        )
    return terms


def _term(word: str) -> str:
    """A short word of ASCII is its own term; any other's is a hash, which begins with a sign that no word has."""
    if len(word) <= MAX_TERM_CHARACTERS and word.isascii() and word.isalnum():
        return word
    return "_" + hashlib.blake2b(to_bytes(word), digest_size=10).hexdigest()
