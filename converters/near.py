"""Groups of texts that are nearly the same: copies with a word changed, or with something added.

Texts are compared by the runs of characters that they share (MinHash), so that any language will
do. Case, spaces and punctuation make no difference. A changed number or name makes a short text
another one; a long one stays the same. It does not know what the texts are, nor which is kept.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

THRESHOLD = 0.8
"""From this share of runs in common two texts are nearly the same."""
RUN = 8
"""Characters in a run; a text that is shorter is like its equals only."""
PERMUTATIONS = 128
"""Values of a signature: similarity is estimated to within .035 (one standard deviation)."""
BAND = 4
"""Values that two signatures must share in a row to be compared: of pairs at a similarity of .7 all
but one in six thousand do, at .8 all but one in twenty million."""
SEED = 20_260_101
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, without a pattern: 2 ** 64 divided by the golden ratio."""
CHARACTERS = 1_000_000
"""Whose runs are in memory at a time, some 60 MB."""
PAIRS = 20_000
"""Whole signatures compared at a time."""
KEPT_CATEGORIES = "LMNS"
"""Of Unicode: letters, marks, numbers and symbols. Spaces and punctuation are dropped."""

Indices = NDArray[np.int64]
Signatures = NDArray[np.uint32]
Hashes = NDArray[np.uint64]


def groups(texts: Iterable[str], *, threshold: float = THRESHOLD) -> Indices:
    """For each text the index of the first text of its group; alone, its own.

    Who is like one of a group belongs to it, so its ends may be less alike than the threshold.
    The same texts give the same groups on any machine. Texts are read once and not kept; a
    million of 460 characters take 40 s and 1.1 GB.
    """
    signatures = _signatures(texts)
    first = np.arange(len(signatures))
    for at in range(0, PERMUTATIONS, BAND):
        order, run = _in_runs(signatures[:, at : at + BAND])
        # Each with the one before it and with the first of its run: all pairs would be too many.
        a, b = np.concatenate([order[1:], order]), np.concatenate([order[:-1], order[run]])
        apart = np.concatenate([run[1:] == run[:-1], run != np.arange(len(run))])
        apart &= first[a] != first[b]
        a, b = a[apart], b[apart]
        alike = _similar(signatures, a, b, threshold)
        first = _joined(first, a[alike], b[alike])
    return first


def _signatures(texts: Iterable[str]) -> Signatures:
    rows: list[Signatures] = [np.zeros((0, PERMUTATIONS), dtype=np.uint32)]
    for chunk in _chunks(texts):
        hashes, ends = _hashed_runs(chunk)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, ends, PERMUTATIONS, SEED)
        rows.append(np.array(matrix.to_rows(), dtype=np.uint32))
    return np.concatenate(rows)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lower case, as many at a time as memory allows."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text.lower())
        size += max(len(text), RUN)
        if size >= CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _hashed_runs(texts: Sequence[str]) -> tuple[Hashes, Hashes]:
    """Hashes of every run of characters of every text, and where each text's begin and end."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    kept = _kept()[codes]
    lengths = np.bincount(owner[kept], minlength=len(texts))
    # What is shorter than a run is filled with zeros: a single run, equal to its equals' only.
    filled = np.maximum(lengths, RUN)
    ends = np.cumsum(filled)
    shift = (ends - filled) - (np.cumsum(lengths) - lengths)
    spread = np.zeros(int(ends[-1]), dtype=np.uint64)
    spread[np.arange(lengths.sum()) + np.repeat(shift, lengths)] = codes[kept]
    hashes = np.zeros(len(spread) - RUN + 1, dtype=np.uint64)
    for place in range(RUN):
        hashes = (hashes ^ spread[place : len(hashes) + place]) * MULTIPLIER
        hashes ^= hashes >> np.uint64(32)
    counts = filled - RUN + 1
    within = np.repeat(ends - np.cumsum(counts) - (RUN - 1), counts) + np.arange(counts.sum())
    return hashes[within], np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)


@cache
def _kept() -> NDArray[np.bool_]:
    """Of every code point, whether it makes a difference."""
    categories = (unicodedata.category(chr(code))[0] for code in range(sys.maxunicode + 1))
    return np.fromiter((category in KEPT_CATEGORIES for category in categories), dtype=np.bool_)


def _in_runs(band: Signatures) -> tuple[Indices, Indices]:
    """The rows in an order that puts equal bands together, and where each one's run begins."""
    keys = np.zeros(len(band), dtype=np.uint64)
    for column in band.T:
        keys = (keys ^ column) * MULTIPLIER
        keys ^= keys >> np.uint64(32)
    order = np.argsort(keys, kind="stable")
    begins = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
    return order, np.repeat(begins, np.diff(begins, append=len(order)))


def _similar(signatures: Signatures, a: Indices, b: Indices, threshold: float) -> NDArray[np.bool_]:
    """Of each pair, whether its whole signatures agree in so large a share."""
    alike = np.zeros(len(a), dtype=np.bool_)
    for at in range(0, len(a), PAIRS):
        some = slice(at, at + PAIRS)
        alike[some] = (signatures[a[some]] == signatures[b[some]]).mean(axis=1) >= threshold
    return alike


def _joined(first: Indices, a: Indices, b: Indices) -> Indices:
    """The groups after each of these pairs was put together."""
    if not len(a):
        return first
    size = len(first)
    rows, columns = np.concatenate([np.arange(size), a]), np.concatenate([first, b])
    graph = coo_array((np.ones(len(rows), dtype=np.bool_), (rows, columns)), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    _, firsts = np.unique(labels, return_index=True)
    return np.asarray(firsts[labels], dtype=np.int64)
