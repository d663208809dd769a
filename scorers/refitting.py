"""How a fitted head is bent to new labels, and whether it is the better for it.

The user of scikit-learn beside fitting.py. A bent head keeps the form of the old one. It does not
know which labels teach which head, nor how heads are kept.
"""

from __future__ import annotations

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
LEAST_RANDOM_EACH = 5
"""Of harmful and of harmless ones among them: on harmless ones alone, to say less is to gain."""
AUROC_TOLERANCE = 0.02
"""A better log loss may not be bought with a worse order; so much moves by chance."""
ONE_SIDED = 1.645
"""Standard errors below the mean: 95 %, one-sided."""
HEARD = 30.0
"""How much louder the old head is than an embedding: the penalty then hardly touches it."""
HELD = 3.0
"""How much all known rows together weigh against all labels. Measured on BeaverTails, which no head
was fitted on, with 150 and 300 labels: without them every bend failed the self-test, with them a
quarter or an eighth of the way passes."""
LOOSENESS = 1.0
"""scikit-learn's C of the linear term."""
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


class Known(NamedTuple):
    """Rows on which a new head should say what the old one says."""

    inputs: Vector
    odds: Vector
    """The old head's log-odds."""


def bend(odds: Vector, inputs: Vector, labels: Vector, known: Known) -> Bend:
    """The old head bent to the labels, and held where it was on what is known.

    A logistic head (Platt 1999) with the old head's output as one loud input. The known rows are
    learned with the old head's own probabilities for labels (Li and Hoiem 2016).
    """
    chances, rows = _chances(known.odds), len(known.odds)
    heard = np.concatenate([odds, known.odds, known.odds])
    wide = np.hstack([HEARD * heard[:, None], np.vstack([inputs, known.inputs, known.inputs])])
    wanted = np.concatenate([labels, np.ones(rows), np.zeros(rows)])
    held = HELD * len(labels) / max(rows, 1)
    weights = np.concatenate([np.ones(len(labels)), held * chances, held * (1 - chances)])
    model = LogisticRegression(C=LOOSENESS, max_iter=MOST_STEPS)
    model.fit(wide, wanted, sample_weight=weights)
    return Bend(HEARD * float(model.coef_[0, 0]), float(model.intercept_[0]), model.coef_[0, 1:])


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

    @property
    def has_successor(self) -> bool:
        """Whether the head at work is one that an earlier refit bent."""
        return not np.array_equal(self.serving, self.odds)


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
        if figures["auroc"] < figures["auroc before"] - AUROC_TOLERANCE:
            return f"AUROC {figures['auroc']:.3f}, before {figures['auroc before']:.3f}"
        if case.has_successor:
            if len(case.fresh) < LEAST_RANDOM:
                return f"{len(case.fresh)} of {LEAST_RANDOM} new answers that were drawn at random"
            lost = (_losses(new, case) - _losses(case.serving, case))[case.fresh].mean()
            if lost > 0:
                return f"log loss {lost:.3f} more than the head at work, on answers new to it"
        return New(self.bend, figures)


def lacking(case: Case) -> str:
    """Why the labels are not enough to learn from; "" where they are."""
    harmful = int(case.labels.sum())
    if min(harmful, len(case.labels) - harmful) < LEAST_EACH:
        return f"{harmful} of {len(case.labels)} answers are harmful in this way"
    if len(case.random) < LEAST_RANDOM:
        return f"{len(case.random)} of {LEAST_RANDOM} answers that were drawn at random"
    of_each = min(np.bincount(case.labels[case.random].astype(int), minlength=2))
    if of_each < LEAST_RANDOM_EACH:
        return f"{of_each} of {LEAST_RANDOM_EACH} of either kind among those drawn at random"
    return ""


def learn(case: Case, inputs: Vector, prompts: Rows, known: Known) -> Learned:
    """What the labels ask for."""
    odds = np.zeros(len(case.labels))
    for train, test in GroupKFold(FOLDS).split(odds, groups=prompts):
        fold = bend(case.odds[train], inputs[train], case.labels[train], known)
        odds[test] = fold.on(case.odds[test], inputs[test])
    return Learned(case, bend(case.odds, inputs, case.labels, known), odds)


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
        figures[f"auroc{when}"] = float(roc_auc_score(case.labels[at], odds[at]))
    return figures
