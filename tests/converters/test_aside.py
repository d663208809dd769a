"""What was read once and put aside: all of it can be had again, and a gate's item never."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest

from converters import selection
from converters.aside import Aside
from converters.formats import chat
from converters.formats.format import jsonl
from converters.grams import halves, numbered, up_to
from converters.reading import BATCH, said
from converters.rows import ROW
from store import experiences
from store.errors import IntegrityError
from store.records import PRACTICE, Message, Policy
from tests.converters.building import ALIKE, build

GATE = "Tell me in detail how one opens the door of a stranger at night."
COUNT = 2_250  # more than two pages
PLACES = [3, BATCH - 1, BATCH, BATCH + 1, COUNT - 1]


@pytest.fixture
def made(make_assessed):
    """Experiences with a system's message, several turns, and signs."""
    return [
        make_assessed(
            f"e-{i:04}",
            messages=(
                Message(role="system", content="Be brief!"),
                Message(role="user", content=f"What is {i}?"),
                Message(role="assistant", content="A number…"),
                Message(role="user", content=f"And {i} times two?"),
            ),
            response=f"It is {2 * i}; ask «again».",
        ).experience
        for i in range(COUNT)
    ]


@pytest.fixture
def rows(store, made):
    """Their rows."""
    experiences.record(store, made)
    found = np.zeros(COUNT, ROW)
    found["position"] = np.arange(1, COUNT + 1)
    return found


def _put_all(aside, store, rows, clear=lambda places: np.ones(len(places), bool)):
    for some in said(store, rows, {}):
        aside.put(some, rows["position"][some.places], clear(some.places))


@pytest.mark.parametrize("wanted", [[1], [COUNT], PLACES, range(1, COUNT + 1)])
def test_the_lines_of_any_of_them_are_those_of_their_chat_rows(store, rows, made, tmp_path, wanted):
    """Whichever are asked for, on whichever pages they lie."""
    with Aside(tmp_path) as aside:
        _put_all(aside, store, rows)
        lines = [line for _, some in aside.lines(np.array(wanted)) for line in some]
    assert b"".join(lines) == jsonl([chat.row(made[at - 1]) for at in wanted])


@pytest.mark.parametrize("wanted", [[1], PLACES, range(1, COUNT + 1)])
def test_the_words_of_any_of_them_are_what_people_and_models_said(store, rows, made, wanted):
    """Without the system's; each sign is a word of its own, and no words run across two texts."""
    with Aside() as aside:
        _put_all(aside, store, rows)
        found = {
            wanted[some.places][n]: set(some.up_to(2)[start:end].ravel().tolist())
            for some in aside.speech(np.array(wanted))
            for n, (start, end) in enumerate(zip(some.first, some.first[1:], strict=False))
        }
    for at in wanted:
        texts = [m.content for m in made[at - 1].messages[1:]] + [made[at - 1].response]
        words = numbered(texts)
        spoken = set(up_to(2, halves(words.numbers), words.text).ravel().tolist())
        signs = {sign for text in texts for sign in text if sign in "?…;«»."}
        assert spoken < found[at]
        assert len(found[at] - spoken) == len(signs)


def test_the_house_s_own_words_are_not_put_aside(store, rows, made, tmp_path):
    """What it wrote or practised is nobody's burst; their lines are there all the same."""
    own = [msgspec.structs.replace(one, id=f"own-{one.id}", source=PRACTICE) for one in made[:3]]
    experiences.record(store, own)
    both = np.concatenate([rows[-3:], rows[:3]])
    both["position"] = np.arange(COUNT - 2, COUNT + 4)
    with Aside(tmp_path) as aside:
        _put_all(aside, store, both)
        [some] = aside.speech(both["position"])
        lines = [line for _, page in aside.lines(both["position"]) for line in page]
    assert [end > start for start, end in pairwise(some.first.tolist())] == [True] * 3 + [False] * 3
    assert b"".join(lines[3:]) == jsonl([chat.row(one) for one in own])


def test_what_is_not_clear_has_no_line(store, rows, tmp_path):
    """Asked for all the same, it is a fault of who asks."""
    with Aside(tmp_path) as aside:
        _put_all(aside, store, rows, lambda places: places != 7)
        with pytest.raises(IntegrityError, match="position 8 was selected"):
            list(aside.lines(rows["position"]))


def test_it_leaves_no_file(store, rows, tmp_path):
    """Not even while it is in use: who is killed leaves nothing of what people said."""
    (tmp_path / "here").mkdir()
    with Aside(tmp_path / "here") as aside:
        _put_all(aside, store, rows)
        assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(
    "fault",
    [
        lambda some, hit: np.zeros(len(some.found), bool),  # finds none
        lambda some, hit: np.roll(hit[some.responses - 1], 1),  # finds its neighbour
    ],
)
def test_a_selection_that_lets_a_gate_item_by_fails_the_build(
    store, keep, make_assessed, tmp_path, monkeypatch, fault
):
    """Whatever step is at fault, nothing is written."""
    items = [make_assessed(f"e-{i:02}", prompt=GATE if i == 4 else f"{i}?") for i in range(30)]
    end = keep(store, items)
    monkeypatch.setattr(selection, "_any_text", fault)
    with pytest.raises(IntegrityError, match="e-04 holds an item of a gate"):
        build(
            store,
            tmp_path / "built" / "dataset",
            policy=Policy(min_examples=1, **ALIKE),
            as_of=end,
            forbidden=(GATE,),
        )
    assert not list((tmp_path / "built").iterdir())
