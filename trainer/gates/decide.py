"""From values to a verdict. Pure: the same values give the same verdict on any day.

pass           every bound is reached, by the estimate or by its interval, as the rule says
fail           a bound is missed even by the interval's good end, or a slice broke down
inconclusive   anything between: held back as well, with the items that would settle it
error          something is missing, is no number, or cannot be told
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from store.records import Comparison, Outcome, Reading, Verdict
from trainer.gates import stats
from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample, suite_hash

ROUNDING = 1e-9
Baseline = Literal["base", "incumbent"]
Values = Mapping[str, Mapping[str, float | None]]
"""By role (base, candidate, perhaps incumbent) and sample id."""


class Items(Struct, frozen=True):
    """What is counted: samples, or families of which each has one value."""

    families: list[str]
    slices: list[str]
    columns: dict[str, list[float]]
    """Values by role."""

    def gains(self, gate: Gate, baseline: str) -> list[float]:
        """Candidate against baseline, in the gate's good direction."""
        sign = 1 if gate.higher_is_better else -1
        pairs = zip(self.columns["candidate"], self.columns[baseline], strict=True)
        return [sign * (candidate - value) for candidate, value in pairs]


class Doubt(Struct, frozen=True):
    """A bound that was not reached, and for whom it is confidently missed."""

    reason: str
    is_certain: bool
    settles_with: int | None = None


def decide(
    name: str,
    gate: Gate,
    rule: Rule,
    samples: Sequence[Sample],
    values: Values,
    readings: tuple[Reading, ...] = (),
) -> Verdict:
    """The gate's verdict.

    A missing or unparsed value is an error, never a pass and never left out of the count.
    """
    families = len({sample.family for sample in samples})
    n = families if gate.by_family else len(samples)

    def verdict(outcome: Outcome, reason: str, **numbers: Any) -> Verdict:
        return Verdict(
            gate=name,
            outcome=outcome,
            reason=reason,
            metric=gate.metric,
            unit=gate.unit,
            higher_is_better=gate.higher_is_better,
            sameness=gate.sameness,
            n=n,
            families=families,
            suite_hash=suite_hash(gate.task.suite),
            floor=rule.floor,
            readings=readings,
            **numbers,
        )

    if fault := _fault(samples, values):
        return verdict(Outcome.ERROR, fault)
    items = _items(gate, samples, values)
    columns = items.columns
    if gate.must_differ and columns["candidate"] == columns["base"]:
        return verdict(Outcome.ERROR, "every value equals the base's: no adapter was applied")
    arm = stats.mean_interval(columns["candidate"], items.families)
    comparisons = tuple(
        _compare(gate, rule, items, baseline)
        for baseline in ("base", "incumbent")
        if baseline in columns
    )
    below = rule.floor is not None and not _reaches(gate, _mean(columns["base"]), rule.floor)
    doubts = [
        *_about_size(rule, n),
        *_about_floor(gate, rule, arm, _mean(columns["candidate"]), n, base_is_below=below),
        *(doubt for c in comparisons for doubt in _about(gate, rule, c, n)),
        *_about_slices(gate, rule, items, comparisons),
        *_about_readings(rule, readings),
    ]
    outcome, reason = _outcome(doubts)
    if outcome is Outcome.PASS and below:
        reason = f"every comparison is within its bound; the base is below the floor {rule.floor:g}"
    return verdict(
        outcome,
        reason,
        candidate=_mean(columns["candidate"]),
        lower=arm.lower,
        upper=arm.upper,
        comparisons=comparisons,
        slices=_slices(items),
        base_below_floor=below,
        settles_with=max((d.settles_with for d in doubts if d.settles_with), default=None)
        if outcome is Outcome.INCONCLUSIVE
        else None,
    )


def error(name: str, gate: Gate, reason: str, n: int) -> Verdict:
    """The verdict of a gate that could not be asked or that broke."""
    return Verdict(
        gate=name,
        outcome=Outcome.ERROR,
        reason=reason,
        metric=gate.metric,
        unit=gate.unit,
        higher_is_better=gate.higher_is_better,
        sameness=gate.sameness,
        n=n,
        families=0,
    )


# --- the values ---------------------------------------------------------------------------


def _fault(samples: Sequence[Sample], values: Values) -> str | None:
    if not samples:
        return "the suite has no items"
    for role in ("base", "candidate"):
        if role not in values:
            return f"{role} was not asked"
    for role, of_role in values.items():
        column = [of_role.get(sample.id) for sample in samples]
        missing = sum(value is None or not math.isfinite(value) for value in column)
        if missing:
            return f"{missing} of {len(samples)} items of {role} are missing"
    return None


def _items(gate: Gate, samples: Sequence[Sample], values: Values) -> Items:
    columns = {role: [float(of[s.id] or 0.0) for s in samples] for role, of in values.items()}
    families = [sample.family for sample in samples]
    slices = [gate.slice_by(sample) for sample in samples]
    if gate.by_family is None:
        return Items(families, slices, columns)
    members: dict[str, list[int]] = {}
    for index, family in enumerate(families):
        members.setdefault(family, []).append(index)
    return Items(
        list(members),
        [slices[indices[0]] for indices in members.values()],
        {
            role: [gate.by_family([column[i] for i in of]) for of in members.values()]
            for role, column in columns.items()
        },
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _compare(gate: Gate, rule: Rule, items: Items, baseline: Baseline) -> Comparison:
    candidate, values = items.columns["candidate"], items.columns[baseline]
    interval = stats.difference_interval(candidate, values, items.families)
    alone = len(set(items.families)) == len(items.families)
    least = rule.least_gain_over_base if baseline == "base" else rule.least_gain_over_incumbent
    return Comparison(
        baseline=baseline,
        baseline_value=_mean(values),
        difference=_mean(candidate) - _mean(values),
        lower=interval.lower,
        upper=interval.upper,
        # the test assumes independent items
        p_value=stats.mcnemar(candidate, values) if alone else None,
        allowed=abs(least) if gate.sameness else least if gate.higher_is_better else -least,
        detectable=stats.detectable(interval),
    )


def _slices(items: Items) -> dict[str, dict[str, float]]:
    return {
        name: {role: _mean([column[i] for i in of]) for role, column in items.columns.items()}
        | {"n": float(len(of))}
        for name, of in _members(items).items()
    }


def _members(items: Items) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for index, name in enumerate(items.slices):
        members.setdefault(name, []).append(index)
    return members


# --- the doubts ---------------------------------------------------------------------------


def _outcome(doubts: Sequence[Doubt]) -> tuple[Outcome, str]:
    for certain, outcome in ((True, Outcome.FAIL), (False, Outcome.INCONCLUSIVE)):
        if reasons := [doubt.reason for doubt in doubts if doubt.is_certain is certain]:
            return outcome, "; ".join(reasons)
    return Outcome.PASS, "every comparison is within its bound"


def _about_size(rule: Rule, n: int) -> Iterable[Doubt]:
    if n < rule.least_items:
        yield Doubt(f"{n} items are fewer than {rule.least_items}", False, rule.least_items)


def _reaches(gate: Gate, value: float, floor: float) -> bool:
    sign = 1 if gate.higher_is_better else -1
    return sign * (value - floor) >= -ROUNDING


def _about_floor(
    gate: Gate, rule: Rule, arm: stats.Interval, value: float, n: int, *, base_is_below: bool
) -> Iterable[Doubt]:
    if rule.floor is None or (base_is_below and rule.base_below_floor == "compare"):
        return
    bad, good = (arm.lower, arm.upper) if gate.higher_is_better else (arm.upper, arm.lower)
    if _reaches(gate, bad if rule.rule == "lower_bound" else value, rule.floor):
        return
    word = "floor" if gate.higher_is_better else "ceiling"
    reason = f"{value:.3f} {gate.unit} misses the {word} {rule.floor:g}"
    if base_is_below:
        yield Doubt(f"{reason}, which the base misses, too", False)
    else:
        settles = stats.settles_with(n, arm, rule.floor)
        yield Doubt(reason, not _reaches(gate, good, rule.floor), settles)


def _about(gate: Gate, rule: Rule, c: Comparison, n: int) -> Iterable[Doubt]:
    """Whether the difference is within its bound; a gain that is asked for is never a certainty
    to fail by, unless the candidate is confidently worse.
    """
    moved = f"{c.difference:+.3f} {gate.unit} against the {c.baseline}"
    interval = stats.Interval(c.lower, c.upper)
    if gate.sameness:
        ends = (c.difference, c.difference) if rule.rule == "point" else (c.lower, c.upper)
        if max(abs(end) for end in ends) <= c.allowed + ROUNDING:
            return
        certain = c.lower > c.allowed or c.upper < -c.allowed
        bound = math.copysign(c.allowed, c.difference)
        yield Doubt(
            f"{moved}; at most {c.allowed:.3f} either way is allowed",
            certain,
            stats.settles_with(n, interval, bound),
        )
        return
    sign = 1 if gate.higher_is_better else -1
    worst, best = sorted((sign * c.lower, sign * c.upper))
    least = sign * c.allowed
    reached = worst if rule.rule == "lower_bound" else sign * c.difference
    if reached >= least - ROUNDING:
        return
    asked = f"{'at least' if sign > 0 else 'at most'} {c.allowed:+.3f} is asked"
    if sign * c.difference >= least - ROUNDING:
        asked += f", and the interval ends at {sign * worst:+.3f}"
    yield Doubt(
        f"{moved}; {asked}",
        best < min(least, 0.0) - ROUNDING,
        # A gain that is missed beyond doubt no number of items would bring.
        None if best < least - ROUNDING else stats.settles_with(n, interval, c.allowed),
    )


def _about_slices(
    gate: Gate, rule: Rule, items: Items, comparisons: Sequence[Comparison]
) -> Iterable[Doubt]:
    """One slice that broke down, or that is worse than allowed beyond chance (Holm)."""
    members = {
        name: of for name, of in _members(items).items() if len(of) >= rule.least_slice_items
    }
    for c in comparisons:
        sign = 1 if gate.higher_is_better else -1
        allowed = abs(c.allowed) if gate.sameness else max(0.0, -sign * c.allowed)
        gains = items.gains(gate, c.baseline)
        p_values = []
        for name, of in members.items():
            gained = [gains[i] for i in of]
            if gate.sameness and _mean(gained) > 0:
                gained = [-gain for gain in gained]
            lost = -_mean(gained)
            if lost > rule.most_slice_drop + ROUNDING:
                yield Doubt(
                    f"{name} lost {lost:.3f} {gate.unit} against the {c.baseline} (n = {len(of)})",
                    is_certain=True,
                )
            p = stats.probability_of_no_loss(gained, [items.families[i] for i in of], allowed)
            p_values.append(min(1.0, 2 * p) if gate.sameness else p)
        for name, worse in zip(members, stats.holm(p_values), strict=True):
            if worse:
                yield Doubt(
                    f"{name} is worse than is allowed against the {c.baseline}, beyond chance "
                    f"(n = {len(members[name])})",
                    is_certain=True,
                )


def _about_readings(rule: Rule, readings: Sequence[Reading]) -> Iterable[Doubt]:
    for reading in readings:
        if reading.n < rule.least_items:
            yield Doubt(
                f"{reading.instrument} could judge {reading.n} answers, fewer than "
                f"{rule.least_items}",
                is_certain=False,
            )
        if reading.worse:
            yield Doubt(
                f"{reading.instrument} finds it worse than is allowed against the {reading.worse}",
                is_certain=False,
            )
