"""Retention: words that are too old are erased from datasets and store, once a day."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon.erasure import retain, retain_daily
from daemon.settings import RetentionSettings, Settings
from daemon.wiring import Parts, open_target
from store import cycles, experiences, log, schedule, sources
from store.records import Policy, now
from tests.converters.building import ALIKE
from tests.converters.building import build as build_from

BOTH = RetentionSettings(consented_days=30, unconsented_days=10)


@pytest.fixture
def kept(store, make_experience, make_assessment, monkeypatch):
    """Consented ones of 60, 20 and 0 days, and one of 20 days without consent."""
    today = now()
    for days, consented in ((60, True), (20, True), (20, False), (0, True)):
        monkeypatch.setattr(log, "now", lambda d=days: today - timedelta(days=d))
        name = f"{days}-{consented}"
        experiences.record(store, [make_experience(name, training=consented)])
        experiences.assess(store, [make_assessment(name)])
    sources.change(store, "web", "trusted", actor="test")
    return store


@pytest.fixture
def dataset(kept, tmp_path):
    """A dataset of the consented ones."""
    built = build_from(
        kept,
        tmp_path / "dataset",
        dataset_id="dataset-1",
        cycle_id="cycle-1",
        policy=Policy(min_examples=1, holdout_share=0, test_share=0.0, max_single_share=1, **ALIKE),
        panel="panel-1",
        as_of=kept.position(),
        moment=now(),
    )
    return cycles.leave(kept, built)


@pytest.fixture
def parts(kept, tmp_path):
    """What the daemon's clock hands on."""
    settings = Settings(data_dir=str(tmp_path), retention=BOTH)
    return Parts(settings=settings, store=kept, target=open_target(settings, kept))


def _left(store):
    return sorted(one.id for one in experiences.listed(store))


def _ids(dataset):
    lines = (Path(dataset.path) / "train.jsonl").read_bytes().splitlines()
    return sorted(json.loads(line)["id"] for line in lines)


def test_each_class_has_its_own_age_and_datasets_follow(kept, dataset):
    """Age outranks the dataset; the receipt says what was touched and what remains."""
    assert _ids(dataset) == ["0-True", "20-True", "60-True"]
    done = retain(kept, BOTH, moment=now(), actor="test")
    assert (done.consented, done.unconsented) == (1, 1)
    assert done.dataset_rows == {"dataset-1": 1}
    assert len(done.ids) == 2
    assert done.remains
    assert _left(kept) == ["0-True", "20-True"]
    assert _ids(dataset) == ["0-True", "20-True"]


def test_a_dry_run_counts_and_touches_nothing(kept, dataset):
    """The same counts, no erasure."""
    done = retain(kept, BOTH, moment=now(), actor="test", dry_run=True)
    assert (done.consented, done.unconsented, done.ids) == (1, 1, ())
    assert done.dataset_rows == {"dataset-1": 1}
    assert len(_left(kept)) == 4
    assert len(_ids(dataset)) == 3


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        (RetentionSettings(), 4),
        (RetentionSettings(consented_days=30), 3),
        (RetentionSettings(unconsented_days=30), 4),
        (RetentionSettings(consented_days=1, unconsented_days=1), 1),
    ],
)
def test_zero_days_keep_a_class(kept, settings, left):
    """Nothing is erased of a class without an age, and by default of none."""
    retain(kept, settings, moment=now(), actor="test")
    assert len(_left(kept)) == left


def test_the_daemon_does_it_once_a_day(parts, monkeypatch):
    """Called again it waits for the next day, which is noted in the store."""
    retain_daily(parts)
    assert _left(parts.store) == ["0-True", "20-True"]
    planned = schedule.schedule(parts.store, schedule.RETENTION)
    assert planned.next_run_at - planned.last_run_at > timedelta(hours=23)
    end = parts.store.position()
    monkeypatch.setattr("daemon.erasure.now", lambda: now() + timedelta(hours=12))
    retain_daily(parts)
    assert parts.store.position() == end
    monkeypatch.setattr("daemon.erasure.now", lambda: now() + timedelta(days=15))
    retain_daily(parts)
    assert _left(parts.store) == ["0-True"]
    assert schedule.schedule(parts.store) is None  # the cycle's own schedule is another one


def test_without_an_age_the_daemon_does_nothing(parts):
    """Nor does it note anything."""
    keeps = Parts(settings=Settings(), store=parts.store, target=parts.target)
    retain_daily(keeps)
    assert len(_left(parts.store)) == 4
    assert schedule.schedule(parts.store, schedule.RETENTION) is None


def test_what_fails_is_logged_and_tried_again(parts):
    """A closed store is no reason for the clock to stop."""
    parts.store.close()
    with capture_logs() as logs:
        retain_daily(parts)
    assert [entry["event"] for entry in logs] == ["retention_failed"]
