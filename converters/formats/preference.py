"""Pairs of answers for DPO, conversational as TRL reads them: prompt, chosen, rejected.

`prompt` ends with the person's turn; `chosen` and `rejected` hold one turn of the model each.
"""

from __future__ import annotations

from typing import Any

from converters.formats.format import Format, jsonl
from converters.formats.turns import prompt, reply
from converters.preferences import Pair


def row(pair: Pair) -> dict[str, Any]:
    """One pair, and where it came from. No person is in it, not even by pseudonym."""
    experience = pair.experience
    return {
        "id": experience.id,
        "conversation": experience.conversation,
        "prompt": prompt(experience),
        "chosen": [reply(pair.chosen)],
        "rejected": [reply(pair.rejected)],
        "source": experience.source,
        "origin": pair.origin,
    }


FORMAT: Format[Pair] = Format(
    about="prompt, chosen, rejected as chat messages: pairs for DPO, as TRL reads them",
    suffix=".jsonl",
    row=row,
    write=jsonl,
)
