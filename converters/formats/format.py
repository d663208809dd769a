"""What a format must say of itself: its file, how a row is made, how rows become bytes.

Most are made from the chat rows of a built dataset (an `Example`), so that they can be written at
any time and never hold other words than the dataset does; the others from what people prefer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import msgspec

from store.errors import Rejected
from store.records import Assessment

T = TypeVar("T")


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


class Format(NamedTuple, Generic[T]):
    """How what is learned from is written. The same of it gives the same bytes."""

    about: str
    """One line for people, and what they must know to train from it."""
    suffix: str
    """Of a split's file, with its dot."""
    row: Callable[[T], Mapping[str, Any]]
    """One of them as the format has it. Raises Unfit."""
    write: Callable[[Sequence[Mapping[str, Any]]], bytes]
    """The file of one split. Raises Misconfigured when a library for it is missing."""
    features: Mapping[str, str] = {}
    """Types of the columns, for a file that does not tell them."""


def jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """One JSON object a line, as UTF-8."""
    return msgspec.json.Encoder().encode_lines(rows)
