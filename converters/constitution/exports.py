"""Rows of the output file: the example itself, a chat, or critique and revision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from converters.constitution.examples import Example

Row = Callable[[Example], dict[str, Any]]

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


_NAMES = {"user": "Person", "assistant": "Model", "system": "System"}

EXPORTS: dict[str, Row] = {"examples": example, "chat": chat, "critique": critique}
