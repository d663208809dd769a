"""How different the examples are from each other, in numbers."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from converters.constitution.examples import Example
from store.records import Noun

GRAM = 3
PAIRS = 2_000
SAMPLE = 1_000
CLOSE = 0.8
"""Two texts above that say nearly the same."""
SEED = 20_261_122
"""Which pairs and which sample: always the same, so that figures can be compared."""


class Distinctness(Noun, frozen=True, kw_only=True):
    """Figures over prompts and ethical responses; similarity is Jaccard's, of three words in a row.

    The neighbours of a sampled row are looked for among all rows, not in the sample alone.
    """

    prompts_distinct: int
    responses_distinct: int
    largest_share_of_one_response: float
    mean_similarity_prompts: float
    mean_similarity_responses: float
    close_neighbour_share_prompts: float
    close_neighbour_share_responses: float
    sampled_rows: int
    sampled_pairs: int


def distinctness(examples: Sequence[Example]) -> Distinctness:
    """The figures for these examples, of which there must be two or more."""
    prompts = [normal(e.prompt) for e in examples]
    responses = [normal(e.response_ethical) for e in examples]
    sizes = Counter(responses)
    prompt_grams, response_grams = _grams(prompts), _grams(responses)
    sample = min(SAMPLE, len(examples))
    return Distinctness(
        prompts_distinct=len(set(prompts)),
        responses_distinct=len(sizes),
        largest_share_of_one_response=max(sizes.values()) / len(responses),
        mean_similarity_prompts=_mean_similarity(prompt_grams),
        mean_similarity_responses=_mean_similarity(response_grams),
        close_neighbour_share_prompts=_close_share(prompt_grams, sample),
        close_neighbour_share_responses=_close_share(response_grams, sample),
        sampled_rows=sample,
        sampled_pairs=PAIRS,
    )


def normal(text: str) -> str:
    """In lower case, with single spaces."""
    return " ".join(text.lower().split())


def _grams(texts: Sequence[str]) -> list[frozenset[tuple[str, ...]]]:
    found = []
    for text in texts:
        words = re.findall(r"[\w']+", text)
        found.append(frozenset(tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)))
    return found


def _mean_similarity(grams: Sequence[frozenset[tuple[str, ...]]]) -> float:
    draw = random.Random(SEED)  # noqa: S311  # a sample, not a secret
    total = 0.0
    for _ in range(PAIRS):
        a, b = (grams[i] for i in draw.sample(range(len(grams)), 2))
        total += len(a & b) / (len(a | b) or 1)
    return round(total / PAIRS, 4)


def _close_share(grams: Sequence[frozenset[tuple[str, ...]]], sample: int) -> float:
    """The share of sampled rows with another row above CLOSE, by one sparse product."""
    numbers: dict[tuple[str, ...], int] = {}
    columns = [numbers.setdefault(g, len(numbers)) for found in grams for g in sorted(found)]
    ends = np.cumsum([0, *(len(found) for found in grams)])
    rows = csr_matrix((np.ones(len(columns), np.int32), columns, ends))
    draw = random.Random(SEED)  # noqa: S311
    chosen = draw.sample(range(len(grams)), sample)
    shared = (rows[chosen] @ rows.T).tocoo()
    sizes = np.diff(ends)
    picked = np.asarray(chosen)[shared.row]
    similar = shared.data / (sizes[picked] + sizes[shared.col] - shared.data)
    close = set(shared.row[(similar > CLOSE) & (picked != shared.col)].tolist())
    return round(len(close) / sample, 4)
