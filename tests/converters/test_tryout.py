"""What a tryout says against the selection itself, on stores drawn at random."""

from __future__ import annotations

import random

import msgspec
import pytest
from sqlalchemy import column

from converters import selection
from converters.steps import STEPS, dropped
from converters.tryout import REPLAYED, try_policy
from store import cycles, experiences, policies
from store.candidates import candidates
from store.records import CURATED, PHASES, ConsentChange, Context, Dataset, Label, Policy, now
from tests.converters.selecting import recorded

STRICT = Policy(max_harm=0.2, min_weighted=7.0)
SEEDS = (0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6)))


@pytest.fixture
def drawn(make_assessed):
    """Experiences of every kind that a step looks at, drawn by a seed."""

    def draw(seed, count=60):
        rng = random.Random(seed)

        def one(i):
            weighted = rng.uniform(3, 10)
            return make_assessed(
                f"e-{i}",
                f"question {i}",
                source=rng.choice(("web", "forum", CURATED, "practice")),
                conversation_id=f"talk-{i // 2}",
                context=Context(
                    category=rng.choice((None, "truth", "edge")),
                    difficulty=rng.choice((None, "hard")),
                ),
                training=rng.random() < 0.9,
                harm=rng.random() * 0.6,
                weighted=weighted,
                label=rng.choice(list(Label)),
                abstained=("karuna",) if rng.random() < 0.1 else (),
                doubts=("unsure:harm",) if rng.random() < 0.1 else (),
                refusal=rng.random(),
                decision=rng.choice((None, None, None, "accept", "reject", "correct")),
            )

        return [one(i) for i in range(count)]

    return draw


def _policy(seed):
    rng = random.Random(seed)
    return Policy(
        max_harm=rng.uniform(0.05, 0.6),
        min_weighted=rng.uniform(4, 9),
        labels=tuple(rng.sample(list(Label), 2)),
        curated_max_harm=rng.uniform(0.1, 1),
    )


def _said_of(store, asked, policy):
    """By position, the step by columns that drops it, as the selection asks for it."""
    table = candidates(store, asked.panel, as_of=asked.as_of, moment=asked.moment)
    columns = table.c
    query = selection.query(columns.position, columns.category, dropped(columns, policy))
    with store.reading.connect() as connection:
        return {row[0]: row[2] for row in connection.execute(query)}


@pytest.mark.parametrize("seed", SEEDS)
def test_it_says_what_the_selection_does_under_both_policies(drawn, seed):
    """Kept, gained, lost, and by which step, one by one; both ways round."""
    policy, tried = _policy(seed), _policy(seed + 100)
    with recorded(drawn(seed)) as (store, asked, _):
        asked = msgspec.structs.replace(asked, policy=policy)
        found = try_policy(store, asked, tried)
        for which, of in (("now", policy), ("then", tried)):
            funnel = selection.select(store, msgspec.structs.replace(asked, policy=of)).funnel
            left = funnel["recorded"] - sum(funnel[name] for name in STEPS)
            assert getattr(found.kept, which) == left
            for kind in (found.source, found.category, found.difficulty):
                assert sum(getattr(both, which) for both in kind.values()) == left
        assert found.recorded == funnel["recorded"]
        before, after = _said_of(store, asked, policy), _said_of(store, asked, tried)
        lost = [after[at] for at in before if before[at] == "" != after[at]]
        gained = [before[at] for at in before if after[at] == "" != before[at]]
        assert found.lost.steps == {name: lost.count(name) for name in set(lost)}
        assert found.gained.steps == {name: gained.count(name) for name in set(gained)}
        assert (found.lost.count, found.gained.count) == (len(lost), len(gained))
        for example in found.lost.examples:
            assert before[example.position] == "" != after[example.position]
        for example in found.gained.examples:
            assert before[example.position] != "" == after[example.position]
        assert lost + gained  # this seed says something
        back = try_policy(store, msgspec.structs.replace(asked, policy=tried), policy)
        assert (back.gained.count, back.lost.count) == (len(lost), len(gained))


def test_examples_are_the_rows_that_move(make_assessed):
    """With what the panel says of them, the newest first, and only a few."""
    items = [make_assessed(f"e-{i}", harm=0.25, weighted=8.0 + i / 10) for i in range(9)]
    items += [make_assessed("kept", harm=0.0, weighted=9.0)]
    with recorded(items) as (store, asked, _):
        found = try_policy(store, asked, STRICT)
    assert found.lost.count == 9
    assert found.lost.steps == {"over_max_harm": 9}
    example = found.lost.examples[0]
    assert (example.id, example.actual_harm, example.weighted) == ("e-8", 0.25, 8.8)
    assert found.gained.examples == ()


def test_the_same_policy_changes_nothing(make_assessed):
    """And an empty store holds nothing to change."""
    with recorded([make_assessed()]) as (store, asked, _):
        same = try_policy(store, asked, asked.policy)
        assert (same.changed, same.gained.count, same.lost.count) == ({}, 0, 0)
        assert (same.kept.now, same.kept.then) == (1, 1)
    with recorded([]) as (store, asked, _):
        assert try_policy(store, asked, STRICT).recorded == 0


def test_nothing_is_changed(make_assessed):
    """The log is as long as it was."""
    with recorded([make_assessed(harm=0.25)]) as (store, asked, _):
        before = store.position()
        assert try_policy(store, asked, STRICT).lost.count == 1
        assert store.position() == before


def test_what_is_not_replayed_is_told():
    """Exactly the other values leave the steps by columns as they are."""
    table = selection.query(*_columns()).subquery()
    plain = dropped(table.c, Policy())
    other = {
        "max_harm": 0.1,
        "min_weighted": 9.0,
        "labels": (Label.LOW,),
        "curated_max_harm": 0.5,
        "curated_min_weighted": 5.0,
    }
    for name in Policy.__struct_fields__:
        value = other.get(name)
        policy = Policy(**{name: value}) if value is not None else _changed(name)
        assert dropped(table.c, policy).compare(plain) is (value is None), name
        assert (name in REPLAYED) is (value is not None or name == "phase"), name


def _columns():
    names = ["consented", "withheld", "tier", "decision", "objected", "unfit", "abstained"]
    names += ["actual_harm", "weighted", "label", "doubted", "source", "refusal"]
    return [column(name) for name in names]


def _changed(name):
    """The defaults with another value, whatever it means."""
    return msgspec.structs.replace(Policy(), **{name: object()})


def test_a_dataset_is_projected_by_the_share_of_the_last_one(make_assessed):
    """None before there is one; the share is of what the columns left."""
    items = [make_assessed(f"e-{i}", harm=0.25 if i % 2 else 0.1) for i in range(8)]
    with recorded(items) as (store, asked, _):
        assert try_policy(store, asked, STRICT).projection is None
        funnel = {"recorded": 50, "without_consent": 10, "duplicate": 20, "selected": 20}
        cycles.leave(store, _dataset(funnel))
        found = try_policy(store, asked, Policy(max_harm=0.2)).projection
    assert (found.kept, found.selected, found.dataset) == (40, 20, "dataset-1")
    assert (found.rows.now, found.rows.then) == (4, 2)


def _dataset(funnel):
    return Dataset(
        id="dataset-1",
        cycle_id="cycle-1",
        position=1,
        path="/none",
        content_hash="0",
        policy=Policy(),
        panel="panel-1",
        counts={},
        funnel=funnel,
        built_at=now(),
    )


def test_what_people_said_since_counts(make_assessed):
    """The newest change of consent that covers an experience, in whatever scope; objections."""
    items = [
        make_assessed("e-1", conversation_id="talk", subject="anna"),
        make_assessed("e-2", conversation_id="talk", subject="ben"),
        make_assessed("e-3", subject="anna"),
    ]
    with recorded(items) as (store, asked, _):

        def kept():
            at = msgspec.structs.replace(asked, as_of=store.position())
            return try_policy(store, at, Policy(max_harm=1.0)).kept.then

        def say(number, scope, name, training):
            change = ConsentChange(
                id=f"c-{number}", scope=scope, scope_id=name, training=training, changed_at=now()
            )
            experiences.change_consent(store, change, actor="test")

        assert kept() == 3
        say(1, "subject", "anna", False)
        assert kept() == 1
        say(2, "conversation", "talk", True)
        assert kept() == 2
        say(3, "experience", "e-2", False)
        assert kept() == 1
        assert try_policy(store, asked, Policy()).kept.now == 3  # as of before


def test_phases_are_tried_both_ways(drawn):
    """A milder policy loses nothing, a stricter one gains nothing."""
    with recorded(drawn(1)) as (store, asked, _):
        assert try_policy(store, asked, PHASES["bootstrap"]).lost.count == 0
        assert try_policy(store, asked, PHASES["excellence"]).gained.count == 0
        assert policies.newest(store) is None
