"""English questions that are put differently and ask the same: each form here becomes one other, whole.

A form stands here if, of the labelled pairs that `benchmarks/near_hits.py` learns from, those that differ by it alone
ask the same, and if nobody found a question that it makes another one (tests/answers/near has those that were tried).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from miaotui.answers.near import english_words as en
from miaotui.answers.near.tokens import Token
from miaotui.answers.near.vocabulary import words

_BEGINNINGS: Final = tuple(
    (tuple(before.split()), tuple(after.split()))
    for before, after in (
        ("what are the differences between", "what is the difference between"),
        ("what are differences between", "what is the difference between"),
        ("what are the best ways to", "how to"),
        ("what is the best way to", "how to"),
        ("which is the best way to", "how to"),
        ("what is a good way to", "how to"),
        ("what are some ways to", "how to"),
        ("what are some good ways to", "how to"),
        ("what are the ways to", "how to"),
        ("what are some of the", "what are the"),
        ("what are some", "what are"),
        ("which are some", "what are"),
        ("what could cause", "what can cause"),
    )
)
_ANYWHERE: Final = {("what", "kind", "of"): "type", ("what", "kinds", "of"): "types", ("earn", "money"): "make"}
_IDLE: Final = words("really exactly currently")
"""They stress what is asked; "not really" is another matter."""
_SINGLED_OUT: Final = en.SUPERLATIVES | {"most"}
_PARTS: Final = words("part parts kind type sort side head end place point piece case matter result rest way means sum")
"""Behind "of" they have the thing they belong to, or another meaning."""
_COPULAS: Final = words("is are was were")
# What a phrase of a noun ends before, and what is no phrase's first word: with them an article can matter.
_BOUNDS: Final = (
    en.PERSONS | en.QUESTION_WORDS | en.STARTS_OF_CHOICE | en.NEGATIONS | en.POINTING
    | words(
        """
        of in on at to for from by with about into onto over under between among through during before after against
        off out up down around as than like and or but if because so that while until since per via versus vs be been
        being there here now then too also only even just very more most less least few little many much lot same
        other another such own first second third last next enough some any all
        """
    )
)  # fmt: skip
_HOW_YOU: Final = (("how", "do", "you"), ("how", "can", "you"), ("how", "does", "one"))
# What people do, and no assistant is asked how it does so itself.
_DOINGS: Final = words(
    """
        calculate multiply divide convert cook bake boil fry grill wash clean paint draw repair beat cure grow plant
        build sew knit fold tie cut dye buy sell rent
    """
)


def in_one_form(tokens: list[Token]) -> list[Token]:
    """A question's tokens, small letters at its beginning, in the form that stands for all that ask the same."""
    tokens = _beginning(_without_idle(tokens))
    return _with_short_phrases(_without_articles(tokens))


def _beginning(tokens: list[Token]) -> list[Token]:
    texts = (*(token.text for token in tokens), "", "", "", "")
    if texts[:3] in (("which", "is", "the"), ("which", "are", "the")) and texts[3] in _SINGLED_OUT:
        tokens, texts = [replace(tokens[0], text="what"), *tokens[1:]], ("what", *texts[1:])
    for before, after in _BEGINNINGS:
        if texts[: len(before)] == before and len(tokens) > len(before) + 1:
            return [replace(tokens[0], text=after[0]), *_words(after[1:]), *tokens[len(before) :]]
    if texts[:3] in _HOW_YOU and texts[3] in _DOINGS and not {"you", "your", "yours"} & set(texts[3:]):
        return [tokens[0], *_words(("to",)), *tokens[3:]]
    return tokens


def _without_idle(tokens: list[Token]) -> list[Token]:
    texts = ["", *(token.text for token in tokens)]
    return [
        token
        for at, token in enumerate(tokens)
        if token.text not in _IDLE or token.starts or texts[at] == "not" or at + 1 == len(tokens)
    ]


def _without_articles(tokens: list[Token]) -> list[Token]:
    """Without "the" where what follows says by itself which is meant: "(the) founder of TCS", "(the) stock market";
    without "a" behind "what is" alike. Before one noun they stay: what the time is, and what time is.

    "a" stays elsewhere, or "was a bank robbed" would be "was the bank robbed".
    """
    texts = [*(token.text for token in tokens), *[""] * 4]
    defines = texts[:2] == ["what", "is"]

    def idle(at: int) -> bool:
        definite = texts[at] == "the"
        is_article = definite or (defines and at == 2 and texts[at] in ("a", "an"))
        return is_article and _tells_which(texts[at + 1 : at + 5], texts[at - 1] if at else "", definite)

    return [token for at, token in enumerate(tokens) if not idle(at)]


def _tells_which(phrase: list[str], before: str, definite: bool) -> bool:
    if definite and phrase[0] in _SINGLED_OUT and before in _COPULAS:
        return True
    length = next(n for n, text in enumerate([*phrase, ""]) if not text.isalpha() or text in _BOUNDS)
    named = phrase[length] == "of" if length < len(phrase) else False
    return length >= 2 or (definite and length == 1 and named and phrase[0] not in _PARTS and before in _COPULAS)


def _with_short_phrases(tokens: list[Token]) -> list[Token]:
    texts = [token.text for token in tokens]
    result = list(tokens)
    for phrase, word in _ANYWHERE.items():
        at_word = 0 if phrase[0] == "earn" else 1
        for at in range(len(texts) - len(phrase) + 1):
            if tuple(texts[at : at + len(phrase)]) == phrase:
                result[at + at_word] = replace(result[at + at_word], text=word)
    return result


def _words(texts: tuple[str, ...]) -> list[Token]:
    return [Token("word", text) for text in texts]
