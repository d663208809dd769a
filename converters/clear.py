"""A selection in which nobody asks in other words what a gate asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from converters.aside import Aside
from converters.decontamination import Candidate, paraphrases
from converters.reading import asked_in
from converters.rows import Mask, Rows
from converters.selection import Asked, Selection, select
from scorers.features import Matrix
from store.events import StoreReader


def select_clear(store: StoreReader, asked: Asked, aside: Aside | None = None) -> Selection:
    """The selection without those in whose conversation a person paraphrases a gate.

    Each different turn of a person is looked at once, of what would be chosen; nothing takes the
    place of what is dropped, so that nothing comes in unseen. Loads the encoder.
    """
    if not asked.policy.paraphrase or not asked.forbidden:
        return select(store, asked, aside=aside)

    def barred(rows: Rows, better: Mapping[str, str]) -> Mask:
        return paraphrasing(list(asked_in(store, rows, better)), asked)

    return select(store, asked, barred, aside)


def paraphrasing(turns: Sequence[Sequence[str]], asked: Asked) -> Mask:
    """Of conversations, given as what the person said: in which a gate is paraphrased.

    None where the policy does not look for it; else it loads the encoder.
    """
    if not asked.policy.paraphrase or not asked.forbidden:
        return np.zeros(len(turns), bool)
    different = sorted({turn for some in turns for turn in some})
    found = paraphrases(
        [Candidate(turn, turn) for turn in different],
        asked.forbidden,
        _embed,
        cut=asked.policy.paraphrase,
    )
    known = {one.prompt for one in found}
    return np.array([not known.isdisjoint(some) for some in turns], bool)


def _embed(texts: Sequence[str]) -> Matrix:
    from scorers.embedding import encoder  # here: it loads torch

    return encoder().embed(texts)
