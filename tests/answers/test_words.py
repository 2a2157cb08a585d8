"""One way to find words for all stores, whatever the text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.answers.stores.texts import pack, to_bytes, to_text, unpack
from miaotui.answers.stores.words import MAX_SEARCH_TERMS, search_terms, terms_of, words_of
from miaotui.errors import InvalidRequestError

any_text = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Turn the LIGHT off!", {"turn", "the", "light", "off", "!"}),
        ("ＦＵＬＬ　ｗｉｄｔｈ", {"full", "width"}),
        ("STRASSE Straße", {"strasse"}),
        ("C++, C#", {"c", "+", "#", ","}),
        ("snake_case v1.5", {"snake", "_", "case", "v1", ".", "5"}),
        ("北京市", {"北", "京", "市", "北京", "京市"}),
        ("用GPU算", {"用", "gpu", "算"}),
        ("ラーメン", {"ラ", "ー", "メ", "ン", "ラー", "ーメ", "メン"}),
        ("한국어", {"한", "국", "어", "한국", "국어"}),
        ("Привет МИР", {"привет", "мир"}),
        ("a\0b", {"a", "\0", "b"}),
        ("😀\ud83d", {"😀", "\ud83d"}),
        (" \t\n", set()),
    ],
)
def test_words(text: str, words: set[str]) -> None:
    assert words_of(text) == words


@given(any_text, any_text)
def test_a_text_has_the_words_of_its_parts_and_terms_stores_can_index(one: str, other: str) -> None:
    both = terms_of(f"{one} {other}")
    assert set(search_terms(one)) | set(search_terms(other)) <= both
    assert all(re.fullmatch(r"[a-z0-9]{1,32}|_[0-9a-f]{20}", term) for term in both)
    assert terms_of(one.upper().lower()) == terms_of(one.upper().lower().casefold())


def test_a_word_cannot_pose_as_the_term_of_another() -> None:
    (term,) = terms_of("字")
    assert term not in terms_of(term)
    assert len(terms_of("a" * 33) | terms_of("a" * 34)) == 2


def test_pairs_stand_for_their_characters_in_a_search() -> None:
    assert search_terms("北京") == sorted(terms_of("北京") - terms_of("北 京"))
    assert search_terms("北") == list(terms_of("北"))


def test_too_many_words_are_refused_by_number() -> None:
    words = [f"w{number}" for number in range(MAX_SEARCH_TERMS)]
    assert len(search_terms(" ".join(words))) == MAX_SEARCH_TERMS
    assert len(search_terms(" ".join(words * 2))) == MAX_SEARCH_TERMS
    with pytest.raises(InvalidRequestError, match=f"{MAX_SEARCH_TERMS + 1} words"):
        search_terms(" ".join([*words, "more"]))


@given(st.lists(any_text))
def test_strings_come_back_from_bytes(texts: list[str]) -> None:
    assert [to_text(to_bytes(text)) for text in texts] == texts
    assert unpack(pack(texts)) == tuple(texts)


@given(st.lists(any_text, min_size=1), st.data())
def test_torn_strings_are_noticed(texts: list[str], data: st.DataObject) -> None:
    packed = pack(texts)
    edges = {len(pack(texts[:number])) for number in range(len(texts))}
    cut = data.draw(st.integers(0, len(packed) - 1).filter(lambda at: at not in edges))
    with pytest.raises(ValueError, match=r"in the middle|decode"):
        unpack(packed[:cut])
