"""Chat messages with what is known of them: {"messages": [{role, content}, ...], ...}.

The rows of our own datasets are such. A `response` beside the messages is the last answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from converters.imports.exchange import (
    Document,
    Exchange,
    Import,
    Turn,
    Unreadable,
    answers,
    moment,
    sort_out,
    turn,
)

TOLD = ("category", "difficulty")
CONVERSATION = ("conversation_id", "conversation")
TIMES = ("occurred_at", "created_at", "timestamp")


def _read(document: Document) -> Iterator[Exchange]:
    said = document["messages"]
    if not isinstance(said, list):
        raise Unreadable("`messages` is not a list.")
    metadata = document.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise Unreadable("`metadata` is not an object.")
    turns = [turn(one, role="role", text="content") for one in said]
    if "response" in document:
        turns.append(turn({**document, "role": "assistant"}, role="role", text="response"))
    at = next((document[name] for name in TIMES if document.get(name)), None)
    named = next((document[name] for name in CONVERSATION if document.get(name)), None)
    subject = document.get("subject")
    told = {name: document[name] for name in TOLD if document.get(name)}
    context, rest = sort_out({**metadata, **told})
    model = document.get("model")
    return answers(
        [_filled(one, at, model) for one in turns],
        conversation=None if named is None else str(named),
        subject=None if subject is None else str(subject),
        context=context,
        metadata=rest,
    )


def _filled(said: Turn, at: object, model: object) -> Turn:
    """The turn with what is told of all of them where it tells nothing itself."""
    return said._replace(
        at=said.at or moment(at),
        model=said.model or (model if isinstance(model, str) else None),
    )


IMPORT = Import(
    about="chat messages, one conversation a line; rows of our own datasets, too",
    fits=lambda document: "messages" in document,
    read=_read,
)
