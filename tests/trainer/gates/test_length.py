"""How long answers are, and whether they end."""

from __future__ import annotations

import pytest

from trainer.gates import endings, length
from trainer.gates.sample import Sample, read_suite
from trainer.questions import Answer

SAMPLE = Sample(id="s", family="s", prompt="?")


def answer(tokens: int, *, finished: bool = True, text: str = "Nairobi.") -> Answer:
    """An answer of so many tokens."""
    return Answer(id="s", response=text, tokens=tokens, finished=finished)


def test_twice_as_long_is_one_more() -> None:
    """Lengths are doublings, so that a word more counts for a short answer, not for a long one."""
    for tokens in (4, 12, 60):
        once, twice = (length.doublings(SAMPLE, answer(n)) for n in (tokens, 2 * tokens))
        assert twice - once == pytest.approx(1.0)


def test_too_long_and_too_short_are_as_far_from_what_was_asked() -> None:
    """Half of the seventy words misses them by as much as twice as many; seventy do not."""
    seventy = Sample(id="s", family="s", prompt="?", target="70")
    words = {n: length.distance(seventy, answer(1, text="word " * n)) for n in (35, 70, 140)}
    assert words == pytest.approx({35: 1.0, 70: 0.0, 140: 1.0})


def test_silence_has_a_length() -> None:
    """An answer of no words is as short as can be, not an error."""
    assert length.doublings(SAMPLE, answer(0, text="")) == 0.0
    for sample in read_suite("longer.jsonl"):
        assert length.distance(sample, answer(0, text="")) > 6


def test_more_than_a_doubling_is_not_allowed() -> None:
    """Neither gate lets a candidate go further than twice as far as the base."""
    for gate in (length.SHORT_GATE, length.LONG_GATE):
        assert not gate.higher_is_better
        assert -1 <= gate.rule.least_gain_over_base < 0


def test_an_end_is_one_that_the_model_made() -> None:
    """Cut off is not ended, and saying nothing is no answer that ends."""
    assert endings.score(SAMPLE, answer(8)) == 1.0
    assert endings.score(SAMPLE, answer(64, finished=False)) == 0.0
    assert endings.score(SAMPLE, answer(1, text=" ")) == 0.0


def test_short_suite_asks_for_a_word_or_a_sentence() -> None:
    """Sixteen questions in four kinds, each of which can be answered within a line."""
    kinds = [sample.category for sample in read_suite("short.jsonl")]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(
        ("fact", "word", "choice", "sentence"), 4
    )
