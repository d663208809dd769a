"""Lines of releases: each has its own incumbent, its own way back, and its own descent."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from store import cycles, experiences, privacy
from store.errors import Conflict
from store.projections import Activation
from store.records import Cycle, Dataset, Evaluation, Policy, Release, TrainingRun
from store.verify import verify

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _release(name, line="main", **changes):
    return Release(
        id=f"release-{name}", cycle_id=f"cycle-{name}", run_id=f"run-{name}",
        evaluation_id=f"evaluation-{name}", target="local", location="/l", adapter_hash=name,
        base="b", base_hash="bh", published_at=MOMENT, line=line,
        **({"previous": None} | changes),
    )  # fmt: skip


def _learned(store, name, members=(), parent=None):
    """A dataset of these experiences and the run that learned from it."""
    dataset = Dataset(
        id=f"dataset-{name}", cycle_id=f"cycle-{name}", position=store.position(), path="/d",
        content_hash="h", policy=Policy(), panel="p", counts={}, funnel={}, built_at=MOMENT,
        members=members,
    )  # fmt: skip
    run = TrainingRun(
        id=f"run-{name}", cycle_id=f"cycle-{name}", dataset_id=dataset.id, base="b",
        base_hash="bh", recipe_hash="rh", path="/r", adapter_hash=name, metrics={},
        finished_at=MOMENT, parent=parent,
    )  # fmt: skip
    cycles.leave(store, dataset)
    cycles.leave(store, run)


def _serving(store):
    found = {line: cycles.current_release(store, "local", line) for line in ("main", "math")}
    return {line: None if release is None else release.id for line, release in found.items()}


def test_a_release_and_a_way_back_move_their_own_line_only(store):
    """Two lines at one target; the log replayed tells the same."""
    first = cycles.activate(store, _release("1"))
    cycles.activate(store, _release("2", previous=first.id))
    assert _serving(store) == {"main": "release-2", "math": None}
    special = cycles.activate(store, _release("3", "math", parent="release-2"))
    assert _serving(store) == {"main": "release-2", "math": "release-3"}
    cycles.roll_back(store, _release("2", previous=first.id), reason="worse", actor="me")
    assert _serving(store) == {"main": "release-1", "math": "release-3"}
    cycles.roll_back(store, special, reason="worse", actor="me")
    assert _serving(store) == {"main": "release-1", "math": None}
    before = store.projections_digest()
    store.rebuild()
    assert store.projections_digest() == before
    assert verify(store).faults == ()


def test_what_changed_meanwhile_is_not_overtaken(store):
    """Neither does a promotion undo a way back that it did not see, nor one the other."""
    first = cycles.activate(store, _release("1"))
    second = cycles.activate(store, _release("2", previous=first.id))
    cycles.roll_back(store, second, reason="worse", actor="me")
    with pytest.raises(Conflict, match="release-1 serves on the line main"):
        cycles.activate(store, _release("3", previous=second.id))
    with pytest.raises(Conflict):
        cycles.roll_back(store, second, reason="again", actor="me")
    assert _serving(store)["main"] == "release-1"
    assert cycles.by_id(store, Release, "release-3") is None


@pytest.mark.parametrize(
    ("noun", "new"),
    [
        (_release("1"), ("line", "parent")),
        (Cycle(id="c", reason="r", started_at=MOMENT, position=0), ("line", "parent")),
        (Activation(target="local", release_id="release-1", reason="promoted"), ("line",)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_records_of_before_there_were_lines_are_of_the_main_one(noun, new):
    """The log cannot change: what it holds without a line reads as main, without a parent."""
    old = msgspec.to_builtins(noun)
    for name in new:
        del old[name]
    assert msgspec.convert(old, type(noun)) == noun
    assert noun.line == "main"


def test_cycles_are_asked_for_by_line(store):
    """The last one, and those that were judged."""
    for name, line in (("1", "main"), ("2", "math")):
        cycle = Cycle(
            id=f"cycle-{name}", reason="t", started_at=MOMENT, position=0, line=line
        )  # fmt: skip
        cycles.start(store, cycle)
        _learned(store, name)
        evaluation = Evaluation(
            id=f"evaluation-{name}", cycle_id=cycle.id, run_id=f"run-{name}", adapter_hash=name,
            base_hash="bh", incumbent=None, gates_hash="g", path="/e", verdicts=(),
            finished_at=MOMENT,
        )  # fmt: skip
        cycles.leave(store, evaluation)
        cycles.finish(store, msgspec.structs.replace(cycle, state="held_back"))
    for line, cycle in (("main", "cycle-1"), ("math", "cycle-2"), ("code", None)):
        last = cycles.last(store, line)
        assert (None if last is None else last.id) == cycle
        assert [one.run.cycle_id for one in cycles.judged(store, line)] == [cycle][: bool(cycle)]
    assert cycles.last(store).id == "cycle-2"


def test_what_learned_from_words_taught_its_descendants(store, make_experience):
    """Erasure names the parent's children and theirs, and nobody else."""
    experiences.record(store, [make_experience("mine"), make_experience("other")])
    [mine] = privacy.find(store, "experience", "mine").experiences
    descent = {"1": ((mine,), None), "2": ((), "release-1"), "3": ((), "release-2")}
    for name, (members, parent) in (descent | {"4": ((), None), "5": ((), "release-4")}).items():
        _learned(store, name, members, parent)
        cycles.activate(store, _release(name, f"line-{name}", parent=parent))
    went = privacy.where_it_went(store, [mine])
    assert went.datasets == ("dataset-1",)
    assert went.runs == ("run-1", "run-2", "run-3")
    assert went.adapters == ("1", "2", "3")
    assert went.releases == ("release-1", "release-2", "release-3")
    assert [r.id for r in cycles.lineage(store, "release-3")] == [
        "release-3", "release-2", "release-1"
    ]  # fmt: skip
