"""Pictures of numbers as SVG text, coloured by the page's own style; no script, no style within."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup, escape
from msgspec import Struct

from store.records import Comparison, Verdict
from trainer.report import words

WIDTH = 760
LABELS, PLOT, NUMBERS = 0, 224, 580
"""Where the three columns of a forest begin."""
LONGEST_NAME = 23
"""What fits beside them; the table above has it whole."""
ROW, HEAD, FOOT = 22, 26, 34
TREND_WIDTH, TREND_HEIGHT, EDGE = 220, 92, 8


class Scale(Struct, frozen=True):
    """From numbers to places."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, number: float) -> float:
        """The place of a number; what lies outside is put at the edge."""
        share = (number - self.low) / (self.high - self.low)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)


def forests(verdicts: Sequence[Verdict]) -> list[Markup]:
    """One picture for each unit: gains with their intervals, and the bound that was asked."""
    compared = sorted((v for v in verdicts if v.comparisons), key=lambda v: v.unit != "share")
    order = {v.unit: n for n, v in reversed(list(enumerate(compared)))}
    compared.sort(key=lambda v: order[v.unit])
    return [forest(list(some)) for _, some in groupby(compared, key=lambda v: v.unit)]


def forest(verdicts: Sequence[Verdict]) -> Markup:
    """Each gate's gain against base and incumbent, with its 95 % interval; better is right."""
    rows = [(v, c, n) for v in verdicts for n, c in enumerate(v.comparisons)]
    reach = max(abs(x) for v, c, _ in rows for x in (c.lower, c.upper, c.allowed)) * 1.08
    scale = Scale(-(reach or 1.0), reach or 1.0, PLOT, NUMBERS - 14)
    height = HEAD + ROW * len(rows) + FOOT
    unit, zero, end = words.unit(verdicts[0]), scale(0.0), HEAD + ROW * len(rows)
    told = "; ".join(
        f"{words.title(v.gate)} against the {c.baseline}: {_interval(v, c)}, "
        f"bound {words.difference(v, _gain(v, c.allowed))}"
        for v, c, _ in rows
    )
    parts = [
        f'<line class="zero" x1="{zero}" x2="{zero}" y1="{HEAD - 4}" y2="{end}"/>',
        f'<text class="quiet" x="{PLOT}" y="14">← worse</text>',
        f'<text class="quiet end" x="{NUMBERS - 14}" y="14">better →</text>',
        *(_row(v, c, n, HEAD + ROW * at, scale) for at, (v, c, n) in enumerate(rows)),
        *_axis(scale, reach, end, verdicts[0]),
        f'<text class="quiet" x="{NUMBERS}" y="{end + 26}">{escape(unit)}, 95 % interval</text>',
    ]
    return _picture(WIDTH, height, f"Gains in {unit}", told, parts, "forest")


def _row(verdict: Verdict, c: Comparison, nth: int, top: float, scale: Scale) -> str:
    y = top + ROW / 2
    sign = _sign(verdict)
    low, high = sorted((scale(sign * c.lower), scale(sign * c.upper)))
    at = scale(sign * c.difference)
    bounds = [sign * c.allowed] if not verdict.sameness else [-c.allowed, c.allowed]
    marks = "".join(
        f'<line class="bound" x1="{scale(b)}" x2="{scale(b)}" y1="{y - 8}" y2="{y + 8}"/>'
        for b in bounds
    )
    mark = (
        f'<circle class="dot" cx="{at}" cy="{y}" r="4.5"/>'
        if c.baseline == "base"
        else f'<path class="dot hollow" d="M{at} {y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>'
    )
    name = f'<text x="{LABELS}" y="{y + 4}">{escape(_short(verdict.gate))}</text>'
    return (
        f'<g class="{verdict.outcome.value}">'
        + (name if nth == 0 else "")
        + f'<text class="quiet end" x="{PLOT - 10}" y="{y + 4}">{c.baseline}</text>'
        + marks
        + f'<line class="span" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
        + mark
        + f'<text class="figures" x="{NUMBERS}" y="{y + 4}">{escape(_interval(verdict, c))}</text>'
        + "</g>"
    )


def _short(gate: str) -> str:
    name = words.title(gate)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _sign(verdict: Verdict) -> int:
    return 1 if verdict.higher_is_better or verdict.sameness else -1


def _gain(verdict: Verdict, number: float) -> float:
    return _sign(verdict) * number


def _interval(verdict: Verdict, c: Comparison) -> str:
    low, high = sorted((_gain(verdict, c.lower), _gain(verdict, c.upper)))
    ends = f"{words.difference(verdict, low)}, {words.difference(verdict, high)}"
    return f"{words.difference(verdict, _gain(verdict, c.difference))} [{ends}]"


def _axis(scale: Scale, reach: float, top: float, verdict: Verdict) -> list[str]:
    step = _step(reach)
    ticks = [n * step for n in range(-int(reach / step), int(reach / step) + 1)]
    return [
        f'<line class="tick" x1="{scale(t)}" x2="{scale(t)}" y1="{top}" y2="{top + 5}"/>'
        f'<text class="quiet middle" x="{scale(t)}" y="{top + 20}">'
        f"{escape(words.difference(verdict, t) if t else '0')}</text>"
        for t in ticks
    ]


def _step(reach: float) -> float:
    """A round number, of which one to three fit on each side."""
    least = (reach or 1.0) / 3.2
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= least)


def trend(history: Sequence[tuple[Verdict, bool]]) -> Markup:
    """One gate's candidate over the evaluations: filled where it was promoted, else hollow."""
    told = [(v, is_released) for v, is_released in history if v.candidate is not None]
    newest = history[-1][0]
    values = [v.candidate for v, _ in told if v.candidate is not None]
    bases = [c.baseline_value for v, _ in told for c in v.comparisons if c.baseline == "base"]
    low, high = _ends([*values, *bases])
    across = Scale(0, max(1, len(told) - 1), EDGE, TREND_WIDTH - EDGE)
    up = Scale(low, high, TREND_HEIGHT - 22, 18)
    points = [(across(n), up(v)) for n, v in enumerate(values)]
    parts = []
    if bases:
        y = up(bases[-1])
        parts.append(
            f'<line class="base" x1="{EDGE}" x2="{TREND_WIDTH - EDGE}" y1="{y}" y2="{y}"/>'
        )
    line = " ".join(f"{x},{y}" for x, y in points)
    parts.append(f'<polyline class="line" points="{line}"/>')
    for (x, y), (v, is_released) in zip(points, told, strict=True):
        other = "" if v.suite_hash == newest.suite_hash else " other"
        kind = f"dot{'' if is_released else ' hollow'}{other}"
        parts.append(
            f'<g class="{v.outcome.value}"><circle class="{kind}" cx="{x}" cy="{y}" r="3.5"/></g>'
        )
    last = words.value(newest, values[-1]) if values else "never measured"
    parts.append(f'<text class="figures end" x="{TREND_WIDTH - EDGE}" y="11">{escape(last)}</text>')
    numbers = ", ".join(words.value(v, v.candidate) for v, _ in told)
    name = words.title(newest.gate)
    parts.append(f'<text x="{EDGE}" y="11">{escape(_short(newest.gate))}</text>')
    better = "higher" if newest.higher_is_better else "lower"
    told_better = "unchanged is better" if newest.sameness else f"{better} is better"
    parts.append(f'<text class="quiet" x="{EDGE}" y="{TREND_HEIGHT - 4}">{told_better}</text>')
    return _picture(TREND_WIDTH, TREND_HEIGHT, name, f"From the oldest: {numbers}", parts, "trend")


def _ends(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = (high - low) * 0.1 or abs(high) * 0.1 or 0.1
    return low - room, high + room


def _picture(
    width: float, height: float, title: str, told: str, parts: Sequence[str], kind: str
) -> Markup:
    return Markup(  # noqa: S704  # every text in it was escaped where it was put in
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{''.join(parts)}</svg>"
    )
