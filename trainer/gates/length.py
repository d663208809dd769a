"""Stays as long as it was: neither wordier nor curter than the untouched base.

An answer that is cut off has no length, so what is asked here is short enough to come to its end:
a word or a sentence, and a text of about seventy words.
"""

from __future__ import annotations

import math

import msgspec

from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task
from trainer.questions import Answer

LONGER = Task(suite="longer.jsonl", solver="generate", max_new_tokens=128)
SHORT = Task(suite="short.jsonl", solver="generate", max_new_tokens=64)


def score(_: Sample, answer: Answer) -> float:
    """The answer's length in doublings: one more is twice as many tokens."""
    return math.log2(max(1, answer.tokens))


LONG_GATE = Gate(
    task=LONGER,
    score=score,
    metric="length of answers to what asks for some seventy words",
    unit="doublings",
    higher_is_better=True,
    sameness=True,
    rule=Rule(least_gain_over_base=-0.5, least_gain_over_incumbent=-0.5, least_items=12),
)

SHORT_GATE = msgspec.structs.replace(
    LONG_GATE,
    task=SHORT,
    metric="length of answers to what asks for a word or a sentence",
)
