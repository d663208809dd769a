"""Answers that are desirable or not, for KTO, conversational as TRL reads them.

`prompt` ends with the person's turn, `completion` holds one turn of the model, and `label` is true
where it is desirable.
"""

from __future__ import annotations

from typing import Any

from converters.formats.format import Format, jsonl
from converters.formats.turns import prompt, reply
from converters.preferences import Mark


def row(mark: Mark) -> dict[str, Any]:
    """One marked answer, and where it came from. No person is in it, not even by pseudonym."""
    experience = mark.experience
    return {
        "id": experience.id,
        "conversation": experience.conversation,
        "prompt": prompt(experience),
        "completion": [reply(mark.answer)],
        "label": mark.desirable,
        "source": experience.source,
        "origin": mark.origin,
    }


FORMAT: Format[Mark] = Format(
    about="prompt, completion as chat messages, label (desirable or not): for KTO, as TRL reads it",
    suffix=".jsonl",
    row=row,
    write=jsonl,
)
