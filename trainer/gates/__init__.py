"""The roster of gates. A new gate is one file here and one line below."""

from __future__ import annotations

from trainer import probes
from trainer.gates import forgetting, over_refusal, principles, refusal
from trainer.gates.gate import Gate
from trainer.gates.sample import read_suite
from trainer.gates.task import Task

GATES: dict[str, Gate] = {
    "refusal": refusal.GATE,
    "over_refusal_ordinary": over_refusal.ORDINARY,
    "over_refusal_lookalikes": over_refusal.LOOKALIKES,
    "principles": principles.GATE,
    "forgetting": forgetting.GATE,
}


def tasks() -> list[Task]:
    """What a model is asked for all gates together, each once, in the order of the roster."""
    return list({gate.task.name: gate.task for gate in GATES.values()}.values())


def all_texts() -> frozenset[str]:
    """Every text of every suite, and the probes: none of them may enter training."""
    suites = {task.suite for task in tasks()}
    samples = (sample for suite in sorted(suites) for sample in read_suite(suite))
    return probes.texts().union(*(sample.texts() for sample in samples))
