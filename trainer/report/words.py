"""Models' words and numbers, made safe to look at. What a model answered is hostile input."""

from __future__ import annotations

import unicodedata

from store.records import Verdict

MOST_CHARACTERS = 1_500
MOST_LINES = 40
_PLAIN = "\n\t\u200c\u200d"
"""The last two join letters in Persian and parts of emoji: they stay."""
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_PICTURES = 0x2400
"""Where Unicode has a picture of each control character."""


def visible(text: str) -> str:
    """The text with every character that cannot be seen, or turns others round, shown by name."""
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character in _PLAIN or unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    return chr(_PICTURES + code) if code < ord(" ") else f"⟨U+{code:04X}⟩"


def excerpt(text: str) -> tuple[str, str]:
    """(the beginning, visible; what was left out, in words or "")."""
    shown = "\n".join(text[:MOST_CHARACTERS].split("\n")[:MOST_LINES])
    left = len(text) - len(shown)
    return visible(shown), f"{left:,} characters more" if left else ""


def value(verdict: Verdict, number: float | None) -> str:
    """A value in the gate's unit."""
    if number is None:
        return "–"
    return f"{number:.1%}".replace("%", " %") if verdict.unit == "share" else f"{number:.3f}"


def difference(verdict: Verdict, number: float) -> str:
    """A difference of two values, in points where they are shares; without the unit."""
    text = f"{number * 100:+.1f}" if verdict.unit == "share" else f"{number:+.3f}"
    text = text if float(text) else text[1:]  # no sign where nothing is left of it
    return text.replace("-", "−")  # as wide as a plus


def unit(verdict: Verdict) -> str:
    """What differences are told in."""
    return "points" if verdict.unit == "share" else verdict.unit


def size(verdict: Verdict, number: float) -> str:
    """How large a difference is, with its unit."""
    text = f"{abs(number) * 100:.1f}" if verdict.unit == "share" else f"{abs(number):.3f}"
    return f"{text} {unit(verdict)}"


def title(name: str) -> str:
    """A name of the house in words."""
    return visible(name).replace("_", " ")


def sentence(text: str) -> str:
    """The text as a sentence."""
    shown = visible(text)
    return f"{shown[:1].upper()}{shown[1:].removesuffix('.')}."


def power(verdict: Verdict) -> str:
    """What an evaluation of this size can see; "" where nothing was compared."""
    seen = [
        f"{size(verdict, c.detectable)} against the {c.baseline}"
        for c in verdict.comparisons
        if c.detectable is not None
    ]
    change = "change" if verdict.sameness else "drop" if verdict.higher_is_better else "rise"
    if not seen:
        return ""
    return (
        f"With {verdict.n} items a {change} of {' and of '.join(seen)} can be seen, in four of "
        "five evaluations."
    )


def floor(verdict: Verdict) -> str:
    """Which value was asked for, and whether the base has it; "" where none was."""
    if verdict.floor is None:
        return ""
    word = "at least" if verdict.higher_is_better else "at most"
    told = f"{word.capitalize()} {value(verdict, verdict.floor)} is asked"
    return told + (", which the untouched base misses." if verdict.base_below_floor else ".")


def settling(verdict: Verdict) -> str:
    """What would settle an inconclusive verdict."""
    if verdict.settles_with is None:
        return f"{verdict.n} items do not settle it, and more of the same would not either."
    if verdict.settles_with <= verdict.n:
        return "The bound lies outside the interval already: more items would hardly change it."
    return f"{verdict.n} items do not settle it; about {verdict.settles_with:,} would."
