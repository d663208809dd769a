"""Open WebUI's export: a list of chats, each with its messages as a tree.

Of the tree the branch that was on the screen is read, from its last message back to the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from converters.imports.exchange import (
    Document,
    Exchange,
    Import,
    Turn,
    Unreadable,
    answers,
    turn,
)


def _read(document: Document) -> Iterator[Exchange]:
    chat = document["chat"]
    history = chat.get("history") if isinstance(chat, Mapping) else None
    said = history.get("messages") if isinstance(history, Mapping) else None
    if not isinstance(history, Mapping) or not isinstance(said, Mapping):
        raise Unreadable("The chat has no `history.messages`.")
    turns = [turn(one, role="role", text="content") for one in _branch(said, history)]
    params = chat.get("params")
    system = chat.get("system") or (params.get("system") if isinstance(params, Mapping) else None)
    if isinstance(system, str):
        turns.insert(0, Turn("system", system))
    name, person = document.get("id"), document.get("user_id")
    return answers(
        turns,
        conversation=name if isinstance(name, str) else None,
        subject=person if isinstance(person, str) else None,
    )


def _branch(said: Mapping[str, Any], history: Mapping[str, Any]) -> list[Any]:
    """From the first message to the current one. Raises Unreadable where that leads nowhere."""
    branch: list[Any] = []
    name = history.get("currentId")
    while name is not None:
        found = said.get(name) if isinstance(name, str) else None
        if not isinstance(found, Mapping) or len(branch) == len(said):
            raise Unreadable("A message of the current branch is missing, or its own ancestor.")
        branch.append(found)
        name = found.get("parentId")
    return branch[::-1]


IMPORT = Import(
    about="Open WebUI: the export of chats; of each the branch that was on the screen",
    fits=lambda document: "chat" in document,
    read=_read,
)
