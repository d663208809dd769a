"""Hold-outs by conversation: what belongs together is never on both sides.

The side follows from the conversation's id alone, so it never changes as the store grows.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")


def split_of(conversation: str, holdout_share: float) -> Split:
    """The side of a conversation; about `holdout_share` of them are held out."""
    drawn = int.from_bytes(hashlib.sha256(conversation.encode()).digest()[:8], "big") / 2**64
    return "validation" if drawn < holdout_share else "train"
