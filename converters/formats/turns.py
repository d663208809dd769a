"""Conversations for formats that know less than chat messages: in turns, or as one question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from converters.formats.format import Turn, Unfit
from converters.reading import Spoken
from store.records import Experience

LABEL = re.compile(r"^(System|User|Assistant):", re.MULTILINE)


class Exchange(NamedTuple):
    """What was said before, what was asked last, and the answer."""

    earlier: list[Turn]
    asked: str
    answer: str


def prompt(experience: Experience | Spoken) -> list[Turn]:
    """What was said before the response, as it was."""
    return [{"role": m.role, "content": m.content} for m in experience.messages]


def reply(text: str) -> Turn:
    """An answer of the model."""
    return {"role": "assistant", "content": text}


def conversations(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row of any kind of dataset as chat rows: a pair is two, whose ids say which is better."""
    if "messages" in row:
        return [dict(row)]
    if "label" in row:
        answers = {"completion": "desirable" if row["label"] else "undesirable"}
    else:
        answers = {"chosen": "better", "rejected": "worse"}
    return [
        {"id": f"{row['id']} ({what})", "messages": [*row["prompt"], *row[name]]}
        for name, what in answers.items()
    ]


def folded(messages: Sequence[Turn]) -> list[Turn]:
    """The messages with neighbours of one role made one turn, a blank line between them."""
    turns: list[Turn] = []
    for message in messages:
        if turns and turns[-1]["role"] == message["role"]:
            both = f"{turns[-1]['content']}\n\n{message['content']}"
            turns[-1] = {"role": message["role"], "content": both}
        else:
            turns.append(message)
    return turns


def exchange(messages: Sequence[Turn]) -> Exchange:
    """The folded conversation as one question and its answer. Raises Unfit."""
    *earlier, answer = folded(messages)
    if not earlier or earlier[-1]["role"] != "user":
        raise Unfit("nothing was asked right before the answer")
    *earlier, asked = earlier
    return Exchange(earlier, asked["content"], answer["content"])


def transcript(turns: Sequence[Turn]) -> str:
    """The turns as a text, each after `System:`, `User:` or `Assistant:`.

    A line of people's words that begins with such a label gets a space before its colon, so that
    nobody puts words into another's mouth.
    """
    said = [(turn["role"].capitalize(), LABEL.sub(r"\1 :", turn["content"])) for turn in turns]
    return "\n\n".join(f"{role}: {words}" for role, words in said)
