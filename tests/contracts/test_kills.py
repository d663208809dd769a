"""Killed at every point of a promotion or a rollback, at every target: one release serves then.

By the target's own word and by the store's, and nothing is half left.
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
from typing import Any

import msgspec
import pytest

from store import cycles
from store.events import Store
from tests.contracts.promoting import parts_of
from tests.contracts.targets import SITES, Site
from tests.daemon.judging import judged
from trainer.targets.target import Traffic

ROOT = Path(__file__).resolve().parents[2]
LEAST_POINTS = 20
"""Five steps with a line before and after each, before and after it is written."""


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


class World:
    """A data folder with candidates that passed, and a target that serves the base."""

    def __init__(self, folder: Path, site: Site, nursery: Nursery, empty: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)
        shutil.copy(empty, self.data / "bhavana.db")
        self._site = site
        self._nursery = nursery

    def run(self, verb: str, name: str = "1", adapter: str = "one", end_at: int = 0) -> bool:
        """Whether it came to its end; else it was killed where it should be."""
        told = self._nursery.run(
            verb=verb,
            name=name,
            adapter=adapter,
            end_at=end_at,
            data=str(self.data),
            order=msgspec.to_builtins(self._site.order),
        )
        assert "error" not in told, told
        assert told["code"] in ((0,) if not end_at else (0, -signal.SIGKILL)), told
        assert told["code"] or not end_at or len(told["points"]) < end_at
        return told["code"] == 0

    def promote(self, name: str, adapter: str, *, after: str | None) -> None:
        """A candidate passes and comes into service."""
        self.evaluate(name, adapter, after)
        self.run("promote", name, adapter)

    def evaluate(self, name: str, adapter: str, incumbent: str | None) -> None:
        """A candidate passes."""
        parts = parts_of(self.data, self._site.order)
        folder = Path(self._site.order.adapters[adapter])
        judged(parts, {}, name=name, incumbent=incumbent, ended="failed", adapter=folder)
        parts.store.close()

    def serves(self) -> tuple[Traffic, str | None]:
        """What serves, by the target's word and by the store's."""
        parts = parts_of(self.data, self._site.order)
        try:
            release = cycles.current_release(parts.store, parts.target.name)
            return parts.target.active(), None if release is None else release.id
        finally:
            parts.store.close()

    def settled(self, keep: tuple[str, ...]) -> str | None:
        """The one release that serves by both words; nothing is half left beside those kept."""
        by_target, by_store = self.serves()
        assert by_target == Traffic(release=by_store)
        assert self._site.left_over(keep) == []
        return by_store


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which nothing is: to migrate one for each kill would take longer than the rest."""
    path = tmp_path_factory.mktemp("empty") / "bhavana.db"
    Store(f"sqlite:///{path}").close()
    return path


HERE = "local"
"""Over HTTP there are several times as many points, and each asks a server."""


@pytest.fixture(
    params=[name if name == HERE else pytest.param(name, marks=pytest.mark.slow) for name in SITES]
)
def worlds(
    request: pytest.FixtureRequest, tmp_path: Path, nursery: Nursery, empty: Path
) -> Iterator[Iterator[World]]:
    """As many as a test kills in; each is gone when the next begins."""

    def made() -> Iterator[World]:
        for number in count():
            folder = tmp_path / str(number)
            folder.mkdir()
            with SITES[request.param](folder) as site:
                yield World(folder, site, nursery, empty)

    found = made()
    yield found
    found.close()


AFTERWARDS = pytest.mark.parametrize(
    "afterwards",
    [
        "in turn",
        pytest.param("given again", marks=pytest.mark.slow),
        pytest.param("put back first", marks=pytest.mark.slow),
    ],
)
"""What is done after the kill: the command is given again at once, or the daemon starts and puts
the target back first; in turn, each is done after half of the kills."""


def put_back_first(afterwards: str, end_at: int) -> bool:
    """Whether the daemon starts first."""
    return afterwards == "put back first" or (afterwards == "in turn" and end_at % 2 == 0)


@AFTERWARDS
def test_a_promotion_killed_anywhere_ends_in_one_release(
    worlds: Iterator[World], afterwards: str
) -> None:
    """The one before until the new one is recorded, and then that one."""
    both = ("release-1", "release-2")
    for end_at in count(1):
        world = next(worlds)
        world.promote("1", "one", after=None)
        world.evaluate("2", "two", "release-1")
        if world.run("promote", "2", "two", end_at):
            break
        found, recorded = world.serves()
        assert found in (Traffic(release="release-1"), Traffic(release="release-2"))
        if recorded == "release-2" or put_back_first(afterwards, end_at):
            world.run("start", "2")
            assert world.settled(both) == recorded
        if recorded != "release-2":
            world.run("promote", "2", "two")
        assert world.settled(both) == "release-2"
    assert end_at > LEAST_POINTS


@AFTERWARDS
def test_a_rollback_killed_anywhere_ends_in_one_release(
    worlds: Iterator[World], afterwards: str
) -> None:
    """It goes back one release, however often it was killed before it was recorded."""
    both = ("release-1", "release-2")
    for end_at in count(1):
        world = next(worlds)
        world.promote("1", "one", after=None)
        world.promote("2", "two", after="release-1")
        if world.run("rollback", end_at=end_at):
            break
        recorded = world.serves()[1]
        if recorded == "release-1" or put_back_first(afterwards, end_at):
            world.run("start", "2")
            assert world.settled(both) == recorded
        if recorded != "release-1":
            world.run("rollback")
        assert world.settled(both) == "release-1"
    assert end_at > 4
