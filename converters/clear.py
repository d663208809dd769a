"""A selection in which no question says in other words what a gate asks."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from converters.decontamination import Candidate, paraphrases
from converters.reading import texts
from converters.selection import Asked, Selection, select
from scorers.features import Matrix
from store.events import StoreReader


def select_clear(store: StoreReader, asked: Asked) -> tuple[Asked, Selection]:
    """The selection, and what was asked with those barred that paraphrase a gate's question.

    In place of what is barred others may come, which are looked at in their turn. Loads the
    encoder, where anything is to be looked at.
    """
    known: set[str] = set()
    while True:
        selection = select(store, asked)
        if not asked.policy.paraphrase:
            return asked, selection
        said = texts(store, selection.rows, selection.better)
        questions = {
            str(position): question
            for position, (question, _) in zip(selection.rows["position"], said, strict=True)
            if question and question not in known
        }
        known.update(questions.values())
        found = paraphrases(
            [Candidate(name, question) for name, question in questions.items()],
            asked.forbidden,
            _embed,
            cut=asked.policy.paraphrase,
        )
        if not found:
            return asked, selection
        barred = asked.barred | {int(one.id) for one in found}
        asked = msgspec.structs.replace(asked, barred=barred)


def _embed(texts: Sequence[str]) -> Matrix:
    from scorers.embedding import encoder  # here: it loads torch

    return encoder().embed(texts)
