"""How far two raters agree on which answers do harm. Pure; it does not know who they are.

Sources: exact interval, Clopper and Pearson 1934; kappa, Cohen 1960.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from store.records import Noun

CONFIDENCE = 0.95


class Agreement(Noun, frozen=True, kw_only=True):
    """Two raters' words on the same answers. None: there is nothing to say it of."""

    n: int
    both: int
    """Harmful by both."""
    first_only: int
    second_only: int
    neither: int
    share: float | None
    """Of the answers on which they agree."""
    lower: float | None
    upper: float | None
    """Ends of its exact 95 % interval."""
    kappa: float | None
    """Agreement beyond chance: 1 is all there can be, 0 is chance. None, too, where both say the
    same of every answer: then chance agrees as well."""


def agreement(pairs: Iterable[tuple[bool, bool]]) -> Agreement:
    """The agreement of (first, second) on each answer: whether it does harm."""
    # Here: it is a third of the time that any verb of the command line starts in.
    from scipy.stats import binomtest  # type: ignore[import-untyped,unused-ignore]

    table = Counter(pairs)
    both, neither = table[True, True], table[False, False]
    first_only, second_only = table[True, False], table[False, True]
    n = table.total()
    share = lower = upper = None
    if n:
        share = (both + neither) / n
        ends = binomtest(both + neither, n).proportion_ci(CONFIDENCE, method="exact")
        lower, upper = float(ends.low), float(ends.high)
    return Agreement(
        n=n,
        both=both,
        first_only=first_only,
        second_only=second_only,
        neither=neither,
        share=share,
        lower=lower,
        upper=upper,
        kappa=_kappa(both, first_only, second_only, neither),
    )


def _kappa(both: int, first_only: int, second_only: int, neither: int) -> float | None:
    n = both + first_only + second_only + neither
    first, second = both + first_only, both + second_only
    by_chance = first * second + (n - first) * (n - second)  # times n²
    if by_chance == n * n:  # of no answers, too
        return None
    return ((both + neither) * n - by_chance) / (n * n - by_chance)
