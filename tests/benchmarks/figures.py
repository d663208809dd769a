"""What a benchmark gives: a figure beside a reference that was measured in the same run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

from store.records import Noun

REPEATS = 3

T = TypeVar("T")


class Missing(Exception):
    """A tool that a benchmark needs is not on this machine; the message says how to get it."""


class Figure(Noun, frozen=True, kw_only=True):
    """Medians of interleaved runs, the bar that was asked, and whether it is held."""

    name: str
    unit: str
    ours: float
    reference_name: str
    reference: float
    asked: Literal["ratio >=", "ratio <=", "ours >=", "ours <=", ""] = ""
    """What the bar is a bar of; empty: none was asked."""
    bar: float = 0.0
    runs: tuple[float, ...] = ()
    reference_runs: tuple[float, ...] = ()
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours over the reference."""
        return self.ours / self.reference

    @property
    def held(self) -> bool | None:
        """Whether the bar is held; None when none was asked."""
        match self.asked:
            case "ratio >=":
                return self.ratio >= self.bar
            case "ratio <=":
                return self.ratio <= self.bar
            case "ours >=":
                return self.ours >= self.bar
            case "ours <=":
                return self.ours <= self.bar
        return None


def figure(
    name: str,
    unit: str,
    ours: Sequence[float],
    reference_name: str,
    reference: Sequence[float],
    *,
    asked: Literal["ratio >=", "ratio <=", "ours >=", "ours <=", ""] = "",
    bar: float = 0.0,
    note: str = "",
) -> Figure:
    """The figure of these runs."""
    return Figure(
        name=name,
        unit=unit,
        ours=statistics.median(ours),
        reference_name=reference_name,
        reference=statistics.median(reference),
        asked=asked,
        bar=bar,
        runs=tuple(ours),
        reference_runs=tuple(reference),
        note=note,
    )


def interleaved(
    ours: Callable[[], T], reference: Callable[[], T], *, repeats: int = REPEATS
) -> tuple[list[T], list[T]]:
    """Runs both in turn, so that a busy moment of the machine meets both alike."""
    pairs = [(ours(), reference()) for _ in range(repeats)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest of the values that at least this percentage of them does not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


HEADINGS = ("figure", "ours", "reference", "", "ratio", "asked", "held")


def table(figures: Sequence[Figure]) -> Iterator[str]:
    """A line for each figure, under a line of headings."""
    rows = [HEADINGS, *map(_cells, figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    for row in rows:
        name, *rest = zip(row, widths, strict=True)
        cells = [name[0].ljust(name[1])]
        cells += [
            text.ljust(width) if i == 2 else text.rjust(width)
            for i, (text, width) in enumerate(rest)
        ]
        yield "  ".join(cells).rstrip()


def _cells(f: Figure) -> tuple[str, ...]:
    asked = f"{f.asked} {f.bar:g}" if f.asked else "-"
    held = {True: "yes", False: "NO", None: ""}[f.held]
    return (
        f.name,
        f"{_number(f.ours)} {f.unit}",
        _number(f.reference),
        f.reference_name,
        f"{f.ratio:.3f}",
        asked,
        held,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
