"""The merge loop that byte-level BPE and SentencePiece BPE share, and a bounded memory of merged words."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

MAX_CACHED_WORDS = 1 << 16
MAX_CACHED_WORD_CHARS = 64


def merge_pieces(pieces: list[str], rank_of: Callable[[str], float | None], separator: str) -> list[str]:
    """Joins adjacent pieces, the pair of lowest rank first (the leftmost of equals), until no pair has a rank.

    `rank_of(left + separator + right)` ranks a pair, None forbids it. `pieces` is used up. A heap of candidate pairs
    makes this O(n log n) for n pieces, so that a long word is no way to stall a server. Sennrich, Haddow and Birch,
    "Neural Machine Translation of Rare Words with Subword Units" (2016), section 3.2; order of equals as in
    SentencePiece's `bpe_model.cc`.
    """
    last = len(pieces) - 1
    if last < 1:
        return pieces
    before, after = list(range(-1, last)), list(range(1, last + 2))
    heap: list[tuple[float, int, int]] = []  # rank, index of the left piece, characters of the pair
    for left in range(last):
        rank = rank_of(pieces[left] + separator + pieces[left + 1])
        if rank is not None:
            heap.append((rank, left, len(pieces[left]) + len(pieces[left + 1])))
    heapify(heap)
    while heap:
        _, left, size = heappop(heap)
        right = after[left]
        merged = pieces[left] and right <= last and pieces[left] + pieces[right]
        if not merged or len(merged) != size:
            continue  # one of the two was merged elsewhere in the meantime
        pieces[left], pieces[right] = merged, ""
        following = after[left] = after[right]
        if following <= last:
            before[following] = left
            rank = rank_of(merged + separator + pieces[following])
            if rank is not None:
                heappush(heap, (rank, left, size + len(pieces[following])))
        previous = before[left]
        if previous >= 0:
            rank = rank_of(pieces[previous] + separator + merged)
            if rank is not None:
                heappush(heap, (rank, previous, len(pieces[previous]) + size))
    return [piece for piece in pieces if piece]


class WordCache:
    """Token ids of words met before; forgets everything when full, so its memory is bounded."""

    def __init__(self, encode_word: Callable[[str], list[int]]) -> None:
        self._encode_word = encode_word
        self._ids: dict[str, list[int]] = {}

    def encode(self, words: list[str]) -> list[int]:
        """Ids of all words, in order."""
        known = self._ids
        ids: list[int] = []
        for word in words:
            word_ids = known.get(word)
            if word_ids is None:
                word_ids = self._encode_word(word)
                if len(word) <= MAX_CACHED_WORD_CHARS:
                    if len(known) >= MAX_CACHED_WORDS:
                        known.clear()
                    known[word] = word_ids
            ids += word_ids
        return ids
