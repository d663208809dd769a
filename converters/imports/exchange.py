"""What an import must say of itself, and how what it reads becomes experiences.

An import reads one document, such as a line or a chat, and gives an exchange for each answer in
it: what was said before, and the answer. It does not know files, the store, or who consented.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

import msgspec

from store.errors import Rejected
from store.records import IDENTIFIER, Category, Consent, Difficulty, Experience

UNDATED = datetime(1970, 1, 1, tzinfo=UTC)
"""When what was said at an unknown time was said: the same at each import."""
MILLISECONDS = 1e11
"""A number of seconds this large would be in the year 5138."""
UNNAMED = "import"
"""The id of what is not named yet."""
LENGTHS = ("messages_chars", "response_chars")
ANSWERED = ["user", "assistant"]
"""Who speaks, one after the other, where there is an answer to learn from."""
THOUGHTS = ("think", "thinking", "reasoning")
"""Parts of a message that nobody was told."""
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""Who speaks, by the words that other programs have for it."""

Document = Mapping[str, Any]


class Unreadable(Rejected):
    """This document is not what its format promises; the message says where."""


class Turn(NamedTuple):
    """Something that was said."""

    role: str
    text: str
    at: datetime | None = None
    model: str | None = None


class Exchange(NamedTuple):
    """An answer, and what was said before it."""

    turns: tuple[Turn, ...]
    """The answer is the last one."""
    conversation: str | None = None
    subject: str | None = None
    context: Mapping[str, Any] = {}
    metadata: Mapping[str, Any] = {}


class Import(NamedTuple):
    """How the documents of one format are read."""

    about: str
    """One line for people."""
    fits: Callable[[Document], bool]
    """Whether a document is of this format; of a broken one, too."""
    read: Callable[[Document], Iterator[Exchange]]
    """Its exchanges, in order. Raises Unreadable."""


# --- for the formats ----------------------------------------------------------------------


def turn(said: Any, *, role: str, text: str) -> Turn:
    """A turn as most formats have it: an object that names who speaks under one key, and what
    is said under another. Raises Unreadable.
    """
    if not isinstance(said, Mapping):
        raise Unreadable("A message is not an object.")
    speaker = said.get(role)
    if not isinstance(speaker, str) or speaker not in ROLES:
        raise Unreadable(f"{str(speaker)[:40]!r} is nobody who speaks here.")
    model = said.get("model")
    at = said.get("timestamp", said.get("created_at", said.get("createdAt")))
    return Turn(
        role=ROLES[speaker],
        text=words(said.get(text)),
        at=moment(at),
        model=model if isinstance(model, str) else None,
    )


def words(content: Any) -> str:
    """The text of a content that is text, or a list of parts that all are. Raises Unreadable."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Unreadable("The content of a message is no text.")
    texts: list[str] = []
    for part in content:
        kind, text = (part.get("type"), part.get("text")) if isinstance(part, Mapping) else ("", "")
        if kind in THOUGHTS:
            continue
        text = text.get("value") if isinstance(text, Mapping) else text
        if kind != "text" or not isinstance(text, str):
            raise Unreadable(f"A message holds a part {str(kind)[:40]!r}, which is no text.")
        texts.append(text)
    return "\n".join(texts)


def moment(value: Any) -> datetime | None:
    """A time: seconds or milliseconds since 1970, or ISO 8601; UTC where no zone is named."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            told = datetime.fromisoformat(value)
            return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)
        seconds = value / 1000 if value > MILLISECONDS else value
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise Unreadable(f"{str(value)[:40]!r} is no time.") from error


def answers(turns: Sequence[Turn], **about: Any) -> Iterator[Exchange]:
    """An exchange for each turn of the assistant that answers one of the user.

    Turns in which nothing was said are left out.
    """
    said = [one for one in turns if one.text.strip()]
    for end in range(1, len(said)):
        if [one.role for one in said[end - 1 : end + 1]] == ANSWERED:
            yield Exchange(tuple(said[: end + 1]), **about)


# --- to experiences -----------------------------------------------------------------------


def experience(exchange: Exchange, *, source: str, consent: Consent) -> Experience:
    """The exchange as an experience, still without a name. Raises Unreadable for what cannot be
    kept.
    """
    *before, answer = exchange.turns
    conversation = exchange.conversation
    if conversation and not re.fullmatch(IDENTIFIER, conversation):
        conversation = _hash(source, conversation)
    value = {
        "id": UNNAMED,
        "occurred_at": answer.at or UNDATED,
        "source": source,
        "messages": [{"role": one.role, "content": one.text} for one in before],
        "response": answer.text,
        "conversation_id": conversation or None,
        "subject": exchange.subject or None,
        "model": answer.model,
        "context": dict(exchange.context),
        "consent": msgspec.to_builtins(consent),
        "metadata": _metadata(exchange),
    }
    try:
        return msgspec.convert(value, Experience)
    except msgspec.ValidationError as error:
        raise Unreadable(f"{error}.") from error


def named(e: Experience) -> Experience:
    """The experience as it is stored, with its id, and its conversation's where it has none.

    They are hashes over what is stored, so that the same exchange is the same experience at each
    import, and other words are another one. Not over what was redacted: who has the rest could
    guess a number and compare.
    """
    said = [*((m.role, m.content) for m in e.messages), ("assistant", e.response)]
    lengths = [e.metadata.get(name) for name in LENGTHS]  # of words that are not stored
    roles = [role for role, _ in said]
    first = next(end for end in range(2, len(said) + 1) if roles[end - 2 : end] == ANSWERED)
    return msgspec.structs.replace(
        e,
        id=_hash(e.source, e.conversation_id, e.occurred_at, said, lengths),
        # Where none is named, what opens with the same answer is one: it must not be split.
        conversation_id=e.conversation_id or _hash(e.source, said[:first]),
    )


def _hash(*parts: Any) -> str:
    return f"import-{hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]}"


def _metadata(exchange: Exchange) -> dict[str, Any]:
    """What is no text, number or flag is written as JSON."""
    return {
        str(name): value
        if value is None or isinstance(value, str | int | float | bool)
        else msgspec.json.encode(value).decode()
        for name, value in exchange.metadata.items()
    }


def sort_out(told: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(context, the rest) of what a document tells beside the words.

    A category or difficulty that is none of ours stays with the rest.
    """
    ours: dict[str, tuple[str, ...]] = {
        "category": get_args(Category),
        "difficulty": get_args(Difficulty),
    }
    context = {name: told[name] for name, known in ours.items() if told.get(name) in known}
    known_or_empty = {*context, *(name for name in ours if not told.get(name))}
    rest = {name: value for name, value in told.items() if name not in known_or_empty}
    return context, rest
