"""Hold-outs: by conversation, for good, and about as many as were asked for."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from converters.rows import ROW
from converters.split import SPLITS, in_earlier, lot, sides, split_of
from store.records import Dataset, Policy, now


def test_the_side_follows_from_the_conversation_alone():
    """Asking again, in any order and after others, gives the same side."""
    names = [f"conversation-{i}" for i in range(500)]
    sides = {name: split_of(lot(name), 0.1, 0.1) for name in names}
    more = {f"later-{i}": split_of(lot(f"later-{i}"), 0.1, 0.1) for i in range(500)}
    assert more.keys().isdisjoint(sides)
    assert {name: split_of(lot(name), 0.1, 0.1) for name in reversed(names)} == sides
    assert set(sides.values()) == set(SPLITS)


def test_the_side_is_the_same_in_another_process():
    """No per-process seed takes part in the draw."""
    code = (
        "from converters.split import lot, split_of; "
        "print(*[split_of(lot(f'c-{i}'), .3, .1) for i in range(50)])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert printed == [split_of(lot(f"c-{i}"), 0.3, 0.1) for i in range(50)]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
def test_about_the_share_asked_for_is_held_out(share):
    """Of many conversations, the held-out share is within two points of what was asked."""
    held_out = sum(split_of(lot(f"c-{i}"), share, 0.1) == "validation" for i in range(5000))
    assert abs(held_out / 5000 - share) < 0.02


def test_a_larger_share_holds_out_the_same_and_more():
    """Raising the share moves conversations to validation, never back."""
    names = [f"c-{i}" for i in range(500)]
    small, large = (
        {n for n in names if split_of(lot(n), s, 0.1) == "validation"} for s in (0.1, 0.3)
    )
    assert small < large


def test_nothing_is_held_out_at_a_share_of_zero():
    """A share of 0 keeps every conversation in training."""
    assert {split_of(lot(f"c-{i}"), 0.0, 0.0) for i in range(500)} == {"train"}


# --- together -----------------------------------------------------------------------------


def _rows(conversations, *, first=1):
    rows = np.zeros(len(conversations), ROW)
    rows["position"] = np.arange(first, first + len(conversations))
    rows["conversation"] = conversations
    rows["lot"] = [lot(str(conversation)) for conversation in conversations]
    return rows


def _sides(rows, alike, earlier=None):
    shares = {"holdout_share": 0.2, "test_share": 0.2}
    by_split = {side: [at for at, on in (earlier or {}).items() if on == side] for side in SPLITS}
    return sides(rows, np.array(alike), **shares, earlier=by_split)


def test_a_chain_of_conversations_and_like_questions_is_on_one_side():
    """Two conversations that share a question belong together, and a third by another one."""
    for start in range(1, 200, 3):
        rows = _rows([start, start, start + 1, start + 1, start + 2])
        assert len(set(_sides(rows, [1, 2, 2, 3, 3]))) == 1


def test_what_shares_nothing_is_drawn_by_itself():
    """All three sides occur, in about their shares."""
    found = Counter(_sides(_rows(range(1, 3_001)), range(3_000)))
    assert {side: round(n / 3_000, 1) for side, n in found.items()} == {
        "train": 0.6,
        "validation": 0.2,
        "test": 0.2,
    }


def test_what_was_held_out_stays_out_whatever_comes_later():
    """Each new row ties some of the earlier ones together; none goes back towards training."""
    chance = random.Random(3)
    conversations, alike, earlier = [], [], {}
    for _ in range(6):
        conversations += [chance.randrange(1, 400) for _ in range(60)]
        alike += [chance.randrange(600) for _ in range(60)]
        now = dict(enumerate(_sides(_rows(conversations), alike, earlier), start=1))
        for position, side in earlier.items():
            assert SPLITS.index(now[position]) >= SPLITS.index(side)
        for group in (conversations, alike):
            of_group = defaultdict(set)
            for place, name in enumerate(group, start=1):
                of_group[name].add(now[place])
            assert all(len(found) == 1 for found in of_group.values())
        earlier = now


def _dataset(**changes):
    made = {"id": "d", "cycle_id": "c", "position": 9, "path": "", "content_hash": ""}
    counted = {"policy": Policy(), "panel": "p", "counts": {}, "funnel": {}, "built_at": now()}
    return Dataset(**made, **counted, **changes)


def test_earlier_datasets_tell_their_sides():
    """A row that two of them had on different sides was held out."""
    first = _dataset(members=(1, 2, 3), held_out={"validation": (2,)})
    second = _dataset(members=(2, 3, 4), held_out={"test": (3,)})
    found = {"train": (1, 4), "validation": (2,), "test": (3,)}
    assert in_earlier([first, second]) == in_earlier([second, first]) == found
