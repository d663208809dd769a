"""What a dataset holds, as one picture beside its files: selection.png."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.rows import Keys, Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "selection.png"
BINS = 30
KEPT, DROPPED, OTHER = "#3b7a57", "#b5651d", "#5b7c99"


def draw(
    folder: Path,
    rows: Rows,
    *,
    funnel: Mapping[str, int],
    categories: Mapping[str, int],
) -> None:
    """Draws the funnel of the selection, scores, lengths and categories of what was chosen.

    The same numbers give the same bytes, by the same version of matplotlib.
    """
    from matplotlib.figure import Figure  # here: only who builds needs it

    figure = Figure(figsize=(12, 10))
    # Room for the longest names; having it measured took two fifths of the drawing.
    figure.subplots_adjust(0.16, 0.06, 0.98, 0.96, wspace=0.35, hspace=0.22)
    (steps, scores), (lengths, about) = figure.subplots(2, 2)
    _steps(steps, funnel)
    _scores(scores, rows)
    chars = rows["chars"]
    lengths.hist(np.clip(chars, 1, None), bins=_widening(chars), color=OTHER)
    lengths.set(title="length of the responses", xlabel="characters", ylabel="rows", xscale="log")
    _bars(about, {name or "none": n for name, n in categories.items()}, OTHER)
    about.set(title="category", xlabel="rows")
    # Without the version of the library, which would be in the bytes.
    figure.savefig(folder / NAME, dpi=100, metadata={"Software": None})


def _steps(axes: Axes, funnel: Mapping[str, int]) -> None:
    shown = {name: n for name, n in funnel.items() if n}
    colors = [KEPT if name in ("recorded", "selected") else DROPPED for name in shown]
    axes.set(title="what each step dropped", xlabel="experiences", xscale="symlog")
    _bars(axes, {name.replace("_", " "): n for name, n in shown.items()}, colors)


def _scores(axes: Axes, rows: Rows) -> None:
    harm = rows["harm"][~np.isnan(rows["harm"])] * 10
    for values, color, name in (
        (rows["weighted"], KEPT, "weighted score of the principles"),
        (harm, DROPPED, "actual harm, times 10"),
    ):
        axes.hist(values, bins=BINS, range=(0, 10), histtype="step", color=color, label=name)
    axes.set(title="scores by the panel", xlabel="0 to 10", ylabel="rows")
    axes.legend()


def _bars(axes: Axes, counts: Mapping[str, int], color: Any) -> None:
    bars = axes.barh(list(counts), list(counts.values()), color=color)
    axes.bar_label(bars, fmt="{:,.0f}", padding=2)
    axes.margins(x=0.2)  # room for the numbers
    axes.invert_yaxis()


def _widening(chars: Keys) -> Keys:
    return np.geomspace(1, max(2, int(chars.max(initial=2))), BINS)
