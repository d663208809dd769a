"""What people prefer, as a cycle's dataset: immutable, split, within reach of erasure."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from converters import dataset as datasets
from converters.build import Order, build_apart
from converters.build_preferences import build_preferences
from converters.export import export
from converters.preferred import choose
from converters.selection import Asked
from converters.split import in_earlier
from store import experiences, reviews
from store.errors import IntegrityError, NotEnoughData, Rejected
from store.records import ConsentChange, Feedback, Message, Policy, Review, now
from tests.converters.building import ALIKE

POLICY = Policy(min_examples=10, holdout_share=0.3, test_share=0.2, max_single_share=1.0, **ALIKE)
GATE = "How does a refrigerator keep food cold?"
REWORDED = "How does a refrigerator keep things cold?"


@pytest.fixture
def position(store, keep, make_assessed):
    """The end of a log of twenty corrected answers, and two of which another person speaks."""
    asked = (REWORDED, *(f"Question number {i}?" for i in range(1, 22)))
    keep(store, [make_assessed(f"e-{i:02}", asked[i], response=f"So {i}.") for i in range(22)])
    for i in range(20):
        review = Review(
            id=f"r-{i}",
            experience_id=f"e-{i:02}",
            decision="correct",
            text=f"Better {i}.",
            reason="seen",
            reviewer="ann",
            reviewed_at=now(),
        )
        reviews.record(store, review, actor="test")
    consent = ConsentChange(
        id="bea", scope="subject", scope_id="bea", training=True, changed_at=now()
    )
    experiences.change_consent(store, consent, actor="test")
    given = [
        Feedback(
            id=f"f-{i}",
            kind="preference",
            given_at=now(),
            experience_id=f"e-{i}",
            text=f"Worse {i}.",
            value=1,
            subject="bea",
        )
        for i in (20, 21)
    ]
    experiences.give_feedback(store, given, actor="test")
    return store.position()


@pytest.fixture
def asked(position):
    """What is selected from."""
    return Asked(policy=POLICY, panel="panel-1", as_of=position, moment=now())


@pytest.fixture
def build(store, asked, tmp_path):
    """Builds in a folder of the given name."""

    def build(name="dataset-1", *, format="dpo", **changes):
        wanted = msgspec.structs.replace(asked, **changes)
        return build_preferences(
            store, tmp_path / name, wanted, format=format, dataset_id=name, cycle_id="cycle-1"
        )

    return build


def _rows(dataset, split):
    lines = (Path(dataset.path) / f"{split}.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def test_the_record_says_what_it_holds(build, store):
    """Format, splits, hash and members: each row's own are of its split, and nobody else's."""
    made = build()
    assert made.format == "dpo"
    assert sum(made.counts.values()) == made.funnel["selected"] == 22
    assert set(made.counts) == {"train", "validation", "test"}
    datasets.verify(made)
    told = {
        split: {at for row in _rows(made, split) for at in row["members"]} for split in made.counts
    }
    assert set(made.members) == set().union(*told.values())
    assert {split: set(some) for split, some in made.held_out.items()} == {
        split: told[split] for split in ("validation", "test")
    }
    assert len(made.members) == 44  # each experience, and who spoke of it
    row = _rows(made, "train")[0]
    assert {"prompt", "chosen", "rejected"} <= set(row)
    assert build("dataset-2", format="kto").format == "kto"


def test_a_child_builds_the_same_again(build, store_url, asked, tmp_path):
    """By the order of a cycle, byte for byte; over another one it does not write."""
    here = build()
    order = Order(
        store=store_url,
        high_water=None,
        folder=here.path,
        asked=asked,
        dataset_id="dataset-1",
        cycle_id="cycle-1",
        format="dpo",
    )
    apart = build_apart(order)
    assert msgspec.structs.replace(apart, built_at=here.built_at) == here
    with pytest.raises(IntegrityError, match="holds another dataset"):
        build(format="kto")
    datasets.verify(here)


def test_what_was_held_out_stays_held_out(build):
    """By an earlier dataset of another kind, too."""
    first = build()
    assert set(first.counts) == {"train", "validation", "test"}
    moved = _rows(first, "train")[0]
    earlier = in_earlier([first])
    earlier["test"] += (moved["members"][0],)
    again = build("dataset-2", format="kto", earlier=earlier)
    assert moved["id"] in {row["id"] for row in _rows(again, "test")}
    assert moved["id"] not in {row["id"] for row in _rows(again, "train")}


def test_what_paraphrases_a_gate_is_not_learned_from(store, asked):
    """By the real encoder; counted under its own name."""
    policy = msgspec.structs.replace(POLICY, paraphrase=0.85)
    chosen = choose(store, msgspec.structs.replace(asked, policy=policy, forbidden=(GATE,)), "dpo")
    assert chosen.funnel["paraphrase"] == 1
    assert "e-00" not in {pair.experience.id for pair in chosen.all}
    assert len(chosen.all) == chosen.funnel["selected"] == 21


def test_who_asks_the_same_on_both_sides_is_counted(store, keep, make_assessed, build):
    """A question that is trained on is no test: the held-out one is dropped, and said to be."""
    same = [Message(role="user", content="Is it the same?")]
    keep(
        store,
        [
            make_assessed(f"s-{i}", messages=same, response=f"Yes {i}.", conversation_id=f"s-{i}")
            for i in range(12)
        ],
    )
    given = [
        Feedback(
            id=f"g-{i}", kind="preference", given_at=now(), experience_id=f"s-{i}",
            text=f"No {i}.", value=1, subject=None,
        )
        for i in range(12)
    ]  # fmt: skip
    experiences.give_feedback(store, given, actor="test")
    made = build(as_of=store.position())
    assert made.funnel["between_splits"] > 0
    assert made.funnel["selected"] == sum(made.counts.values())


def test_an_erased_correction_takes_its_row(build):
    """By the position of what was said, where the experience is another person's; only that."""
    made = build()
    row = next(r for split in made.counts for r in _rows(made, split) if r["id"] == "e-21")
    assert datasets.forget(made, (), row["members"][1:], dry_run=True) == 1
    assert datasets.forget(made, (), row["members"][1:]) == 1
    left = {r["id"] for split in made.counts for r in _rows(made, split)}
    assert left == {f"e-{i:02}" for i in range(21)}
    with pytest.raises(IntegrityError):
        datasets.verify(made)
    assert datasets.forget(made, {"e-20"}) == 1


def test_too_little_is_too_little(build):
    """Fewer than the policy asks for, or all held out."""
    with pytest.raises(NotEnoughData, match="22 rows, 30 are asked for: 22 said"):
        build(policy=msgspec.structs.replace(POLICY, min_examples=30))
    with pytest.raises(NotEnoughData, match="All 22 rows are held out"):
        build(policy=msgspec.structs.replace(POLICY, holdout_share=0.5, test_share=0.5))


def test_it_is_not_exported_as_conversations(build, store, tmp_path):
    """The verb that writes what people prefer is named."""
    with pytest.raises(Rejected, match="holds what people prefer, as dpo") as refused:
        export(store, build(), tmp_path / "out", format="alpaca")
    assert "bhavana datasets preferences --format dpo" in (refused.value.hint or "")
