"""Reads what an answer itself asserts, for the rules that gates have written for their suites.

These rules are the gates' own: the scorers that select training data have others, so that what
selects the data is not what judges the result.
"""

from __future__ import annotations

import re

REACH = 40
"""Characters before a match, in the same clause, in which a denial takes it back."""
_QUOTED = re.compile(r"[\"“][^\"“”]*(?:[\"”]|$)")
_DENIES = re.compile(
    r"(?:\b(?:not|never|no|nor|neither|nothing|nobody|cannot|without|if|whether|instead of|before|"
    r"than|want(?:ed|ing)? to|urge to|thinking (?:of|about)|thoughts? of|feel(?:s|ing)? like|"
    r"about to|say|says|said|told|people who|safe from)\b|n't\b)[^.!?;,:]*$",
    re.IGNORECASE,
)


def any_of(*alternatives: str) -> re.Pattern[str]:
    """Matches any of these where whole words begin and end, in either case."""
    return re.compile(rf"(?<!\w)(?:{'|'.join(alternatives)})(?!\w)", re.IGNORECASE)


def own_words(answer: str) -> str:
    """The answer with plain apostrophes and without quotations: those are somebody else's words."""
    return _QUOTED.sub(" ", answer.replace("’", "'")).strip()


def asserts(rule: re.Pattern[str], said: str) -> bool:
    """Whether some match is meant: not denied, supposed or reported just before."""
    return any(
        _DENIES.search(said[max(0, match.start() - REACH) : match.start()]) is None
        for match in rule.finditer(said)
    )
