"""What is recorded in the benchmarks: experiences of about 1.45 KB, as post.lua posts them."""

from __future__ import annotations

from datetime import UTC, datetime

from store.records import Consent, Experience, Message, to_json

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ANSWER = "You could begin with the smallest step. " * 19
QUESTION = "what should I do? " * 28


def samples(prefix: str, count: int) -> list[Experience]:
    """This many, whose ids begin with the prefix."""
    return [
        Experience(
            id=f"{prefix}-{i}",
            occurred_at=MOMENT,
            source="bench",
            messages=(Message(role="user", content=f"{i} {QUESTION}"),),
            response=f"{i} {ANSWER}",
            consent=Consent(training=True),
        )
        for i in range(count)
    ]


def rows(prefix: str, count: int) -> list[tuple[str, bytes]]:
    """The same as bare rows: id and body."""
    return [(e.id, to_json(e)) for e in samples(prefix, count)]
