"""Rows as the loss sees them, decoded again, for people: what is learned from stands in ⟦ ⟧."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from trainer.base import Base
from trainer.model import materialise
from trainer.sequences import IGNORED, Sequence, supervised_tokens, tokenise

OPENS, CLOSES = "⟦⟧"


def preview(rows: list[dict[str, Any]], base: Base, cache: Path, max_length: int) -> list[str]:
    """A text for each row: its id, how much of it is learned from, and the tokens, decoded.

    Raises Rejected for rows that training would refuse.
    """
    tokenizer = AutoTokenizer.from_pretrained(materialise(base, cache))
    return [
        f"{s['id']}: {supervised_tokens(s)} of {len(s['input_ids'])} tokens are learned from\n"
        f"{marked(s, tokenizer)}"
        for s in tokenise(rows, tokenizer, max_length)
    ]


def marked(sequence: Sequence, tokenizer: Any) -> str:
    """The whole sequence, special tokens too, with marks around what is supervised."""
    parts = []
    tokens = zip(sequence["input_ids"], sequence["labels"], strict=True)
    for supervised, run in itertools.groupby(tokens, key=lambda pair: pair[1] != IGNORED):
        text = tokenizer.decode([token for token, _ in run])
        parts.append(f"{OPENS}{text}{CLOSES}" if supervised else text)
    return "".join(parts)
