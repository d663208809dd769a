"""ShareGPT's layout: {"conversations": [{"from": "human", "value": ...}, ...]}.

Its ids number the rows of one file, so they name no conversation.
"""

from __future__ import annotations

from collections.abc import Iterator

from converters.imports.exchange import (
    Document,
    Exchange,
    Import,
    Turn,
    Unreadable,
    answers,
    sort_out,
    turn,
)

TOLD = ("category", "difficulty")


def _read(document: Document) -> Iterator[Exchange]:
    said = document["conversations"]
    if not isinstance(said, list):
        raise Unreadable("`conversations` is not a list.")
    turns = [turn(one, role="from", text="value") for one in said]
    system = document.get("system")
    if isinstance(system, str) and system:
        turns.insert(0, Turn("system", system))
    context, rest = sort_out({name: document[name] for name in TOLD if name in document})
    return answers(turns, context=context, metadata=rest)


IMPORT = Import(
    about="ShareGPT: conversations of {from, value}",
    fits=lambda document: "conversations" in document,
    read=_read,
)
