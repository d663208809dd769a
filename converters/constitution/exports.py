"""Rows of the output file: the example itself, a chat, or critique and revision."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from converters.constitution.examples import Difficulty, Example, ExampleType
from store.records import CONSTITUTION, Category, Consent, Context, Experience, Message, digest
from store.records import Difficulty as Hardness

Row = Callable[[Example], dict[str, Any]]

WRITTEN = datetime(2026, 11, 22, tzinfo=UTC)  # a fixed time: twice is the same experience
ASKED = "Somebody asked a model this:"
ANSWERED = "It answered:"
WANTED = (
    "Say what is wrong with that answer and which principle it breaks, then write a better one."
)


def example(e: Example) -> dict[str, Any]:
    """Every field, by the seed's names."""
    row: dict[str, Any] = msgspec.to_builtins(e)
    return row


def chat(e: Example) -> dict[str, Any]:
    """The conversation with the ethical response as its last turn."""
    messages = [{"role": m.role, "content": m.content} for m in e.conversation]
    messages.append({"role": "user", "content": e.prompt})
    messages.append({"role": "assistant", "content": e.response_ethical})
    return {"id": e.example_id, "messages": messages}


def critique(e: Example) -> dict[str, Any]:
    """The harmful response in the person's turn; critique, principle and revision as the reply.

    The harmful response is no turn of the assistant: training learns those, all of them.
    """
    before = [f"{_NAMES[m.role]}: {m.content}" for m in e.conversation]
    asked = "\n".join([*before, f"{_NAMES['user']}: {e.prompt}"]) if before else e.prompt
    question = f"{ASKED}\n\n{asked}\n\n{ANSWERED}\n\n{e.response_harmful}\n\n{WANTED}"
    reply = f"{e.critique}\n\n{e.principle}\n\n{e.response_ethical}"
    return {
        "id": e.example_id,
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": reply},
        ],
    }


def experience(e: Example) -> Experience:
    """The example as it is recorded to be learned from; all of one topic are one conversation.

    So that none of them is held out while others like it are learned from.
    """
    asked = Message(role="user", content=e.prompt)
    return Experience(
        # By what it says: an example's number depends on how many were composed.
        id=f"{CONSTITUTION}.{digest([e.conversation, e.prompt, e.response_ethical])[:16]}",
        occurred_at=WRITTEN,
        source=CONSTITUTION,
        conversation_id=f"{CONSTITUTION}.{e.tags[1]}",
        messages=(*e.conversation, asked),
        response=e.response_ethical,
        context=Context(
            category=CATEGORIES.get(e.example_type), difficulty=DIFFICULTIES[e.difficulty]
        ),
        consent=Consent(training=True, policy="written-for-this-project"),
        metadata={"type": e.example_type.value, "law": int(e.law_category)},
    )


CATEGORIES: dict[ExampleType, Category] = {
    ExampleType.HARMFUL_BLOCKED: "adversarial",
    ExampleType.EDGE_CASE: "edge",
    ExampleType.LAW_CONFLICT: "boundary",
}
"""What is not here has none: it may be about anything."""
DIFFICULTIES: dict[Difficulty, Hardness] = {
    Difficulty.EASY: "easy",
    Difficulty.MEDIUM: "medium",
    Difficulty.HARD: "hard",
    Difficulty.ADVERSARIAL: "extreme",
}
_NAMES = {"user": "Person", "assistant": "Model", "system": "System"}

EXPORTS: dict[str, Row] = {"examples": example, "chat": chat, "critique": critique}
