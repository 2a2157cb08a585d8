from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from miaotui.answers.near.index import NearIndex
from miaotui.answers.near.shelf import Shelf
from miaotui.answers.near.vectors import codes_of, packed, unpacked
from miaotui.errors import InvalidRequestError

GROUP = b"g" * 32


def unit_vectors(count: int, seed: int = 0, width: int = 384) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_similarities_are_those_of_the_float_vectors() -> None:
    vectors = unit_vectors(200)
    near = vectors[7] + 0.02 * unit_vectors(1, 9)[0]
    index = NearIndex()
    for number, vector in enumerate(vectors):
        assert index.put("t", GROUP, key(number), f"question {number}", codes_of(vector))
    found = index.search("t", GROUP, codes_of(near), 5, -1.0)
    exact = vectors @ (near / np.linalg.norm(near))
    assert [each.key for each in found] == [key(int(i)) for i in np.argsort(-exact)[:5]]
    assert [each.similarity for each in found] == pytest.approx(sorted(exact, reverse=True)[:5], abs=2e-3)
    assert found[0].question == "question 7"


def test_the_same_vector_has_similarity_one_whatever_its_length() -> None:
    vector = unit_vectors(1)[0]
    index = NearIndex()
    index.put("t", GROUP, key(1), "q", codes_of(vector))
    assert index.search("t", GROUP, codes_of(1000 * vector))[0].similarity == pytest.approx(1.0, abs=1e-6)


def test_no_question_of_another_tenant_or_group_is_ever_found() -> None:
    index = NearIndex()
    codes = codes_of(unit_vectors(1)[0])
    names = [(tenant, group) for tenant in ("", "a", "A", "a\0", "b") for group in (b"", b"g", b"h")]
    for number, (tenant, group) in enumerate(names):
        index.put(tenant, group, key(number), f"of {number}", codes)
    for number, (tenant, group) in enumerate(names):
        assert [each.key for each in index.search(tenant, group, codes)] == [key(number)]
    assert index.search("c", b"g", codes) == []


@given(operations=st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=60))
def test_the_index_holds_what_was_put_and_not_removed(operations: list[tuple[bool, int]]) -> None:
    vectors = unit_vectors(13, width=32)
    index, kept = NearIndex(new_shelf=lambda size: Shelf(size, exact_rows=5)), {}
    for step, (puts, number) in enumerate(operations):
        if puts:
            index.put("t", GROUP, key(number), f"{number} {step}", codes_of(vectors[number]))
            kept[number] = f"{number} {step}"
        else:
            assert index.remove("t", GROUP, key(number)) == (kept.pop(number, None) is not None)
    assert len(index) == len(kept) == index.size_of("t", GROUP)
    for number, question in kept.items():
        assert index.search("t", GROUP, codes_of(vectors[number]), 1, 0.9)[0].question == question
    for number in kept:
        index.remove("t", GROUP, key(number))
    assert index.num_bytes == 0


def test_a_full_index_drops_the_oldest_answers_questions_and_counts_instead_of_growing() -> None:
    index, codes = NearIndex(max_bytes=3000), [codes_of(vector) for vector in unit_vectors(9)]
    for number, created_s in enumerate((30.0, 10.0, 20.0)):
        assert index.put("t", GROUP, key(number), "q", codes[number], created_s)
    assert index.put("u", GROUP, key(3), "q", codes[3], 40.0)
    assert index.put("t", GROUP, key(0), "q", codes[0], 50.0)  # answered anew
    assert index.put("t", GROUP, key(4), "q", codes[4], 45.0)
    assert {name[2] for name in index.names()} == {key(0), key(3), key(4)}
    assert not index.put("t", GROUP, key(5), "q", codes[5], 15.0)  # older than all of them
    assert not index.put("t", GROUP, key(6), "q" * 1000, codes[6], 99.0)
    assert (index.num_dropped, index.num_refused, len(index)) == (2, 2, 3)
    assert index.num_bytes <= 3000
    for number in range(1000):
        assert index.put("t", GROUP, key(number), "q", codes[number % 9], 100.0 + number)
    assert {name[2] for name in index.names()} == {key(number) for number in (997, 998, 999)}
    assert len(index._by_age) < 200


def test_a_question_is_forgotten_whatever_its_group() -> None:
    index, codes = NearIndex(), codes_of(unit_vectors(1)[0])
    for tenant, group in (("t", b"g"), ("t", b"h"), ("u", b"g")):
        index.put(tenant, group, key(1), "q", codes)
    index.put("t", b"g", key(2), "q", codes)
    index.forget("t", key(1))
    assert sorted(index.names()) == [("t", b"g", key(2)), ("u", b"g", key(1))]


def test_the_graph_takes_over_from_exact_search_and_finds_the_same() -> None:
    pytest.importorskip("usearch", reason="usearch is the extra `near`")
    vectors = unit_vectors(600, width=64)
    shelf, exact = Shelf(64, exact_rows=100), Shelf(64)
    for number, vector in enumerate(vectors):
        for each in (shelf, exact):
            each.put(key(number), str(number), codes_of(vector))
    for number in range(0, 600, 3):
        for each in (shelf, exact):
            assert each.remove(key(number))
    assert shelf.uses_graph
    queries = [codes_of(vector) for vector in unit_vectors(50, seed=4, width=64)]
    same = sum(shelf.search(query, 1, -1.0) == exact.search(query, 1, -1.0) for query in queries)
    assert same >= 47
    removed = {key(number) for number in range(0, 600, 3)}
    assert not removed & {found.key for query in queries for found in shelf.search(query, 8, -1.0)}


def test_a_question_that_takes_a_removed_one_s_place_while_the_graph_is_built_is_found() -> None:
    pytest.importorskip("usearch", reason="usearch is the extra `near`")
    vectors = unit_vectors(120, width=64)
    shelf = Shelf(64, exact_rows=100)
    for number in range(101):
        shelf.put(key(number), str(number), codes_of(vectors[number]))
    assert not shelf.uses_graph
    assert shelf.remove(key(3))
    for number in range(101, 120):
        shelf.put(key(number), str(number), codes_of(vectors[number]))
    assert shelf.uses_graph
    assert shelf.search(codes_of(vectors[100]), 1, 0.9)[0].question == "100"
    assert shelf.search(codes_of(vectors[3]), 1, 0.9) == []


def test_writers_and_readers_in_many_threads_lose_nothing() -> None:
    index = NearIndex()
    vectors = unit_vectors(400, width=32)

    def write(start: int) -> None:
        for number in range(start, start + 100):
            index.put("t", GROUP, key(number), str(number), codes_of(vectors[number]))
            index.search("t", GROUP, codes_of(vectors[number]), 1, 0.0)

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 400, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [index.search("t", GROUP, codes_of(vector), 1, 0.9)[0].question for vector in vectors]
    assert found == [str(number) for number in range(400)]


def test_a_vector_of_another_model_is_not_compared() -> None:
    index = NearIndex()
    index.put("t", GROUP, key(1), "q", codes_of(unit_vectors(1)[0]))
    assert index.search("t", GROUP, codes_of(unit_vectors(1, width=64)[0])) == []
    with pytest.raises(InvalidRequestError, match="codes"):
        index.put("t", GROUP, key(2), "q", codes_of(unit_vectors(1, width=64)[0]))


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=100))
def test_a_packed_vector_is_read_back_as_its_codes(values: list[float]) -> None:
    vector = np.array(values, np.float32)
    if not np.any(vector):
        return
    codes = unpacked(packed(vector))
    assert codes is not None
    assert np.array_equal(codes, codes_of(vector))
    steps = vector.astype(np.float64) * (127 / float(np.max(np.abs(vector))))
    assert np.max(np.abs(codes[: vector.size] - steps)) <= 0.51


@pytest.mark.parametrize("vector", [[], [0.0, 0.0], [float("nan")], [float("inf"), 1.0], [[1.0]]])
def test_what_is_no_direction_is_refused(vector: object) -> None:
    with pytest.raises(InvalidRequestError, match="embedding"):
        codes_of(np.array(vector, np.float32))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x02" + b"a" * 32, b"\x01" + b"a" * 31, b"\x01" + bytes(32)])
def test_a_damaged_or_foreign_vector_is_no_vector(data: bytes) -> None:
    assert unpacked(data) is None
