"""Killed at every point of a promotion, a rollback or a trial: one release serves then.

By the target's own word and by the store's, and nothing is half left; whether the command is given
again at once or the daemon starts first and puts the target back.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from daemon.serving import recorded_traffic
from store import canaries, cycles
from tests.contracts.promoting import parts_of
from tests.contracts.targets import SITES, PutBack, Site
from tests.daemon.judging import judged
from trainer.targets.target import Traffic

ROOT = Path(__file__).resolve().parents[2]
HERE = "local"
ON_TRIAL = 24.0
"""Hours."""


class Nursery:
    """Forks a process that promotes or rolls back, and tells how it ended."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.contracts.promoting"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "BHAVANA_LOG_FORMAT": "json"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, **order: Any) -> dict[str, Any]:
        """How it ended: its points, its error, or the signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """One for all."""
    opened = Nursery()
    yield opened
    opened.close()


BOTH = {"1": "one", "2": "two"}
"""The adapters of the two releases."""


class State(NamedTuple):
    """What serves."""

    release: str | None
    traffic: Traffic
    trial: str | None
    """How the trial of the second release stands."""


class World:
    """A data folder with candidates that passed, and a target that serves the base."""

    def __init__(self, folder: Path, site: Site, nursery: Nursery) -> None:
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)
        self.in_both_ways = site.order.target == HERE
        """Over HTTP there are several times as many points."""
        self._site = site
        self._nursery = nursery
        self._copies = (folder / f"data-{number}" for number in count())

    def run(self, verb: str, *, name: str = "2", hours: float = 0, end_at: int = 0) -> bool:
        """Whether it came to its end; else it was killed where it should be."""
        told = self._nursery.run(
            verb=verb,
            name=name,
            adapter=BOTH[name],
            hours=hours,
            end_at=end_at,
            data=str(self.data),
            order=msgspec.to_builtins(self._site.order),
        )
        assert "error" not in told, told
        assert told["code"] in ((0,) if not end_at else (0, -signal.SIGKILL)), told
        assert told["code"] or not end_at or len(told["points"]) < end_at
        return told["code"] == 0

    def evaluate(self, name: str, incumbent: str | None) -> None:
        """A candidate passes."""
        parts = parts_of(self.data, self._site.order)
        folder = Path(self._site.order.adapters[BOTH[name]])
        judged(parts, {}, name=name, incumbent=incumbent, ended="failed", adapter=folder)
        parts.store.close()

    def words(self) -> tuple[Traffic, State]:
        """What serves, by the target's word and by the store's."""
        parts = parts_of(self.data, self._site.order)
        try:
            release = cycles.current_release(parts.store, parts.target.name)
            trial = canaries.of_release(parts.store, "release-2")
            recorded = State(
                release=None if release is None else release.id,
                traffic=recorded_traffic(parts.store, parts.target),
                trial=None if trial is None else trial.state,
            )
            return parts.target.active(), recorded
        finally:
            parts.store.close()

    def settled(self) -> State:
        """What serves by both words; nothing is half left beside the two releases."""
        by_target, by_store = self.words()
        assert by_target == by_store.traffic
        assert self._site.left_over([f"release-{name}" for name in BOTH]) == []
        return by_store

    def kept(self) -> PutBack:
        """Remembers all of it; what it returns puts it back."""
        copy, of_site = next(self._copies), self._site.kept()
        shutil.copytree(self.data, copy, symlinks=True)

        def put_back() -> None:
            shutil.rmtree(self.data)
            shutil.copytree(copy, self.data, symlinks=True)
            of_site()

        return put_back


@pytest.fixture(params=sorted(SITES))
def world(request: pytest.FixtureRequest, tmp_path: Path, nursery: Nursery) -> Iterator[World]:
    """The first release serves, and the second passed."""
    with SITES[request.param](tmp_path) as site:
        world = World(tmp_path, site, nursery)
        world.evaluate("1", None)
        world.run("promote", name="1")
        world.evaluate("2", "release-1")
        yield world


def killed_anywhere(world: World, verb: str, *, hours: float = 0) -> tuple[State, int]:
    """Kills the verb at each point and resumes; what serves in the end, and how many points.

    Each time all is as it was before. Resumed is it by a person, who gives the command again, and
    by the daemon that starts: after each kill by both, from what it left, or by one in turn.
    """
    before, was = world.kept(), world.settled()
    world.run(verb, hours=hours)
    will = world.settled()
    assert was.traffic != will.traffic or was.trial != will.trial
    for end_at in count(1):
        before()
        if world.run(verb, hours=hours, end_at=end_at):
            return will, end_at - 1
        killed = world.kept()
        found, recorded = world.words()
        assert found in (was.traffic, will.traffic)
        assert recorded in (was, will)
        if recorded == was and (world.in_both_ways or end_at % 2):
            world.run(verb, hours=hours)
            assert world.settled() == will
            if not world.in_both_ways:
                continue
            killed()
        world.run("start", hours=hours)
        assert world.settled() == recorded
        if recorded == was:
            world.run(verb, hours=hours)
            assert world.settled() == will
    raise AssertionError("it counts for ever")


def test_a_promotion_killed_anywhere_ends_in_one_release(world: World) -> None:
    """The one before until the new one is recorded, and then that one."""
    will, points = killed_anywhere(world, "promote")
    assert will == State("release-2", Traffic(release="release-2"), None)
    assert points >= 20  # five steps with a line before and after each, before and after it


def test_a_rollback_killed_anywhere_ends_in_one_release(world: World) -> None:
    """It goes back one release, however often it was killed before it was recorded."""
    world.run("promote")
    will, points = killed_anywhere(world, "rollback")
    assert will == State("release-1", Traffic(release="release-1"), None)
    assert points >= 4


@pytest.mark.parametrize(
    "world",
    [name if name == HERE else pytest.param(name, marks=pytest.mark.slow) for name in SITES],
    indirect=True,
)
def test_a_promotion_on_trial_killed_anywhere_ends_in_one_trial(world: World) -> None:
    """It is in service with its share, or alone where the target shares no traffic."""
    will, points = killed_anywhere(world, "promote", hours=ON_TRIAL)
    assert (will.release, will.trial) == ("release-2", "watching")
    assert points >= 20


@pytest.mark.parametrize(
    ("verb", "release", "trial"),
    [("accept", "release-2", "passed"), ("rollback", "release-1", "failed")],
)
def test_the_end_of_a_trial_killed_anywhere_ends_in_one_release(
    world: World, verb: str, release: str, trial: str
) -> None:
    """For better or for worse: then one release has all of the traffic."""
    world.run("promote", hours=ON_TRIAL)
    will, points = killed_anywhere(world, verb, hours=ON_TRIAL)
    assert will == State(release, Traffic(release=release), trial)
    assert points >= 2
