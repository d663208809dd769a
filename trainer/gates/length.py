"""As long as was asked: neither wordier nor curter.

Two gates. A text of about seventy words may miss that in both directions. What a word or a sentence
answers may only be said in too many, so there a candidate is held to the base: one that has learned
to talk twice as long shows it here, before any answer is cut off.
"""

from __future__ import annotations

import math

from trainer.gates.gate import Gate, Rule
from trainer.gates.sample import Sample
from trainer.gates.task import Task
from trainer.questions import Answer

LONGER = Task(suite="longer.jsonl", solver="generate", max_new_tokens=128)
SHORT = Task(suite="short.jsonl", solver="generate", max_new_tokens=64)


def distance(sample: Sample, answer: Answer) -> float:
    """How far the answer is from as many words as were asked for, in doublings or halvings."""
    return abs(math.log2(max(1, len(answer.response.split())) / int(sample.target)))


def doublings(_: Sample, answer: Answer) -> float:
    """The answer's length in doublings: one more is twice as many tokens."""
    return math.log2(max(1, answer.tokens))


LONG_GATE = Gate(
    task=LONGER,
    score=distance,
    metric="distance of longer answers from the words asked for",
    unit="doublings",
    higher_is_better=False,
    # the small recipe learns from rows of at most 128 tokens: its texts are about half as long
    rule=Rule(
        least_gain_over_base=-1.0,
        least_gain_over_incumbent=-0.5,
        least_items=12,
        most_slice_drop=2.0,
    ),
)

SHORT_GATE = Gate(
    task=SHORT,
    score=doublings,
    metric="length of answers to what asks for a word or a sentence",
    unit="doublings",
    higher_is_better=False,
    rule=Rule(
        least_gain_over_base=-0.5,
        least_gain_over_incumbent=-0.5,
        least_items=16,
        most_slice_drop=2.0,
    ),
)
