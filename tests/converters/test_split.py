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


def _rows(conversations, questions):
    rows = np.zeros(len(conversations), ROW)
    rows["position"] = np.arange(1, len(conversations) + 1)
    rows["conversation"] = conversations
    rows["asked"] = questions
    rows["lot"] = [lot(str(conversation)) for conversation in conversations]
    return rows


def _sides(conversations, questions, earlier=None):
    by_split = {side: [at for at, on in (earlier or {}).items() if on == side] for side in SPLITS}
    shares = {"holdout_share": 0.2, "test_share": 0.2}
    return sides(_rows(conversations, questions), **shares, earlier=by_split).tolist()


def test_each_conversation_is_drawn_by_itself():
    """All three sides occur, in about their shares, and all turns of one are on one side."""
    found = _sides([i // 2 for i in range(6_000)], range(1, 6_001))
    assert found[::2] == found[1::2]
    assert {side: round(n / 6_000, 1) for side, n in Counter(found).items()} == {
        "train": 0.6,
        "validation": 0.2,
        "test": 0.2,
    }


@pytest.mark.parametrize("seed", range(5))
def test_no_question_is_on_two_sides_and_none_leaves_training_for_it(seed):
    """What is held out and asks what is trained on is left out; the rest is as it was drawn."""
    chance = random.Random(seed)
    conversations = [chance.randrange(300) for _ in range(900)]
    questions = [max(0, chance.randrange(-50, 400)) for _ in range(900)]  # 0: nothing was asked
    found = _sides(conversations, questions)
    drawn = _sides(conversations, range(1, 901))
    assert all(a in (b, "") for a, b in zip(found, drawn, strict=True))
    assert [a for a, b in zip(found, drawn, strict=True) if b == "train"] == [
        "train"
    ] * drawn.count("train")
    on = defaultdict(set)
    for question, side in zip(questions, found, strict=True):
        if question and side:
            on[question].add(side)
    assert all(len(some) == 1 for some in on.values())
    assert "" in found
    assert len({side for q, side in zip(questions, found, strict=True) if not q}) > 1


def test_who_asks_the_same_moves_nobody_elses_rows():
    """A stranger's conversations that draw the test split, with everybody's questions."""
    ours = list(range(200))
    before = _sides(ours, range(1, 201))
    held_out = [n for n in range(1_000, 9_000) if split_of(lot(str(n)), 0.2, 0.2) == "test"][:100]
    after = _sides([*ours, *held_out], [*range(1, 201), *range(1, 101)])[:200]
    assert [a for a, b in zip(after, before, strict=True) if b == "train"] == [
        "train"
    ] * before.count("train")
    assert all(a in (b, "") for a, b in zip(after, before, strict=True))


def test_what_was_held_out_stays_out_whatever_comes_later():
    """More turns of the same conversations, and other shares: none goes back to training."""
    chance = random.Random(3)
    conversations, earlier = [], {}
    for share in (0.4, 0.1, 0.3, 0.0):
        conversations += [chance.randrange(1, 300) for _ in range(100)]
        rows = _rows(conversations, range(1, len(conversations) + 1))
        by_split = {side: [p for p, on in earlier.items() if on == side] for side in SPLITS}
        found = sides(rows, holdout_share=share, test_share=share / 2, earlier=by_split)
        now = dict(enumerate(found, start=1))
        for position, side in earlier.items():
            assert SPLITS.index(now[position]) >= SPLITS.index(side)
        earlier = now
    assert {"validation", "test"} <= set(earlier.values())


def test_a_dataset_that_does_not_tell_its_sides_pins_nobody():
    """The first versions recorded no sides: those rows' lots say it, as they did then."""
    old = _dataset(members=(1, 2), counts={"train": 1, "validation": 1})
    assert in_earlier([old]) == {"train": (), "validation": (), "test": ()}


def _dataset(**changes):
    made = {"id": "d", "cycle_id": "c", "position": 9, "path": "", "content_hash": ""}
    counted = {"policy": Policy(), "panel": "p", "counts": {}, "funnel": {}, "built_at": now()}
    return Dataset(**made | counted | changes)


def test_earlier_datasets_tell_their_sides():
    """A row that two of them had on different sides was held out."""
    first = _dataset(members=(1, 2, 3), held_out={"validation": (2,)})
    second = _dataset(members=(2, 3, 4), held_out={"test": (3,)})
    found = {"train": (1, 4), "validation": (2,), "test": (3,)}
    assert in_earlier([first, second]) == in_earlier([second, first]) == found
