"""A selection in which no question says in other words what a gate asks."""

from __future__ import annotations

import threading

import msgspec

from converters.decontamination import Candidate, paraphrases
from converters.reading import texts
from converters.selection import Asked, Selection, select
from store.events import Store


def select_clear(
    store: Store, asked: Asked, stop: threading.Event | None = None
) -> tuple[Asked, Selection]:
    """The selection, and what was asked with those barred that paraphrase a gate's question.

    In place of what is barred others may come, which are looked at in their turn. Waits for a
    child process. Raises ChildFailed, and Unavailable when `stop` was set.
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
            cut=asked.policy.paraphrase,
            stop=stop,
        )
        if not found:
            return asked, selection
        barred = asked.barred | {int(one.id) for one in found}
        asked = msgspec.structs.replace(asked, barred=barred)
