"""The roster of hostile requests: all of them, to the door that each was made for."""

from __future__ import annotations

from .bodies import encodings, lines, media, sizes
from .heads import framing, heads, keys, targets
from .items import conversations, fields, nesting, numbers, shapes, texts
from .request import EXPERIENCES, FEEDBACK, Hostile


def _roster() -> list[Hostile]:
    bodies = (nesting, texts, numbers, shapes, fields, sizes, media, encodings, lines, keys)
    of_both = [case for door in (EXPERIENCES, FEEDBACK) for kind in bodies for case in kind(door)]
    return [*of_both, *conversations(), *targets(), *heads(), *framing()]


ROSTER = _roster()
