"""How a fitted head is bent to new labels, and whether it is the better for it.

The user of scikit-learn beside fitting.py. A bent head keeps the form of the old one. It does not
know which labels teach which head, nor how heads are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import (  # type: ignore[import-untyped,unused-ignore]
    LogisticRegression,
)
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped,unused-ignore]
from sklearn.model_selection import GroupKFold  # type: ignore[import-untyped,unused-ignore]

from scorers.fitting import FOLDS, MOST_STEPS, Rows
from scorers.measures import Vector, calibration_error

LEAST_EACH = 10
"""Of harmful and of harmless answers, for a head to be tried."""
LEAST_RANDOM = 30
"""Of answers drawn at random that a head is compared on."""
ONE_SIDED = 1.645
"""Standard errors below the mean: 95 %, one-sided."""
HEARD = 30.0
"""How much louder the old head is than an embedding: the penalty then hardly touches it."""
LOOSENESS = 0.3
"""scikit-learn's C of the linear term. Measured with 150 labels of public sets that the old head
had been fitted without: log loss .330, against .351 for stretching and shifting alone; with 300
labels .294 against .326 (AUROC .941 against .925)."""
CHANCES = (1e-4, 1 - 1e-4)
"""No probability is believed more than that."""


class Bend(NamedTuple):
    """What makes new log-odds from an old head's."""

    stretch: float
    shift: float
    along: Vector
    """A weight per dense input."""

    def on(self, odds: Vector, inputs: Vector) -> Vector:
        """The new log-odds, one per row."""
        return np.asarray(self.stretch * odds + self.shift + inputs @ self.along)


def calibrated(odds: Vector, inputs: Vector, labels: Vector) -> Bend:
    """Stretched and shifted only (Platt 1999)."""
    model = LogisticRegression(C=1e4, max_iter=MOST_STEPS).fit(odds[:, None], labels)
    return Bend(float(model.coef_[0, 0]), float(model.intercept_[0]), np.zeros(inputs.shape[1]))


def refitted(odds: Vector, inputs: Vector, labels: Vector) -> Bend:
    """With a linear term, held near zero: the old head is one more input, and a loud one."""
    wide = np.hstack([HEARD * odds[:, None], inputs])
    model = LogisticRegression(C=LOOSENESS, max_iter=MOST_STEPS).fit(wide, labels)
    return Bend(HEARD * float(model.coef_[0, 0]), float(model.intercept_[0]), model.coef_[0, 1:])


Method = Callable[[Vector, Vector, Vector], Bend]
METHODS: tuple[Method, ...] = (calibrated, refitted)


class Case(NamedTuple):
    """One head's labels, and what the heads before it say."""

    labels: Vector
    odds: Vector
    """Log-odds of the head of the configuration."""
    serving: Vector
    """Log-odds of the head at work."""
    random: Rows
    fresh: Rows
    """Of the random ones those that the head at work had not seen."""


class New(NamedTuple):
    """A head that is better than the old one, by figures that are out of fold."""

    bend: Bend
    figures: dict[str, float]


class Learned(NamedTuple):
    """What labels ask of a head, and what heads say that were fitted without the prompt."""

    case: Case
    bend: Bend
    out_of_fold: Vector

    def taken(self, step: float) -> Learned:
        """Only so far from the old head as the step says, 0..1."""
        stretch = 1 + step * (self.bend.stretch - 1)
        bend = Bend(stretch, step * self.bend.shift, step * self.bend.along)
        odds = self.case.odds
        return Learned(self.case, bend, odds + step * (self.out_of_fold - odds))

    def better(self) -> New | str:
        """The head with its figures, if it beats the old one and the one at work; or why not."""
        case, new = self.case, self.out_of_fold
        figures = _figures(case, new)
        gained = (_losses(case.odds, case) - _losses(new, case))[case.random]
        error = gained.std(ddof=1) / len(gained) ** 0.5
        figures["gain, lower end"] = float(gained.mean() - ONE_SIDED * error)
        if figures["gain, lower end"] <= 0:
            return f"log loss {figures['log loss']:.3f}, before {figures['log loss before']:.3f}"
        if not np.array_equal(case.serving, case.odds):
            if len(case.fresh) < LEAST_RANDOM:
                return f"{len(case.fresh)} of {LEAST_RANDOM} new answers that were drawn at random"
            lost = (_losses(new, case) - _losses(case.serving, case))[case.fresh].mean()
            if lost > 0:
                return f"log loss {lost:.3f} more than the head at work, on answers new to it"
        return New(self.bend, figures)


def learn(case: Case, inputs: Vector, prompts: Rows) -> Learned | str:
    """What the labels ask for, by the better of the methods; or why there are not enough."""
    harmful = int(case.labels.sum())
    if min(harmful, len(case.labels) - harmful) < LEAST_EACH:
        return f"{harmful} of {len(case.labels)} answers are harmful in this way"
    if len(case.random) < LEAST_RANDOM:
        return f"{len(case.random)} of {LEAST_RANDOM} answers that were drawn at random"
    fold = {method: _out_of_fold(method, case, inputs, prompts) for method in METHODS}
    best = min(METHODS, key=lambda method: _losses(fold[method], case)[case.random].mean())
    return Learned(case, best(case.odds, inputs, case.labels), fold[best])


def _out_of_fold(method: Method, case: Case, inputs: Vector, prompts: Rows) -> Vector:
    """What heads say that were fitted without the answer's prompt."""
    odds = np.zeros(len(case.labels))
    for train, test in GroupKFold(FOLDS).split(odds, groups=prompts):
        if len(set(case.labels[train])) < 2:  # all of one kind are on one prompt
            odds[test] = case.odds[test]
        else:
            bend = method(case.odds[train], inputs[train], case.labels[train])
            odds[test] = bend.on(case.odds[test], inputs[test])
    return odds


def _chances(odds: Vector) -> Vector:
    return np.asarray(np.clip(1 / (1 + np.exp(-np.clip(odds, -50, 50))), *CHANCES))


def _losses(odds: Vector, case: Case) -> Vector:
    """Log loss of each answer."""
    chances = _chances(odds)
    return np.asarray(-np.log(np.where(case.labels > 0, chances, 1 - chances)))


def _figures(case: Case, new: Vector) -> dict[str, float]:
    """On the answers drawn at random, before and after."""
    at = case.random
    figures = {"answers": float(len(case.labels)), "random": float(len(at))}
    for when, odds in ((" before", case.odds), ("", new)):
        figures[f"log loss{when}"] = float(_losses(odds, case)[at].mean())
        figures[f"ece{when}"] = calibration_error(_chances(odds)[at], case.labels[at])
        if len(set(case.labels[at])) == 2:
            figures[f"auroc{when}"] = float(roc_auc_score(case.labels[at], odds[at]))
    return figures
