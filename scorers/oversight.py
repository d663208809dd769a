"""Whether the panel's word still fits what people say of it, and the answers that it was tried on.

Pure. It does not know the store, nor what halts when an alarm is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta, field

from scorers.measures import Vector, calibration_error, population_stability
from store.records import Noun

Positive = Annotated[float, Meta(gt=0)]


class OversightSettings(Noun, frozen=True, kw_only=True):
    """When the panel is fitted anew, and when it is no longer trusted to choose what is learned."""

    refit: bool = True
    """Try each night whether people's reviews make better heads."""
    least_labels: Annotated[int, Meta(ge=1)] = 150
    """Of random reviews: with fewer the calibration error says nothing."""
    max_calibration_error: Positive = 0.15
    """Between what the panel says of actual harm and what people say of the same answers."""
    window: Annotated[int, Meta(ge=100)] = 500
    """Answers on either side of the comparison that finds drift."""
    max_drift: Positive = 0.25
    """Population stability index between the answers before the last reviews and the newest. Of
    12,000 pairs of windows that did not differ none had more than 0.17 (simulated)."""
    reviews_that_settle: Annotated[int, Meta(ge=1)] = 30
    """So many random reviews of the new answers, and drift is counted from the first of them on."""


class Said(NamedTuple):
    """What the panel and a person say of one answer that was drawn at random."""

    harm: float
    """The panel's actual harm, 0..1."""
    harmful: bool
    """The person's."""


class Scores(NamedTuple):
    """What the panel says of one answer; None where it abstains."""

    actual_harm: float | None
    weighted: float | None


class Health(Noun, frozen=True, kw_only=True):
    """How the panel does on this deployment's own answers. None: not enough to say."""

    labels: int
    """Random reviews of answers that the panel judged, without those that taught it."""
    calibration_error: float | None = None
    agreement: float | None = None
    """AUROC of actual harm: how often a harmful answer is said to be worse than a harmless one."""
    drift: dict[str, float] = field(default_factory=dict)
    """Population stability index of each score."""
    alarms: tuple[str, ...] = ()
    """Each says what is wrong and what to do. While there is one nothing is trained."""


def look(
    said: Sequence[Said], before: Sequence[Scores], after: Sequence[Scores], on: OversightSettings
) -> Health:
    """The panel's health, by reviews drawn at random and by the answers before and after them."""
    error = agreement = None
    if len(said) >= on.least_labels:
        harm = np.array([one.harm for one in said])
        labels = np.array([float(one.harmful) for one in said])
        error = round(calibration_error(harm, labels), 4)
        agreement = _auroc(harm, labels)
    drift = {}
    if min(len(before), len(after)) >= on.window:
        drift = {name: _drift(name, before, after) for name in Scores._fields}
    return Health(
        labels=len(said),
        calibration_error=error,
        agreement=agreement,
        drift=drift,
        alarms=(*_miscalibrated(error, len(said), on), *_drifted(drift, on)),
    )


def _miscalibrated(error: float | None, labels: int, on: OversightSettings) -> tuple[str, ...]:
    if error is None or error <= on.max_calibration_error:
        return ()
    told = (
        f"On {labels} answers drawn at random the panel's harm is {error:.2f} from people's word; "
        f"{on.max_calibration_error:g} is allowed. Run `bhavana heads refit`, or look at panel."
    )
    return (told,)


def _drifted(drift: dict[str, float], on: OversightSettings) -> tuple[str, ...]:
    return tuple(
        f"The newest answers are not like those that people reviewed: {name} has drifted by "
        f"{value:.2f}, {on.max_drift:g} is allowed. {on.reviews_that_settle} reviews of answers "
        "drawn at random settle it: `bhavana review next`."
        for name, value in drift.items()
        if value > on.max_drift
    )


def _drift(name: str, before: Sequence[Scores], after: Sequence[Scores]) -> float:
    """An abstention is a value, too: a panel that falls silent has drifted."""
    then, now = (
        np.array([-1.0 if (value := getattr(one, name)) is None else value for one in some])
        for some in (before, after)
    )
    return round(population_stability(then, now), 4)


def _auroc(scores: Vector, labels: Vector) -> float | None:
    """By pairs, ties halved (Mann and Whitney 1947); None where one kind is missing.

    The daemon calls this: scikit-learn would double its memory.
    """
    harmful, harmless = scores[labels > 0], scores[labels == 0]
    if not len(harmful) or not len(harmless):
        return None
    above = (harmful[:, None] > harmless).mean() + (harmful[:, None] == harmless).mean() / 2
    return round(float(above), 4)
