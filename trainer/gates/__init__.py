"""The roster of gates. A new gate is one file here and one line below."""

from __future__ import annotations

from trainer import probes
from trainer.gates import forgetting, over_refusal, principles, refusal
from trainer.gates.gate import Gate, read_suite

GATES: dict[str, Gate] = {
    "refusal": refusal.GATE,
    "over_refusal_ordinary": over_refusal.ORDINARY,
    "over_refusal_lookalikes": over_refusal.LOOKALIKES,
    "principles": principles.GATE,
    "forgetting": forgetting.GATE,
}


def all_texts() -> frozenset[str]:
    """Every prompt and reply of every suite, and the probes: none of them may enter training."""
    return probes.texts() | frozenset(
        text
        for gate in GATES.values()
        for item in read_suite(gate.suite)
        for text in (item.prompt, item.reference, item.keeps, item.breaks)
        if text
    )
