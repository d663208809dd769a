"""The steps of the selection that need no words: each names what it drops.

What a person decided goes before what the panel says; consent goes before everything. A step is
one line in STEPS, and stands in the order in which experiences come to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from sqlalchemy import Boolean, ColumnElement, case, cast, func, literal, or_
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from store.records import PRACTICE, WRITTEN, Assessment, Policy

Columns = ReadOnlyColumnCollection[str, ColumnElement[object]]
"""Those of `store.candidates`."""
Condition = ColumnElement[bool]

SURE_REFUSAL = 0.5
"""From this probability a response counts as a refusal."""
KEPT = ""
"""What `dropped` says of an experience that no step drops."""


def _written(c: Columns) -> Condition:
    return c.source.in_(WRITTEN)


def _decided(c: Columns) -> Condition:
    """A person looked, and it, or what they made of it, may be learned from."""
    return func.coalesce(c.decision, "").in_(("accept", "correct"))


def _unknown(c: Columns) -> Condition:
    """Something that the policy asks for is not known: unknown harm is not no harm."""
    values = (c.actual_harm, c.weighted, c.label)
    return or_(cast(c.abstained, Boolean), *(value.is_(None) for value in values))


def _bar(c: Columns, curated: float, others: float) -> ColumnElement[float]:
    return case((_written(c), literal(curated)), else_=literal(others))


Step = Callable[[Columns, Policy], Condition]

OF_THE_PANEL: dict[str, Step] = {
    "unfit": lambda c, _: cast(c.unfit, Boolean),
    "abstained": lambda c, _: _unknown(c),
    "doubted": lambda c, _: cast(c.doubted, Boolean) & ~_written(c),
    "over_max_harm": lambda c, p: c.actual_harm >= _bar(c, p.curated_max_harm, p.max_harm),
    "under_min_weighted": lambda c, p: c.weighted < _bar(c, p.curated_min_weighted, p.min_weighted),
    "label_not_admitted": lambda c, p: c.label.not_in(p.labels) & ~_written(c),
}


def _unless_decided(drops: Step) -> Step:
    return lambda c, p: drops(c, p) & ~_decided(c)


STEPS: dict[str, Step] = {
    "without_consent": lambda c, _: ~cast(c.consented, Boolean),
    "withheld": lambda c, _: cast(c.withheld, Boolean),
    "quarantined": lambda c, _: c.tier == "quarantined",
    "rejected": lambda c, _: func.coalesce(c.decision, "") == "reject",
    "objected": lambda c, _: cast(c.objected, Boolean) & ~_decided(c) & ~_written(c),
    **{name: _unless_decided(drops) for name, drops in OF_THE_PANEL.items()},
    "own_refusal": lambda c, _: (
        (c.source == PRACTICE) & _refuses(c) & (func.coalesce(c.decision, "") != "correct")
    ),
}


def _refuses(c: Columns) -> Condition:
    return func.coalesce(c.refusal, 0.0) >= SURE_REFUSAL


def dropped(c: Columns, policy: Policy, steps: Mapping[str, Step] = STEPS) -> ColumnElement[str]:
    """The first of these steps that drops an experience; KEPT where none does."""
    named = [(drops(c, policy), literal(name)) for name, drops in steps.items()]
    return case(*named, else_=literal(KEPT))


Route = Literal["training", "review", "none"]


def route_of(assessment: Assessment, policy: Policy) -> Route:
    """Where an answer that somebody gave goes by its assessment alone: to training, to a person
    who looks at what the panel could not say, or nowhere.
    """
    known = (assessment.label, assessment.actual_harm, assessment.weighted)
    if assessment.doubts or assessment.abstained or None in known:
        return "review"
    admitted = (
        (assessment.actual_harm or 0.0) < policy.max_harm
        and (assessment.weighted or 0.0) >= policy.min_weighted
        and assessment.label in policy.labels
        and not assessment.unfit
    )
    return "training" if admitted else "none"
