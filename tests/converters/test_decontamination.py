"""Paraphrases of gate items: which are told from prompts that only share a topic."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from converters.decontamination import CUT, Answer, Candidate, Question, answer, paraphrases
from store.errors import Unavailable
from trainer.gates import GATES
from trainer.gates.gate import read_suite

PAIRS = [
    json.loads(line)
    for line in Path(__file__).with_name("paraphrases.jsonl").read_text().splitlines()
]
PROMPTS = {item.id: item.prompt for gate in GATES.values() for item in read_suite(gate.suite)}
ROOT = Path(__file__).resolve().parents[2]


def test_rewordings_of_gate_items_are_found_and_their_topics_left():
    """All that are near-verbatim with the item that they reword, none that asks something else."""
    candidates = [Candidate(pair["gate"], pair["close"]) for pair in PAIRS]
    candidates += [Candidate(f"topic of {pair['gate']}", pair["topic"]) for pair in PAIRS]
    found = paraphrases(candidates, sorted(set(PROMPTS.values())))
    assert [one.id for one in found] == [pair["gate"] for pair in PAIRS]
    assert all(one.of == PROMPTS[one.id] and CUT <= one.similarity <= 1 for one in found)
    assert [one.prompt for one in found] == [pair["close"] for pair in PAIRS]


AXES = {"north": (1.0, 0.0), "east": (0.0, 1.0), "north-east": (0.6, 0.8)}


def _by_axes(texts):
    return np.array([AXES[text] for text in texts], dtype=np.float32)


def _answer(cut, *names):
    candidates = tuple(Candidate(f"c-{i}", name) for i, name in enumerate(names))
    question = Question(candidates=candidates, forbidden=("north", "east"), cut=cut)
    return answer(question, _by_axes).paraphrases


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


def test_nothing_to_compare_asks_nobody(monkeypatch):
    """No process is started for it."""
    monkeypatch.setattr("converters.decontamination.ask", lambda *_, **__: pytest.fail("asked"))
    assert paraphrases([], ["a gate"]) == paraphrases([Candidate("c", "a prompt")], []) == ()


def test_a_stop_ends_the_wait():
    """The service must not hang on a long list."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(Unavailable):
        paraphrases([Candidate("c", "a prompt")], ["a gate"], stop=stop)


def test_the_process_answers_in_json_and_who_asks_loads_no_torch():
    """Only the child has the encoder."""
    code = "import sys, converters.decontamination; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert said.stdout == b"False\n"
    question = Question(candidates=(Candidate("c", "What is rain?"),), forbidden=("what's rain",))
    ran = subprocess.run(
        [sys.executable, "-m", "converters.decontamination", "--json"],
        input=msgspec.json.encode(question),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert [one.id for one in msgspec.json.decode(ran.stdout, type=Answer).paraphrases] == ["c"]
