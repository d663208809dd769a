"""LibreChat's export of a conversation: messages with parents, flat or nested in `children`.

It does not tell which branch was on the screen, so every answer to the user is read, each with
what was said before it on its own branch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from converters.imports.exchange import Document, Exchange, Import, Turn, Unreadable, answers, turn


def _read(document: Document) -> Iterator[Exchange]:
    said = document["messages"]
    if not isinstance(said, list):
        raise Unreadable("`messages` is not a list.")
    found = list(_flat(said))
    if all(one["parentMessageId"] is None for one in found):  # written as they followed
        for one, above in zip(found[1:], found, strict=False):
            one["parentMessageId"] = above["messageId"]
    by_name = {one["messageId"]: one for one in found}
    system = document.get("options")
    system = system.get("promptPrefix") if isinstance(system, Mapping) else None
    first = [Turn("system", system)] if isinstance(system, str) else []
    person = document.get("user")
    for one in found:
        turns = first + [_turn(step) for step in _branch(one, by_name)]
        # Of the branch only its last answer: those before it come by themselves.
        last = [e for e in answers(turns) if e.turns[-1] is turns[-1]]
        for exchange in last:
            yield exchange._replace(
                conversation=str(document["conversationId"]),
                subject=person if isinstance(person, str) else None,
            )


def _flat(said: list[Any]) -> Iterator[dict[str, Any]]:
    """Every message, with the name of its parent; depth first, without recursion."""
    waiting: list[tuple[Any, str | None]] = [(one, None) for one in reversed(said)]
    while waiting:
        one, above = waiting.pop()
        if not isinstance(one, Mapping) or not isinstance(one.get("messageId"), str):
            raise Unreadable("A message has no `messageId`.")
        above = one.get("parentMessageId", above)
        if not isinstance(above, str | None):
            raise Unreadable("`parentMessageId` is no name.")
        yield {**one, "parentMessageId": above}
        children = one.get("children") or []
        if not isinstance(children, list):
            raise Unreadable("`children` is not a list.")
        waiting += [(child, one["messageId"]) for child in reversed(children)]


def _branch(one: dict[str, Any], by_name: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """From the first message to this one. A parent that is not there, as of the first, ends it."""
    branch = [one]
    while (above := by_name.get(branch[-1]["parentMessageId"])) is not None:
        if len(branch) == len(by_name):
            raise Unreadable("A message is its own ancestor.")
        branch.append(above)
    return branch[::-1]


def _turn(said: Mapping[str, Any]) -> Turn:
    """Who speaks is told by a flag; newer answers have their text in parts. An error is none."""
    role = "user" if said.get("isCreatedByUser") is True else "assistant"
    text = None if said.get("error") is True else said.get("text") or said.get("content")
    return turn({**said, "role": role, "text": text}, role="role", text="text")


IMPORT = Import(
    about="LibreChat: the export of a conversation; every branch of it",
    fits=lambda document: "conversationId" in document and "messages" in document,
    read=_read,
)
