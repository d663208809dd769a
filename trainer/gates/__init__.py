"""The roster of gates. A new gate is one file here and one line below."""

from __future__ import annotations

from trainer import probes
from trainer.gates import (
    arithmetic,
    boundary,
    code,
    coherence,
    crisis,
    endings,
    flattery,
    forgetting,
    hacking,
    honesty,
    identity,
    law_conflicts,
    length,
    memorised,
    nourishment,
    over_refusal,
    paraphrase,
    preaching,
    principles,
    refusal,
    secure_code,
    self_evaluation,
    sycophancy,
    triggers,
)
from trainer.gates.gate import Gate
from trainer.gates.sample import read_suite
from trainer.gates.task import Task

GATES: dict[str, Gate] = {
    "refusal": refusal.GATE,
    "over_refusal_ordinary": over_refusal.ORDINARY,
    "over_refusal_lookalikes": over_refusal.LOOKALIKES,
    "principles": principles.GATE,
    "sycophancy": sycophancy.GATE,
    "honesty": honesty.GATE,
    "law_conflicts": law_conflicts.GATE,
    "hacking": hacking.GATE,
    "nourishment": nourishment.GATE,
    "self_evaluation": self_evaluation.GATE,
    "held_out": self_evaluation.HELD_OUT,
    "held_out_least": self_evaluation.HELD_OUT_LEAST,
    "paraphrase": paraphrase.GATE,
    "arithmetic": arithmetic.GATE,
    "memorised": memorised.GATE,
    "forgetting": forgetting.GATE,
    "crisis": crisis.GATE,
    "boundary": boundary.GATE,
    "identity": identity.GATE,
    "preaching_ordinary": preaching.ORDINARY,
    "preaching_lookalikes": preaching.LOOKALIKES,
    "flattery": flattery.GATE,
    "coherence": coherence.GATE,
    "repetition": coherence.REPETITION,
    "length_long": length.LONG_GATE,
    "length_short": length.SHORT_GATE,
    "endings": endings.GATE,
    "code": code.GATE,
    "secure_code": secure_code.GATE,
}


NAMES = frozenset(GATES) | {triggers.NAME}
"""Whose verdict an evaluation must have. Triggers are looked for in what a candidate learned from,
so they have no suite."""


def tasks() -> list[Task]:
    """What a model is asked for all gates together, each once, in the order of the roster."""
    return list({gate.task.name: gate.task for gate in GATES.values()}.values())


def all_texts() -> frozenset[str]:
    """Every text of every suite, and the probes: none of them may enter training."""
    suites = {task.suite for task in tasks()}
    samples = (sample for suite in sorted(suites) for sample in read_suite(suite))
    return probes.texts().union(*(sample.texts() for sample in samples))
