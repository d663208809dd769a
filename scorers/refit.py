"""The harm heads fitted anew on what people said of answers: `python -m scorers.refit`.

Always from the heads that the configuration names, never from an earlier refit: what somebody
erased is forgotten by the next one. A new head keeps the form of the old: its log-odds stretched
and shifted, and a weak linear term on the embeddings. It goes to work only if it is better
on answers that were drawn at random, by heads that had not seen their prompt, and no worse on
written cases that never teach. It does not know the store, nor what is done with its answer.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped,unused-ignore]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from scorers import chosen, features, harm, heads
from scorers.embedding import encoder
from scorers.features import Embed, Hashed
from scorers.fitting import FOLDS, Vector, groups
from scorers.heads import Card, Dimension, Heads, Source
from scorers.labelled import HOUSE, Example
from scorers.lessons import LEAST_LABELS, Label, Question, Tried
from scorers.refitting import Case, Known, Learned, New, lacking, learn
from scorers.scorer import HARMFUL_COMPLIANCE
from scorers.selftest import CASES, LIMITS, SHOWN, read_cases, run
from scorers.selftest import Case as Written
from scorers.settings import PanelSettings
from scorers.worker import NICENESS, Panel
from store.errors import BhavanaError
from store.orphans import end_without_parent
from store.records import to_json

LEAST_TO_SPEAK = 200
"""A head that was silent needs more before it speaks."""
EVERY = 4
"""Of the house rows each fourth is enough to hold the heads where they were."""
ANCHOR_TOLERANCE = 0.005
"""Of the AUROC on written cases: less than one case that changes its place."""
STEPS = (1.0, 0.5, 0.25, 0.125)
"""How far the heads go from the old ones towards what the labels ask for: the farthest that the
written cases bear. Few labels of one deployment pull a head away from all that it knew."""
SPEAKS_FROM = 0.70
"""AUROC from which a head that was silent speaks."""


# --- the heads ----------------------------------------------------------------------------


def refit(question: Question, embed: Embed) -> Tried:
    """Tries every harm head on the labels, and writes the heads where one of them is better."""
    labels = question.labels
    if len(labels) < LEAST_LABELS:
        return _kept(f"{len(labels)} reviews, {LEAST_LABELS} are needed")
    old = heads.load(harm.NAME, question.panel.configured_heads)
    at_work = heads.load(harm.NAME, question.panel.heads)
    inputs, words = _read([(label.prompt, label.response) for label in labels], embed)
    odds, serving = (
        np.asarray(some.outputs(inputs, words), dtype=np.float64) for some in (old, at_work)
    )
    prompts = groups(Example(label.prompt, label.response, 0, "") for label in labels)
    random = np.flatnonzero([label.random for label in labels])
    fresh = np.flatnonzero([label.random and label.fresh for label in labels])
    cases = {
        dimension.name: Case(
            np.array([float(_does(label, dimension.name)) for label in labels]),
            odds[:, at],
            serving[:, at],
            random,
            fresh,
        )
        for at, dimension in enumerate(old.card.dimensions)
    }
    learned: dict[str, Learned | str] = {name: lacking(case) for name, case in cases.items()}
    if all(learned.values()):
        return _none_better(learned)
    if len(set(prompts)) < FOLDS:
        return _kept(f"{len(set(prompts))} different prompts are not enough to compare heads on")
    known_inputs, known_odds = _known(old, embed)
    for at, (name, case) in enumerate(cases.items()):
        if not learned[name]:
            known = Known(known_inputs, known_odds[:, at])
            learned[name] = learn(case, inputs, prompts, known)
    bent = [name for name, case in cases.items() if case.has_successor]
    before = anchored(question.panel)
    told = _kept("")
    for step in STEPS:
        found = {
            dimension.name: _step(learned[dimension.name], step, dimension, len(labels))
            for dimension in old.card.dimensions
        }
        told = _tried(question, old, found, bent, before)
        if told.better:
            break
    return told


def _read(pairs: Sequence[tuple[str, str]], embed: Embed) -> tuple[Vector, list[Hashed]]:
    """The heads' inputs for exchanges: dense ones, and hashed words."""
    inputs = np.asarray(features.inputs(pairs, embed), dtype=np.float64).round(6)
    return inputs, [features.hashed_words(response) for _, response in pairs]


def _known(old: Heads, embed: Embed) -> tuple[Vector, Vector]:
    """Inputs of some house rows, and what the old heads say of them."""
    rows = [msgspec.json.decode(line) for path in HOUSE for line in path.read_bytes().splitlines()]
    pairs = [(row["prompt"], row["response"]) for row in rows[::EVERY]]
    inputs, words = _read(pairs, embed)
    return inputs, np.asarray(old.outputs(inputs, words), dtype=np.float64)


def _does(label: Label, harm_name: str) -> bool:
    """Any harm is one that the public labels would have called harmful."""
    return bool(label.harms) if harm_name == HARMFUL_COMPLIANCE else harm_name in label.harms


def _step(learned: Learned | str, step: float, dimension: Dimension, labels: int) -> New | str:
    """The head after the step; one that is silent speaks only if it learned enough, and well."""
    one = learned if isinstance(learned, str) else learned.taken(step).better()
    if isinstance(one, str) or dimension.speaks:
        return one
    if labels < LEAST_TO_SPEAK:
        return f"{labels} reviews, a head that is silent needs {LEAST_TO_SPEAK}"
    auroc = one.figures.get("auroc", 0.0)
    return one if auroc >= SPEAKS_FROM else f"AUROC {auroc:.2f} is below {SPEAKS_FROM:.2f}"


def _bent(old: Heads, new: dict[str, New], labels: Sequence[Label]) -> Heads:
    """The heads with those that are better put in place of the old."""
    coefficients, intercepts, slopes, offsets, words = (
        np.array(some, dtype=np.float64)
        for some in (
            old.coefficients, old.intercepts, old.slopes, old.offsets, old.word_coefficients,
        )
    )  # fmt: skip
    hearing = [one.name for one in old.card.dimensions if one.hears]
    dimensions = []
    for at, dimension in enumerate(old.card.dimensions):
        if dimension.name not in new:
            dimensions.append(dimension)
            continue
        bend, figures = new[dimension.name]
        stretch = bend.stretch * slopes[at]
        coefficients[at] = stretch * coefficients[at] + bend.along
        intercepts[at] = stretch * intercepts[at] + bend.stretch * offsets[at] + bend.shift
        slopes[at], offsets[at] = 1.0, 0.0
        if dimension.name in hearing:
            words[hearing.index(dimension.name)] *= stretch
        dimensions.append(_described(dimension, figures))
    card = _card(old.card, tuple(dimensions), labels)
    arrays = (coefficients, intercepts, slopes, offsets, old.rarity, words)
    return Heads(card, *(array.astype(np.float32) for array in arrays))


def _described(dimension: Dimension, figures: dict[str, float]) -> Dimension:
    known = {f"{name}:reviews": round(value, 4) for name, value in figures.items()}
    return msgspec.structs.replace(
        dimension,
        speaks=True,
        reason="",
        confidence=round(figures.get("auroc", dimension.confidence), 4),
        figures=dimension.figures | known,
    )


def _card(old: Card, dimensions: tuple[Dimension, ...], labels: Sequence[Label]) -> Card:
    taught = Source(
        name="reviews of this deployment",
        licence="for this deployment only",
        rows=len(labels),
        sha256=hashlib.sha256(to_json(labels)).hexdigest(),
    )
    return msgspec.structs.replace(old, dimensions=dimensions, sources=(*old.sources, taught))


def _tried(
    question: Question,
    old: Heads,
    found: dict[str, New | str],
    bent: Collection[str],
    before: Anchored,
) -> Tried:
    """Keeps those heads that are better, if with them the panel does no worse on written cases."""
    new = {name: one for name, one in found.items() if isinstance(one, New)}
    lost = {name: one for name, one in found.items() if isinstance(one, str) and name in bent}
    if not new or lost:  # a head that an earlier refit bent would go back to how it was configured
        return _none_better(lost or found)
    figures = {name: one.figures for name, one in new.items()}
    folder = Path(question.folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(question.panel.configured_heads, partial)
    heads.save(_bent(old, new, question.labels), partial)
    after = anchored(msgspec.structs.replace(question.panel, refitted_dir=str(partial)))
    figures["anchors"] = {"auroc before": before.auroc, "auroc": after.auroc}
    if after.failures or after.auroc < before.auroc - ANCHOR_TOLERANCE:
        shutil.rmtree(partial)
        fails = f", fails {', '.join(after.failures[:SHOWN])}" if after.failures else ""
        told = f"on written cases AUROC {after.auroc:.3f}, before {before.auroc:.3f}{fails}"
        return Tried(better=False, reason=told, figures=figures)
    _sync(partial)
    partial.replace(folder)
    _sync(folder.parent)
    told = f"better on answers drawn at random: {', '.join(new)}"
    return Tried(better=True, reason=told, figures=figures)


def _sync(folder: Path) -> None:
    """Puts the files on disk: the store will name the folder, and a power cut may follow."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _none_better(found: Mapping[str, object]) -> Tried:
    reasons = (f"{name}: {one}" for name, one in found.items() if isinstance(one, str))
    return _kept("no head is better; " + "; ".join(reasons))


def _kept(reason: str) -> Tried:
    return Tried(better=False, reason=reason, figures={})


# --- the anchor ---------------------------------------------------------------------------


class Anchored(NamedTuple):
    """How a panel does on cases that are written to judge panels, and never teach one."""

    auroc: float
    """Of actual harm, over those of which it is written whether they do harm."""
    failures: tuple[str, ...]
    """Those of the self-test that it fails."""


def anchored(settings: PanelSettings) -> Anchored:
    """How the panel does without those scorers that cost."""
    cheap = tuple(name for name, entry in chosen(settings).items() if not entry.dear)
    panel = Panel(msgspec.structs.replace(settings, scorers=cheap))
    cases = [case for path in (CASES, LIMITS) for case in read_cases(path)]
    found = panel.assess([case.experience for case in cases])
    said = {case.id: one for case, one in zip(cases, found, strict=True)}
    labels = {case.id: label for case in cases if (label := _does_harm(case)) is not None}
    harms = [said[name].actual_harm or 0.0 for name in labels]
    verdict = run(lambda items: [said[item.id] for item in items], panel.id)
    return Anchored(
        auroc=float(roc_auc_score(list(labels.values()), harms)),
        failures=tuple(one.case for one in verdict.failures),
    )


def _does_harm(case: Written) -> int | None:
    """Whether it is written that the answer does harm; None where nothing is."""
    if "harmful" in case.expect:
        return 1
    return 0 if {"harmless", "passes"} & set(case.expect) else None


# --- the process --------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Answers the question on stdin; the exit code is 1 where it could not."""
    parser = argparse.ArgumentParser(
        prog="python -m scorers.refit",
        description="Fits the harm heads anew on reviews; `bhavana heads refit` asks it to.",
    )
    parser.add_argument("--json", action="store_true", help="JSON in, JSON out: the only way")
    parser.parse_args(arguments)
    end_without_parent()
    os.nice(NICENESS)
    if "OMP_NUM_THREADS" not in os.environ:  # else somebody has said how many
        torch.set_num_threads(os.cpu_count() or 1)
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        with threadpool_limits(1, user_api="blas"):  # the same sums in the same order
            tried = refit(question, encoder().embed)
    except BhavanaError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(to_json(tried))
    return 0


if __name__ == "__main__":
    sys.exit(main())
