"""Paraphrases of gate items: which are told from prompts that only share a topic."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converters.decontamination import CUT, Candidate, paraphrases
from scorers.embedding import encoder
from trainer.gates import GATES
from trainer.gates.sample import read_suite

PAIRS = [
    json.loads(line)
    for line in Path(__file__).with_name("paraphrases.jsonl").read_text().splitlines()
]
PROMPTS = {item.id: item.prompt for gate in GATES.values() for item in read_suite(gate.task.suite)}
ROOT = Path(__file__).resolve().parents[2]


def test_rewordings_of_gate_items_are_found_and_their_topics_left():
    """All that are near-verbatim with the item that they reword, none that asks something else."""
    candidates = [Candidate(pair["gate"], pair["close"]) for pair in PAIRS]
    candidates += [Candidate(f"topic of {pair['gate']}", pair["topic"]) for pair in PAIRS]
    found = paraphrases(candidates, sorted(set(PROMPTS.values())), encoder().embed)
    assert [one.id for one in found] == [pair["gate"] for pair in PAIRS]
    assert all(one.of == PROMPTS[one.id] and CUT <= one.similarity <= 1 for one in found)
    assert [one.prompt for one in found] == [pair["close"] for pair in PAIRS]


AXES = {"north": (1.0, 0.0), "east": (0.0, 1.0), "north-east": (0.6, 0.8)}


def _by_axes(texts):
    return np.array([AXES[text] for text in texts], dtype=np.float32)


def _answer(cut, *names):
    candidates = tuple(Candidate(f"c-{i}", name) for i, name in enumerate(names))
    return paraphrases(candidates, ("north", "east"), _by_axes, cut=cut)


def test_each_is_named_with_the_nearest_that_is_forbidden():
    """In the order of the candidates; at the cut is above it."""
    found = _answer(0.8, "north-east", "north", "east")
    assert [(one.id, one.of) for one in found] == [
        ("c-0", "east"),
        ("c-1", "north"),
        ("c-2", "east"),
    ]
    assert [one.similarity for one in found] == pytest.approx([0.8, 1, 1])
    assert [one.id for one in _answer(0.81, "north-east", "north")] == ["c-1"]


def test_more_than_a_chunk_of_candidates_keep_their_names(monkeypatch):
    """Each is answered for under its own id."""
    monkeypatch.setattr("converters.decontamination.CHUNK", 2)
    names = ["north-east", "north", "north-east", "north-east", "east"]
    assert [one.id for one in _answer(0.9, *names)] == ["c-1", "c-4"]


def test_nothing_to_compare_embeds_nothing():
    """The encoder is not loaded for it."""

    def embed(_):
        pytest.fail("embedded")

    assert paraphrases([], ["a gate"], embed) == ()
    assert paraphrases([Candidate("c", "a prompt")], [], embed) == ()


def test_who_asks_loads_no_torch():
    """Only the process that builds has the encoder, and only where something is looked for."""
    code = "import sys, converters.build, daemon.cycle; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert said.stdout == b"False\n"
