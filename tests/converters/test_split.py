"""Hold-outs: by conversation, for good, and about as many as were asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from converters.split import SPLITS, split_of


def test_the_side_follows_from_the_conversation_alone():
    """Asking again, in any order and after others, gives the same side."""
    names = [f"conversation-{i}" for i in range(500)]
    sides = {name: split_of(name, 0.1) for name in names}
    more = {f"later-{i}": split_of(f"later-{i}", 0.1) for i in range(500)}
    assert more.keys().isdisjoint(sides)
    assert {name: split_of(name, 0.1) for name in reversed(names)} == sides
    assert set(sides.values()) == set(SPLITS)


def test_the_side_is_the_same_in_another_process():
    """No per-process seed takes part in the draw."""
    code = (
        "from converters.split import split_of; print(*[split_of(f'c-{i}', .3) for i in range(50)])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert printed == [split_of(f"c-{i}", 0.3) for i in range(50)]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
def test_about_the_share_asked_for_is_held_out(share):
    """Of many conversations, the held-out share is within two points of what was asked."""
    held_out = sum(split_of(f"c-{i}", share) == "validation" for i in range(5000))
    assert abs(held_out / 5000 - share) < 0.02


def test_a_larger_share_holds_out_the_same_and_more():
    """Raising the share moves conversations to validation, never back."""
    names = [f"c-{i}" for i in range(500)]
    small, large = ({n for n in names if split_of(n, s) == "validation"} for s in (0.1, 0.3))
    assert small < large


def test_nothing_is_held_out_at_a_share_of_zero():
    """A share of 0 keeps every conversation in training."""
    assert {split_of(f"c-{i}", 0.0) for i in range(500)} == {"train"}
