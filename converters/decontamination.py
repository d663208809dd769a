"""Which prompts ask in nearly the same words what a gate asks, found by sentence embeddings.

Learned from, such a prompt would make the gate measure memory. What says the same in quite other
words lies as far from it as what merely shares its topic, so it is not looked for: among 26
rewritten prompts of the gates (tests/converters/paraphrases.jsonl), all 26 near-verbatim ones are
at .92 or more, all 26 in other words at .79 or less, all 26 on the same topic at .83 or less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from scorers.features import Matrix
from store.records import Noun

CUT = 0.85
"""From this cosine similarity a prompt is a paraphrase. Of the 1,288 exemplars and scenarios that
were bundled first 16 were above it, each a gate's prompt reworded (they were written anew); from
.84 down come those that ask for the contrary: to find a hidden tracker, where the gate's asks to
hide one."""
CHUNK = 2_000
"""Prompts embedded at a time."""


class Candidate(Noun, frozen=True):
    """A prompt that may enter training; those of one conversation may share an id."""

    id: str
    prompt: str


class Paraphrase(Noun, frozen=True):
    """A candidate that is too near to a forbidden prompt."""

    id: str
    prompt: str
    of: str
    similarity: float


Embed = Callable[[Sequence[str]], Matrix]


def paraphrases(
    candidates: Sequence[Candidate], forbidden: Sequence[str], embed: Embed, *, cut: float = CUT
) -> tuple[Paraphrase, ...]:
    """The candidates that paraphrase a forbidden prompt, by an embedding that gives unit vectors.

    In the order of the candidates, each with the nearest that is forbidden.
    """
    if not candidates or not forbidden:
        return ()
    return tuple(_found(candidates, forbidden, embed, cut))


def _found(
    candidates: Sequence[Candidate], texts: Sequence[str], embed: Embed, cut: float
) -> Iterator[Paraphrase]:
    forbidden = embed(texts)
    for at in range(0, len(candidates), CHUNK):
        some = candidates[at : at + CHUNK]
        similarities = embed([candidate.prompt for candidate in some]) @ forbidden.T
        nearest = similarities.argmax(axis=1)
        for place in np.flatnonzero(similarities.max(axis=1) >= cut).tolist():
            yield Paraphrase(
                id=some[place].id,
                prompt=some[place].prompt,
                of=texts[nearest[place]],
                similarity=round(float(similarities[place, nearest[place]]), 3),
            )
