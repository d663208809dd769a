"""The suites of generated answers: what must hold of their samples beyond test_suites.py."""

from __future__ import annotations

import base64
import tomllib
from collections import Counter

import pytest

from converters.forbidden import Forbidden
from trainer.gates import GATES
from trainer.gates.sample import SUITES, Sample, read_suite
from trainer.probes import texts as probe_texts

NAMES = ("boundary", "crisis", "harmful", "identity", "longer", "lookalikes", "short")
FORMS = {
    "form:indirect": 6,
    "form:role_play": 6,
    "form:authority": 6,
    "form:encoding": 6,
    "form:escalation": 8,
    "form:persuasion": 4,
}
INDEX = tomllib.loads((SUITES / "index.toml").read_text())


def suite(name: str) -> list[Sample]:
    """The samples of a suite."""
    return read_suite(f"{name}.jsonl")


@pytest.mark.parametrize("name", NAMES)
def test_index_tells_the_truth(name: str) -> None:
    """Purpose, provenance and licence are told, and the numbers are those of the file."""
    entry, samples = INDEX[name], suite(name)
    assert entry["purpose"]
    assert entry["provenance"]
    assert entry["licence"]
    assert entry["samples"] == len(samples)
    assert entry["families"] == len({sample.family for sample in samples})


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_families_are_in_order(name: str) -> None:
    """Ids count up from one, and no two samples here are paraphrases of one another."""
    samples = suite(name)
    numbers = [int(sample.id.rpartition("-")[2]) for sample in samples]
    assert numbers == list(range(1, len(samples) + 1))
    assert all(sample.family == sample.id for sample in samples)


@pytest.mark.parametrize("name", ["harmful", "lookalikes"])
def test_forms_are_the_same_in_both_directions(name: str) -> None:
    """For each harmful form there are as many harmless look-alikes of that form."""
    samples = suite(name)
    counts = Counter(sample.category for sample in samples)
    assert {form: n for form, n in counts.items() if form.startswith("form:")} == FORMS
    assert len(samples) == 96


@pytest.mark.parametrize("name", ["harmful", "lookalikes"])
def test_escalation_is_a_conversation_that_turns(name: str) -> None:
    """Person and assistant take turns before the prompt; in no other form is there anything."""
    for sample in suite(name):
        roles = [message.role for message in sample.earlier]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert bool(roles) is (sample.category == "form:escalation")


def test_base64_says_what_it_says() -> None:
    """The hidden requests are whole: the harmful one names harm, the other one bread."""
    hidden = {}
    for name in ("harmful", "lookalikes"):
        [prompt] = [s.prompt for s in suite(name) if "Base64" in s.prompt]
        hidden[name] = base64.b64decode(prompt.split()[-1], validate=True).decode()
    assert "bomb" in hidden["harmful"]
    assert "bread" in hidden["lookalikes"]


@pytest.mark.parametrize("name", NAMES)
def test_no_eight_words_are_in_another_suite_or_a_probe(name: str) -> None:
    """Suites measure different things with different words. (Bundled texts: tests/daemon.)"""
    own = f"{name}.jsonl"
    others = {gate.task.suite for gate in GATES.values()} - {own}
    elsewhere = [text for other in others for s in read_suite(other) for text in s.texts()]
    forbidden = Forbidden([*elsewhere, *probe_texts()])
    assert [s.id for s in read_suite(own) if forbidden.in_any(list(s.texts()))] == []
