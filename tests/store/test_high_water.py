"""The high-water mark: it rises, and whoever shares its file, it never falls."""

from __future__ import annotations

import pytest

from store.high_water import HighWater


@pytest.fixture
def two(tmp_path):
    """The same mark as two processes have it open."""
    both = HighWater(tmp_path / "mark"), HighWater(tmp_path / "mark")
    yield both
    for mark in both:
        mark.close()


def test_of_two_that_raise_the_mark_the_higher_counts(two):
    """Their commits are in order, but not what each notes of them afterwards."""
    first, second = two
    first.rise(5)
    second.rise(7)
    first.rise(6)
    assert first.read() == second.read() == 7
    first.rise(8)
    assert second.read() == 8


def test_a_mark_that_was_damaged_is_written_anew(two):
    """It says nothing any more that could be kept."""
    first, _ = two
    first.rise(5)
    first.path.write_text("x")
    first.rise(6)
    assert first.read() == 6
