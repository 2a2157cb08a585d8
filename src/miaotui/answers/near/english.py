"""English questions taken apart: contractions and set phrases first, then what each word does to the meaning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from miaotui.answers.near import english_words as en
from miaotui.answers.near.english_synonyms import LONGEST_PHRASE, PHRASES, SAME_WORDS
from miaotui.answers.near.quantities import Quantities, take_quantities
from miaotui.answers.near.stems import stem
from miaotui.answers.near.text import Parts, Text
from miaotui.answers.near.tokens import Token, quoted

_SAME_STEMS: Final = {stem(word): stem(first) for word, first in SAME_WORDS.items()}
_SHOUTED: Final = 0.6  # with more capitals than that, they name nothing


@dataclass(slots=True)
class _Parts(Parts):
    links: list[int] = field(default_factory=list)


def analyse(raw: str, tokens: list[Token]) -> Text:
    """An English question, or what a Chinese one has of Latin letters."""
    expanded = _without_opening(_rewrite(_expand(tokens)))
    expanded, quantities = take_quantities(expanded)
    parts = _Parts(names=_names(tokens))
    praise = any(en.QUESTION_WORDS.get(token.text) in ("what", "who", "where") for token in expanded[:1])
    for index, token in enumerate(expanded):
        _collect(parts, expanded, index, praise=praise)
        if token.kind == "number":
            parts.terms.append("#" + token.text)
    _settle_persons(parts, expanded)
    parts.names &= en.ACRONYM_OR_WORD | set(parts.terms)  # the words of set phrases are compared as terms
    words = tuple(token.text for token in tokens if token.kind != "between")
    return _finished(raw, words, parts, quantities)


def _finished(raw: str, words: tuple[str, ...], parts: _Parts, quantities: Quantities) -> Text:
    terms = tuple(parts.terms)
    ends = (*terms, "")
    negations = tuple(f"{term} {ends[index + 1]}".strip() for index, term in enumerate(terms) if term in en.NEGATIONS)
    return Text(
        raw, "en", terms, words, quantities.numbers, quantities.units, tuple(parts.dates), frozenset(parts.names),
        negations, frozenset(parts.moods), frozenset(parts.persons), tuple(parts.questions), tuple(parts.links),
        quoted(raw),
    )  # fmt: skip


def _expand(tokens: list[Token]) -> list[Token]:
    """Contractions written out, possessive s dropped."""
    result: list[Token] = []
    for token in tokens:
        parts = en.CONTRACTIONS.get(token.text) if token.as_written != "US" else None
        if parts is None:
            for ending, rest in en.ENDINGS.items():
                if token.text.endswith(ending) and len(token.text) > len(ending):
                    parts = (token.text[: -len(ending)], *rest)
                    break
        if parts is None:
            text = "usa" if token.as_written in ("US", "USA") else token.text
            parts = (text.removesuffix("'s"),)
        result += [Token(token.kind, part, part, token.starts and not i) for i, part in enumerate(parts)]
    return result


def _rewrite(tokens: list[Token]) -> list[Token]:
    """Set phrases in their short form; the longest that fits wins."""
    result: list[Token] = []
    index = 0
    while index < len(tokens):
        for length in range(min(LONGEST_PHRASE, len(tokens) - index), 1, -1):
            phrase = tuple(token.text for token in tokens[index : index + length])
            if phrase in PHRASES:
                starts = tokens[index].starts
                short = PHRASES[phrase]
                result += [Token("word", word, word, starts and not i) for i, word in enumerate(short)]
                index += length
                break
        else:
            result.append(tokens[index])
            index += 1
    return result


def _without_opening(tokens: list[Token]) -> list[Token]:
    """The question without greetings and "could you tell me"."""
    while (length := _length_of_opening(tokens)) > 0:
        first, *rest = tokens[length:]
        tokens = [Token(first.kind, first.text, first.as_written, True), *rest]
    return tokens


def _length_of_opening(tokens: list[Token]) -> int:
    texts = tuple(token.text for token in tokens[:8])
    for opening in en.OPENINGS:
        if texts[: len(opening)] == opening and len(tokens) > len(opening) + 1:
            return len(opening)
    return 0


def _collect(parts: _Parts, tokens: list[Token], index: int, *, praise: bool) -> None:
    """What the token at `index` adds."""
    token = tokens[index]
    word, before = token.text, tokens[index - 1].text if index else ""
    if token.kind == "number":
        return
    if token.kind != "word":
        parts.terms.append(word)
        return
    if token.starts and word in en.STARTS_OF_CHOICE:
        parts.questions.append("whether")
    if word in en.QUESTION_WORDS:
        behind = tokens[index + 1].text if index + 1 < len(tokens) else ""
        degree = f" {behind}" if word == "how" and behind in en.DEGREES else ""
        parts.questions.append(en.QUESTION_WORDS[word] + degree)
    elif before == "how" and word in en.DEGREES:
        return
    elif word in en.MONTHS and (word != "may" or tokens[index - 1].kind == "number" or before in ("in", "of", "since")):
        parts.dates.append(en.MONTHS[word])
        parts.terms.append(en.MONTHS[word])
    elif word in en.MOODS:
        parts.moods.add(en.MOODS[word])
    elif word in en.PERSONS:
        parts.persons.append(en.PERSONS[word])
        parts.terms.append("@" + en.PERSONS[word])
    elif word in en.LINKS and before not in en.COPULAS:
        parts.links.append(len(parts.terms))
    elif word not in en.FUNCTION:
        _add_term(parts, word, praise=praise)


def _add_term(parts: _Parts, word: str, *, praise: bool) -> None:
    term = stem(word)
    if word in en.DATES or term in en.DATES:
        parts.dates.append(term)
    if praise and word in en.PRAISE:
        term = "best"
    parts.terms.append(en.UNITS.get(word, term) if len(word) > 2 else _SAME_STEMS.get(term, term))
    parts.terms[-1] = _SAME_STEMS.get(parts.terms[-1], parts.terms[-1])


def _settle_persons(parts: _Parts, tokens: list[Token]) -> None:
    """Leave out who asks where it does not matter: "how do I", "how do you", "how does one" do something.

    With two persons in a question, or several sentences, who does what to whom is part of its terms; otherwise not.
    """
    if len(set(parts.persons)) > 1 or sum(token.starts for token in tokens) > 1:
        return
    _drop_persons(parts)
    texts = [token.text for token in tokens]
    if texts[:1] == ["how"] and parts.questions[0] == "how" and not _is_personal(texts):
        parts.persons.clear()
        parts.moods -= {"can", "would", "should"}


def _drop_persons(parts: _Parts) -> None:
    kept = [index for index, term in enumerate(parts.terms) if not term.startswith("@")]
    parts.links = [sum(index < link for index in kept) for link in parts.links]
    parts.terms = [parts.terms[index] for index in kept]


def _is_personal(texts: list[str]) -> bool:
    """Whether the one who is addressed is meant: "how do you feel", "how are you"."""
    behind = texts[texts.index("how") + 1 :] if "how" in texts else []
    if len(behind) > 1 and behind[0] in ("are", "were", "is", "was", "am"):
        return True
    return "you" in behind and any(word in en.PERSONAL for word in behind[1:3])


def _names(tokens: list[Token]) -> set[str]:
    """Terms written as names: capitals inside a sentence, capitals inside a word, capitals with digits."""
    words = [token for token in tokens if token.kind == "word"]
    inside = [token for token in words if not token.starts]
    capital = [token for token in inside if token.as_written[0].isupper() and len(token.text) > 1]
    shouted = len(capital) > _SHOUTED * len(inside) and len(inside) > 2
    named = [] if shouted else list(capital)
    named += [token for token in words if len(token.text) > 1 and any(c.isupper() for c in token.as_written[1:])
              and not shouted and not token.as_written.startswith("I'")]  # fmt: skip
    return {_SAME_STEMS.get(name, name) for name in (stem(_plain_name(token)) for token in named)} - {""}


def _plain_name(token: Token) -> str:
    return "usa" if token.as_written in ("US", "USA") else token.text.removesuffix("'s")
