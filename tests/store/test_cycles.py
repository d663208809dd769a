"""Cycles and the one record that each of their steps leaves."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import pytest

from store import cycles, policies
from store.errors import Conflict
from store.records import (
    Cycle,
    Dataset,
    Evaluation,
    Outcome,
    Policy,
    Release,
    TrainingRun,
    Verdict,
)
from store.verify import verify

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STEPS = (Dataset, TrainingRun, Evaluation, Release)


def _verdict(outcome=Outcome.PASS):
    return Verdict(
        gate="refusal",
        outcome=outcome,
        reason="within bounds",
        metric="share refused",
        unit="share",
        higher_is_better=True,
        n=30,
        families=30,
    )


def _record(kind, cycle="c-1", name="x-1", **changes):
    values = {
        Dataset: {
            "position": 3,
            "path": "/d",
            "content_hash": "h",
            "policy": Policy(),
            "panel": "p",
            "counts": {"train": 1},
            "funnel": {"recorded": 1},
            "built_at": MOMENT,
        },
        TrainingRun: {
            "dataset_id": "d-1",
            "base": "b",
            "base_hash": "bh",
            "recipe_hash": "rh",
            "path": "/r",
            "adapter_hash": "ah",
            "metrics": {"loss": 1.5},
            "finished_at": MOMENT,
        },
        Evaluation: {
            "run_id": "r-1",
            "adapter_hash": "ah",
            "base_hash": "bh",
            "incumbent": None,
            "gates_hash": "gh",
            "path": "/e",
            "verdicts": (_verdict(),),
            "finished_at": MOMENT,
        },
        Release: {
            "run_id": "r-1",
            "evaluation_id": "e-1",
            "target": "local",
            "location": "/l",
            "adapter_hash": "ah",
            "base": "b",
            "base_hash": "bh",
            "previous": None,
            "published_at": MOMENT,
        },
    }[kind]
    return kind(id=name, cycle_id=cycle, **(values | changes))


def _cycle(name="c-1", **changes):
    return Cycle(id=name, reason="test", started_at=MOMENT, position=0, **changes)


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_leaves_exactly_one_record_per_cycle(store, kind):
    """Leaving the same record again changes nothing; it is found by cycle and by id."""
    record = _record(kind)
    assert cycles.of_cycle(store, kind, "c-1") is None
    cycles.leave(store, record)
    cycles.leave(store, record)
    assert store.position() == 1
    assert cycles.of_cycle(store, kind, "c-1") == record
    assert cycles.by_id(store, kind, "x-1") == record
    assert cycles.of_cycle(store, kind, "c-2") is None


@pytest.mark.parametrize("kind", STEPS)
def test_the_first_record_of_a_step_stands(store, kind):
    """Another record for the same cycle and step is refused, and the first one stays."""
    cycles.leave(store, _record(kind))
    with pytest.raises(Conflict):
        cycles.leave(store, _record(kind, name="x-2"))
    assert cycles.of_cycle(store, kind, "c-1").id == "x-1"
    assert cycles.by_id(store, kind, "x-2") is None


def test_a_running_cycle_is_found_until_it_is_finished(store):
    """What began and has not ended is the one to resume; afterwards it is the last."""
    assert cycles.running(store) is None
    assert cycles.last(store) is None
    cycles.start(store, _cycle())
    assert cycles.running(store) == _cycle()
    ended = _cycle(state="held_back", detail="a gate failed", finished_at=MOMENT)
    cycles.finish(store, ended)
    assert cycles.running(store) is None
    assert cycles.last(store) == ended


def test_a_published_release_is_what_its_target_serves(store):
    """Publishing and activating happen at once; other targets serve the untouched base."""
    release = _record(Release)
    assert cycles.current_release(store, "local") is None
    cycles.activate(store, release)
    cycles.activate(store, release)
    assert cycles.current_release(store, "local") == release
    assert cycles.current_release(store, "elsewhere") is None
    assert [e.type for e in store.follow()] == ["release.published", "release.activated"]


def test_a_later_release_replaces_the_earlier_one_which_stays_known(store):
    """The target serves the newest release, and the previous one can still be looked up."""
    first = cycles.activate(store, _record(Release, name="r-1"))
    second = cycles.activate(store, _record(Release, "c-2", "r-2", previous="r-1"))
    assert cycles.current_release(store, "local") == second
    assert cycles.by_id(store, Release, "r-1") == first
    before = store.projections_digest()
    store.rebuild()
    assert store.projections_digest() == before


def test_a_cycle_activates_one_release_and_says_so_when_asked_for_another(store):
    """A second, different release of one cycle is never answered as if it were in service."""
    first = cycles.activate(store, _record(Release, name="r-1"))
    answered = None
    with suppress(Conflict):
        answered = cycles.activate(store, _record(Release, name="r-2"))
    assert cycles.current_release(store, "local") == first
    assert answered in (None, first)


def test_judged_are_cycles_that_ended_with_a_verdict_newest_first(store):
    """One that failed after a pass, or still runs, is not among them: it deserves another try."""
    states = {"c-1": "held_back", "c-2": "promoted", "c-3": "failed", "c-4": None}
    for name, state in states.items():
        cycle = Cycle(id=name, reason="test", started_at=MOMENT, position=0)
        cycles.start(store, cycle)
        for kind in (Dataset, TrainingRun, Evaluation):
            cycles.leave(store, _record(kind, name, f"{kind.__name__}-{name}"))
        if state is not None:
            cycles.finish(store, msgspec.structs.replace(cycle, state=state, finished_at=MOMENT))
    assert [judged.run.cycle_id for judged in cycles.judged(store)] == ["c-2", "c-1"]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_pass_passes(outcome):
    """An evaluation passes only when there is a verdict and every verdict is a pass."""
    evaluation = _record(Evaluation, verdicts=(_verdict(), _verdict(outcome)))
    assert evaluation.passed is (outcome is Outcome.PASS)
    assert not msgspec.structs.replace(evaluation, verdicts=()).passed


def test_what_a_whole_cycle_leaves_is_verified(store):
    """Streams and keys are those that verifying expects of each kind of event."""
    policies.change(store, Policy(), reason="test")
    cycles.start(store, _cycle())
    for kind in (Dataset, TrainingRun, Evaluation):
        cycles.leave(store, _record(kind))
    cycles.activate(store, _record(Release))
    cycles.finish(store, _cycle(state="promoted"))
    found = verify(store)
    assert (found.events, found.faults) == (8, ())
