"""Many alternatives as one pattern that is quick to say that none of them is here.

`re` tries the alternatives of a pattern one after another. Behind their first letters most of
them are never tried: four times as fast for the anti-judge's 170.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

QUANTIFIERS = ("?", "*", "+", "{")
TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^]\\])*\]|.", re.DOTALL)
"""What has one meaning in a pattern: an escape, a set, a sign."""


def by_first_letter(pattern: str) -> str:
    """A pattern that matches where this one does, if not always as far.

    The first alternative that fits is the match; here they stand in another order.
    """
    behind: defaultdict[str, list[str]] = defaultdict(list)
    for alternative in _opened(pattern):
        if alternative[:1].isalpha() and not alternative[1:].startswith(QUANTIFIERS):
            behind[alternative[0]].append(alternative[1:])
        else:
            behind[""].append(alternative)
    return "|".join(f"{letter}(?:{'|'.join(rests)})" for letter, rests in behind.items())


def _opened(pattern: str) -> Iterator[str]:
    """The alternatives; of one that begins with a group, one for each alternative in the group."""
    for alternative in _alternatives(pattern):
        end = next((at for at, sign in _outside(alternative) if sign == ")"), 0)
        inside, rest = alternative[len("(?:") : end], alternative[end + 1 :]
        optional = rest.startswith("?")
        rest = rest.removeprefix("?")
        if not alternative.startswith("(?:") or rest.startswith(QUANTIFIERS):
            yield alternative
            continue
        for one in _alternatives(inside):
            yield from _opened(one + rest)
        if optional:
            yield from _opened(rest)


def _alternatives(pattern: str) -> Iterator[str]:
    start = 0
    for at, sign in _outside(pattern):
        if sign == "|":
            yield pattern[start:at]
            start = at + 1
    yield pattern[start:]


def _outside(pattern: str) -> Iterator[tuple[int, str]]:
    """Each token that lies in no group, and where; of a group its closing bracket."""
    depth = 0
    for token in TOKEN.finditer(pattern):
        depth -= token[0] == ")"
        if depth == 0:
            yield token.start(), token[0]
        depth += token[0] == "("
