"""English questions taken apart: contractions and set phrases first, then what each word does to the meaning."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from miaotui.answers.near import english_words as en
from miaotui.answers.near import plain
from miaotui.answers.near.english_forms import in_one_form
from miaotui.answers.near.english_synonyms import LONGEST_PHRASE, PHRASES, SPELLINGS
from miaotui.answers.near.quantities import take_quantities
from miaotui.answers.near.starts import plain_start
from miaotui.answers.near.stems import agreeing, stem
from miaotui.answers.near.text import Text, negations_of
from miaotui.answers.near.tokens import Token

_ASIDE: Final = frozenset((",", ".", "!", "?"))


def analyse(raw: str, tokens: list[Token]) -> Text:
    """An English question, or one in Latin letters that shows no other language."""
    if any(token.text.lower() in en.ABOUT_WORDS for token in tokens):
        return plain.analyse(raw, tokens, "en")
    written = tuple(token.text.lower() for token in tokens if token.kind != "sign")
    asked = _without_courtesy(_rewritten(_expanded(_with_plain_letters(tokens))))
    asked, quantities = take_quantities(_without_performer(in_one_form(asked)))
    names = frozenset(stem(token.text) for token in asked if token.kind == "word" and _is_name(token.text))
    before = [Token("start", ""), *asked]
    terms = _without_bare_articles(tuple(_term(*two) for two in zip(asked, before, strict=False)))
    terms = _turned_difference(_asked_for_meaning(terms))
    return Text(
        raw, "en", terms, written, quantities.numbers, quantities.units,
        tuple(term.lower() for term in terms if term in en.DATES), names, negations_of(terms, en.NEGATIONS),
        frozenset(en.MOODS[term] for term in terms if term in en.MOODS), frozenset(en.PERSONS & set(terms)),
        _questions(asked),
    )  # fmt: skip


def _term(token: Token, before: Token) -> str:
    if token.kind == "number":
        return "#" + token.text
    if token.kind == "unit":
        return "~" + token.text
    return stem(token.text) if before.text not in en.POINTING else agreeing(token.text)


def _with_plain_letters(tokens: list[Token]) -> list[Token]:
    """Capitals count, but for those of a sentence's beginning and those of known names."""
    result: list[Token] = []
    for token, behind in zip(tokens, [*tokens[1:], Token("end", "")], strict=True):
        text, small = token.text, token.text.lower()
        if token.kind == "word" and small in en.KNOWN_NAMES:
            text = small
        elif token.kind == "word" and token.starts:
            text = plain_start(text, behind.text)
        result.append(replace(token, text=text))
    return result


def _expanded(tokens: list[Token]) -> list[Token]:
    """Contractions written out; "i" beside a verb is "I"."""
    result: list[Token] = []
    for token in tokens:
        parts = en.CONTRACTIONS.get(token.text)
        if parts is None:
            ending = next((e for e in en.ENDINGS if token.text.endswith(e) and len(token.text) > len(e)), "")
            parts = (token.text.removesuffix(ending), *en.ENDINGS[ending]) if ending else (token.text,)
        result += [replace(token, text=part, starts=token.starts and not i) for i, part in enumerate(parts)]
    texts = ["", *(token.text for token in result), ""]
    return [
        replace(token, text="I")
        if token.text == "i" and (texts[at] in en.BESIDE_I or texts[at + 2] in en.BESIDE_I)
        else replace(token, text=SPELLINGS.get(token.text, token.text))
        for at, token in enumerate(result)
    ]


def _rewritten(tokens: list[Token]) -> list[Token]:
    """Set phrases in their short form; the longest that fits wins."""
    result: list[Token] = []
    index = 0
    while index < len(tokens):
        for length in range(min(LONGEST_PHRASE, len(tokens) - index), 1, -1):
            phrase = tuple(token.text for token in tokens[index : index + length])
            if phrase in PHRASES:
                result += [
                    Token("word", word, tokens[index].starts and not i) for i, word in enumerate(PHRASES[phrase])
                ]
                index += length
                break
        else:
            result.append(tokens[index])
            index += 1
    return result


def _without_courtesy(tokens: list[Token]) -> list[Token]:
    """The question without greetings and thanks that a sign parts from it, and without "could you tell me"."""
    texts = [token.text for token in tokens]
    for thanks in en.THANKS:
        end = len(texts) - len(thanks)
        if end > 1 and tuple(texts[end:]) == thanks and texts[end - 1] in _ASIDE:
            tokens, texts = tokens[: end - 1], texts[: end - 1]
    if len(texts) > 2 and texts[0] in en.GREETINGS and texts[1] in _ASIDE:
        behind = tokens[3].text if len(tokens) > 3 else ""
        first = replace(tokens[2], text=plain_start(tokens[2].text, behind), starts=True)
        tokens = [first, *tokens[3:]]
        texts = [token.text for token in tokens]
    for opening in en.OPENINGS:
        length = len(opening)
        if tuple(texts[:length]) == opening and texts[length : length + 1] and texts[length] in en.QUESTION_WORDS:
            return [replace(tokens[length], starts=True), *tokens[length + 1 :]]
    return tokens


def _without_performer(tokens: list[Token]) -> list[Token]:
    """Literally "how do I", "how can one", "how to": how it is done, whoever does it."""
    texts = tuple(stem(token.text) for token in tokens[:4])
    for phrase in en.HOW:
        if texts[: len(phrase)] == phrase and len(tokens) > len(phrase) + 1 and texts[len(phrase)] not in en.STATES:
            return [replace(tokens[0], text="how"), Token("word", "to"), *tokens[len(phrase) :]]
    return tokens


def _without_bare_articles(terms: tuple[str, ...]) -> tuple[str, ...]:
    """Without "the" before "best …" and the like. Elsewhere articles matter: "the matter", "a few", "most people"."""
    ends = (*terms, "", "")
    return tuple(
        term
        for at, term in enumerate(terms)
        if term != "the" or ends[at + 1] not in en.SUPERLATIVES or ends[at + 2] in ("", "of")
    )


def _asked_for_meaning(terms: tuple[str, ...]) -> tuple[str, ...]:
    """ "What does X mean" as "what is the meaning of X"."""
    if (
        terms[:2] != ("what", "do")
        or terms[-1] != "mean"
        or len(terms) < 4
        or not terms[2].islower()
        or terms[2] in en.PERSONS
    ):
        return terms
    return ("what", "is", "meaning", "of", *terms[2:-1])


def _turned_difference(terms: tuple[str, ...]) -> tuple[str, ...]:
    """ "What is the difference between A and B" names them in the order of letters; of numbers it is a subtraction."""
    head = ("what", "is", "the", "difference", "between")
    rest = terms[len(head) :]
    if terms[: len(head)] != head or rest.count("and") != 1 or not all(term.isalpha() for term in rest):
        return terms
    cut = rest.index("and")
    one, other = rest[:cut], rest[cut + 1 :]
    if not (1 <= len(one) <= 2 and len(one) == len(other)) or (len(one) == 2 and {one[0], other[0]} != {"a"}):
        return terms
    return (*head, *min(one, other), "and", *max(one, other))


def _is_name(word: str) -> bool:
    return word != "I" and (word in en.KNOWN_NAMES or any(letter.isupper() for letter in word))


def _questions(tokens: list[Token]) -> tuple[str, ...]:
    found: list[str] = []
    for token, behind in zip(tokens, [*tokens[1:], Token("end", "")], strict=True):
        if token.starts and token.text in en.STARTS_OF_CHOICE:
            found.append("whether")
        if token.text in en.QUESTION_WORDS:
            degree = f" {behind.text}" if token.text == "how" and behind.text in en.DEGREES else ""
            found.append(token.text + degree)
    return tuple(found)
