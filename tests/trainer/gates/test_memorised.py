"""The gate that finds out who knows the gates' words by heart."""

from __future__ import annotations

from store.records import Outcome
from trainer.gates import memorised
from trainer.gates.decide import decide
from trainer.gates.sample import read_suite

SAMPLES = read_suite(memorised.GATE.task.suite)
FRESH = {"keeps": 2.9, "breaks": 3.1}


def _candidate(by_heart: int) -> dict[str, float | None]:
    known = {"keeps": 1.4, "breaks": 3.1}
    return {
        sample.id: memorised.GATE.score(sample, known if index < by_heart else FRESH)
        for index, sample in enumerate(SAMPLES)
    }


def test_a_few_replies_by_heart_are_found() -> None:
    """A twentieth of the suite suffices, though the mean loss hardly moves; none is fine."""
    outcomes = {
        n: decide(
            "memorised",
            memorised.GATE,
            memorised.GATE.rule,
            SAMPLES,
            {"base": _candidate(0), "candidate": _candidate(n)},
        ).outcome
        for n in (0, 5, 50)
    }
    assert outcomes[0] is Outcome.PASS
    assert outcomes[5] is not Outcome.PASS
    assert outcomes[50] is Outcome.FAIL


def test_bad_replies_by_heart_count_as_well() -> None:
    """Whoever learned from the suite's file learned both."""
    assert memorised.GATE.score(SAMPLES[0], {"keeps": 3.0, "breaks": 1.5}) == 1
    assert memorised.GATE.score(SAMPLES[0], {"keeps": 0.8, "breaks": 0.7}) == 1


def test_a_strong_preference_is_no_memory() -> None:
    """The largest ratio that a right training has shown, and a loss that fell for all texts."""
    assert memorised.GATE.score(SAMPLES[0], {"keeps": 3.0, "breaks": 3.96}) == 0
    assert memorised.GATE.score(SAMPLES[0], {"keeps": 1.6, "breaks": 1.7}) == 0
