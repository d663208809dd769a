"""What a format must say of itself: its file, how a row is made, how rows become bytes.

Every format is made from the chat rows of a built dataset, so that it can be written at any time
and never holds other words than the dataset does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import msgspec

from store.errors import Rejected
from store.records import Assessment


class Turn(TypedDict):
    """One message; the last one of a row is the answer to be learned."""

    role: str
    content: str


class Row(TypedDict):
    """A line of a dataset's files. No person is in it, not even by pseudonym."""

    id: str
    conversation: str
    messages: list[Turn]
    source: str
    category: str
    difficulty: str


class Example(NamedTuple):
    """A row, and what the panel said of it where that is known."""

    row: Row
    assessment: Assessment | None = None

    @property
    def messages(self) -> list[Turn]:
        """The conversation, the answer last."""
        return self.row["messages"]


class Unfit(Rejected):
    """This conversation has no place in the format; the message says why."""


class Format(NamedTuple):
    """How a dataset is written. The same examples give the same bytes."""

    about: str
    """One line for people, and what they must know to train from it."""
    suffix: str
    """Of a split's file, with its dot."""
    row: Callable[[Example], Mapping[str, Any]]
    """One example as the format has it. Raises Unfit."""
    write: Callable[[Sequence[Mapping[str, Any]]], bytes]
    """The file of one split. Raises Misconfigured when a library for it is missing."""
    features: Mapping[str, str] = {}
    """Types of the columns, for a file that does not tell them."""


def jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """One JSON object a line, as UTF-8."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
