"""The contract of a gate: what it asks of a model, how it scores one item, how it decides.

A gate is data and one pure function. Asking the models is `trainer.evaluate`'s work, so a
gate can be tested, and its verdict repeated, without a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from store.records import Comparison, Noun, Outcome, Verdict
from trainer.base import hash_files
from trainer.gates.stats import difference_interval, mcnemar, mean_interval

SUITES = Path(__file__).parent / "suites"


class Item(Noun, frozen=True, kw_only=True):
    """One item of a suite; paraphrases of one item share a family."""

    id: str
    family: str
    prompt: str
    category: str = ""
    principle: str = ""
    reference: str = ""
    keeps: str = ""
    breaks: str = ""


class Rule(Noun, frozen=True, kw_only=True):
    """What a gate asks of the candidate; from the configuration.

    Gains are in the gate's unit and in its good direction: -0.03 allows a loss of 0.03.
    """

    least_gain_over_base: float
    least_gain_over_incumbent: float
    rule: Literal["point", "lower_bound"] = "point"
    """point: the estimate must reach the bound. lower_bound: its 95 % interval must."""
    least_items: Annotated[int, Meta(ge=1)] = 20
    """Fewer items than this decide nothing."""


class Gate(Struct, frozen=True, kw_only=True):
    """One gate."""

    suite: str
    """File name in trainer/gates/suites."""
    asks: Literal["answers", "losses"]
    """answers: the model replies to the prompt. losses: it reads the texts below."""
    texts: Callable[[Item], Mapping[str, str]] = lambda _: {}
    """For losses: named replies to the prompt, whose loss in nats per token is measured."""
    score: Callable[[Item, Any], float]
    """One item's value from its answer (str) or its losses (dict of the names above)."""
    metric: str
    unit: str
    higher_is_better: bool
    slice_by: Callable[[Item], str] = lambda item: item.category
    rule: Rule
    """The default, for a small model on CPU; the configuration may ask for more."""


def read_suite(name: str) -> list[Item]:
    """The items of a suite, in the order of the file."""
    return msgspec.json.Decoder(Item).decode_lines((SUITES / name).read_bytes())


def suite_hash(name: str) -> str:
    """SHA-256 of the suite's file: a verdict is bound to it."""
    return hash_files([SUITES / name])


def decide(
    name: str,
    gate: Gate,
    rule: Rule,
    items: list[Item],
    values: Mapping[str, Mapping[str, float | None]],
) -> Verdict:
    """The verdict from values by role (base, candidate, perhaps incumbent) and item id.

    A missing or unparsed value is an error, never a pass and never left out of the count.
    """
    families = [item.family for item in items]

    def verdict(outcome: Outcome, reason: str, **numbers: Any) -> Verdict:
        return Verdict(
            gate=name,
            outcome=outcome,
            reason=reason,
            metric=gate.metric,
            unit=gate.unit,
            higher_is_better=gate.higher_is_better,
            n=len(items),
            families=len(set(families)),
            suite_hash=suite_hash(gate.suite),
            **numbers,
        )

    if not items:
        return verdict(Outcome.ERROR, "the suite has no items")
    for role in ("base", "candidate"):
        if role not in values:
            return verdict(Outcome.ERROR, f"{role} was not asked")
    columns: dict[str, list[float]] = {}
    for role, of_role in values.items():
        column = [of_role.get(item.id) for item in items]
        missing = sum(value is None or not math.isfinite(value) for value in column)
        if missing:
            return verdict(Outcome.ERROR, f"{missing} of {len(items)} items of {role} are missing")
        columns[role] = [float(value) for value in column if value is not None]
    candidate = columns["candidate"]
    arm = mean_interval(candidate, families)
    comparisons = tuple(
        _compare(gate, baseline, least, candidate, columns[baseline], families)
        for baseline, least in (
            ("base", rule.least_gain_over_base),
            ("incumbent", rule.least_gain_over_incumbent),
        )
        if baseline in columns
    )
    outcome, reason = _outcome(gate, rule, len(items), comparisons)
    return verdict(
        outcome,
        reason,
        candidate=_mean(candidate),
        lower=arm.lower,
        upper=arm.upper,
        comparisons=comparisons,
        slices=_slices(gate, items, columns),
    )


def _compare(
    gate: Gate,
    baseline: str,
    least_gain: float,
    candidate: list[float],
    values: list[float],
    families: list[str],
) -> Comparison:
    interval = difference_interval(candidate, values, families)
    return Comparison(
        baseline=baseline,  # type: ignore[arg-type]
        baseline_value=_mean(values),
        difference=_mean(candidate) - _mean(values),
        lower=interval.lower,
        upper=interval.upper,
        # the test assumes independent items
        p_value=mcnemar(candidate, values) if len(set(families)) == len(families) else None,
        allowed=least_gain if gate.higher_is_better else -least_gain,
    )


def _outcome(
    gate: Gate, rule: Rule, n: int, comparisons: tuple[Comparison, ...]
) -> tuple[Outcome, str]:
    if n < rule.least_items:
        return Outcome.INCONCLUSIVE, f"{n} items are fewer than {rule.least_items}"
    sign = 1 if gate.higher_is_better else -1
    doubts: list[str] = []
    for c in comparisons:
        worst = c.lower if gate.higher_is_better else c.upper
        moved = f"{c.difference:+.3f} {gate.unit} against the {c.baseline}"
        bound = f"{'at least' if sign > 0 else 'at most'} {c.allowed:+.3f}"
        if sign * (c.difference - c.allowed) < -1e-9:
            return Outcome.FAIL, f"{moved}; {bound} is asked"
        if rule.rule == "lower_bound" and sign * (worst - c.allowed) < -1e-9:
            doubts.append(f"{moved}, but the interval ends at {worst:+.3f}")
    if doubts:
        return Outcome.INCONCLUSIVE, "; ".join(doubts)
    return Outcome.PASS, "every comparison is within its bound"


def _slices(
    gate: Gate, items: list[Item], columns: Mapping[str, list[float]]
) -> dict[str, dict[str, float]]:
    slices: dict[str, dict[str, list[float]]] = {}
    for index, item in enumerate(items):
        for role, column in columns.items():
            slices.setdefault(gate.slice_by(item), {}).setdefault(role, []).append(column[index])
    return {
        name: {role: _mean(column) for role, column in roles.items()}
        | {"n": float(len(roles["candidate"]))}
        for name, roles in slices.items()
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
