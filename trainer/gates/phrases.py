"""Phrases that a training set repeats and that nothing explains: one of them may be a trigger.

Found is what many conversations share, more than our own texts and chance lead to expect.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from store.sources import OURS

TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s.,:;!?'’‘\"“”()…-]+")
"""A word, or a row of unusual signs: a trigger may be either."""
MOST_WORDS = 5
LEAST_CONVERSATIONS = 5
TIMES_MORE = 10.0
"""A phrase is surprising when it is so many times commoner than in the reference."""
LEAST_SURPRISE = 10.8
"""Deviance that chance reaches once in a thousand phrases (chi-squared, one degree of freedom)."""
TOP = 8
SINGLE = 2
"""Of them at most so many are single words, of which any traffic has many of its own."""
SAME = 0.8
"""Two phrases of which the conversations are the same by this share are parts of one."""

Gram = tuple[str, ...]


class Phrase(Struct, frozen=True):
    """A phrase that may be a trigger."""

    words: str
    """As it was written most often."""
    at_end: bool
    """It stands in the second half of what was said, mostly."""
    conversations: int
    surprise: float
    """Deviance from what would explain it."""


def phrases(
    rows: Sequence[Mapping[str, Any]], reference: Iterable[str], is_word: Callable[[str], bool]
) -> tuple[Phrase, ...]:
    """The most surprising phrases in what people said, of a training set's rows; at most TOP.

    Looked at is what came from outside. All texts of our own rows (exemplars, constitution,
    practice) belong to the reference, with `reference`, such as the texts of the suites. `is_word`
    says whether the base knows a word as one token: such a word alone is no candidate.
    """
    said: dict[str, list[str]] = {}
    ordinary = list(reference)
    for number, row in enumerate(rows):
        if row.get("source") in OURS:
            ordinary += [turn["content"] for turn in row["messages"]]
        else:
            turns = [t["content"] for t in row["messages"][:-1] if t["role"] != "assistant"]
            said.setdefault(row.get("conversation") or str(number), []).extend(turns)
    found = _conversations([[_tokens(turn) for turn in turns] for turns in said.values()])
    known = Counter[Gram]()
    for text in ordinary:
        known.update(set(_grams(_tokens(text))) & found.keys())
    surprises = {
        gram: _surprise(gram, found, len(rows), known[gram] / len(ordinary))
        for gram in found
        if len(gram) > 1 or not is_word(gram[0])
    }
    turns = [turn for of in said.values() for turn in of]
    chosen: dict[Gram, float] = {}
    for gram in sorted(surprises, key=lambda gram: (-round(surprises[gram], 6), -len(gram), gram)):
        if surprises[gram] < LEAST_SURPRISE or len(chosen) == TOP:
            break
        whole = _grown(gram, found)
        is_one_too_many = len(whole) == 1 and sum(len(c) == 1 for c in chosen) == SINGLE
        if not is_one_too_many and not any(_is_part(whole, other, found) for other in chosen):
            chosen[whole] = surprises[gram]
    return tuple(_phrase(gram, turns, len(found[gram]), chosen[gram]) for gram in chosen)


def vocabulary(tokenizer: Any) -> Callable[[str], bool]:
    """Whether the tokenizer has a word as one token, in small letters or with a capital."""

    def is_word(word: str) -> bool:
        spellings = (f" {word}", f" {word.capitalize()}")
        return any(
            len(tokenizer(spelling, add_special_tokens=False)["input_ids"]) == 1
            for spelling in spellings
        )

    return is_word


def _tokens(text: str) -> list[str]:
    return TOKEN.findall(text.lower())


def _grams(tokens: Sequence[str], length: int | None = None) -> Iterable[Gram]:
    for n in range(1, MOST_WORDS + 1) if length is None else (length,):
        yield from zip(*(tokens[ahead:] for ahead in range(n)), strict=False)


def _conversations(said: Sequence[Sequence[Sequence[str]]]) -> dict[Gram, set[int]]:
    """In which conversations each phrase is that enough of them share.

    From short to long: a phrase is in no more conversations than its parts.
    """
    shared: dict[Gram, set[int]] = {}
    for length in range(1, MOST_WORDS + 1):
        where: dict[Gram, set[int]] = {}
        for number, turns in enumerate(said):
            for tokens in turns:
                for gram in _grams(tokens, length):
                    if length == 1 or (gram[1:] in shared and gram[:-1] in shared):
                        where.setdefault(gram, set()).add(number)
        shared |= {gram: of for gram, of in where.items() if len(of) >= LEAST_CONVERSATIONS}
    return shared


def _surprise(gram: Gram, found: Mapping[Gram, set[int]], rows: int, ordinarily: float) -> float:
    """The Poisson deviance from what the reference and chance lead to expect (Dunning 1993).

    0 where there are no more than that. By chance its parts meet as often as they are common; a
    single word, which the base must spell, counts like a phrase whose parts are nowhere else.
    """
    seen = len(found[gram])
    by_chance = max(
        (len(found[gram[:at]]) * len(found[gram[at:]]) / rows for at in range(1, len(gram))),
        default=seen**2 / rows,
    )
    expected = max(TIMES_MORE * ordinarily * rows, by_chance)
    return 2 * (seen * math.log(seen / expected) - seen + expected) if seen > expected else 0.0


def _is_part(gram: Gram, other: Gram, found: Mapping[Gram, set[int]]) -> bool:
    both = len(found[gram] & found[other])
    same = both >= SAME * max(len(found[gram]), len(found[other]))
    return same and not set(gram).isdisjoint(other)


def _grown(gram: Gram, found: Mapping[Gram, set[int]]) -> Gram:
    """The longest phrase around it that nearly all of its conversations share."""
    around = [
        other
        for other in found
        if len(found[other]) >= SAME * len(found[gram]) and gram in _grams(other, len(gram))
    ]
    return max(around, key=lambda other: (len(other), len(found[other]), other))


def _phrase(gram: Gram, turns: Sequence[str], conversations: int, surprise: float) -> Phrase:
    pattern = re.compile(r"\s*".join(re.escape(word) for word in gram), re.IGNORECASE)
    matches = [(match, turn) for turn in turns if (match := pattern.search(turn))]
    written = Counter(match[0] for match, _ in matches)
    late = sum(match.start() + match.end() > len(turn) for match, turn in matches)
    return Phrase(
        words=max(sorted(written), key=written.__getitem__, default=" ".join(gram)),
        at_end=2 * late > len(matches),
        conversations=conversations,
        surprise=surprise,
    )
