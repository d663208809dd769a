"""A build that is killed leaves no half dataset, and the next one gives the same bytes."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from converters.split import SPLITS
from store import experiences, sources
from store.events import Store

COUNT = 2_000
FEW_ROUNDS, ROUNDS, KILLS = 1, 3, 8
ROOT = Path(__file__).resolve().parents[2]
NURSERY = """
import os, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
from converters.dataset import build
from converters.selection import Asked
from store.events import Store
from store.records import Policy

for line in sys.stdin:
    url, folder, *killed_after = line.split()
    child = os.fork()
    if not child:
        policy = Policy(near_duplicate=0.0, paraphrase=0.0, max_per_question=10_000)
        with Store(url) as store:
            asked = Asked(
                policy=policy,
                panel="panel-1",
                as_of=store.position(),
                moment=datetime(2026, 1, 2, tzinfo=UTC),
                ends=(1_000,),
            )
            build(store, Path(folder), asked, dataset_id="dataset-1", cycle_id="cycle-1")
        os._exit(0)
    for seconds in killed_after:
        time.sleep(float(seconds))
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Builder:
    """Builds the same dataset again and again, each time in a process of its own."""

    def __init__(self, nursery: subprocess.Popen[str], url: str, folder: Path) -> None:
        self._nursery = nursery
        self._order = f"{url} {folder}"

    def build(self, killed_after: float | None = None) -> int:
        """The exit code of a build, which may be killed after some seconds."""
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(f"{self._order} {killed_after or ''}\n")
        self._nursery.stdin.flush()
        return int(self._nursery.stdout.readline())


@pytest.fixture
def url(tmp_path, make_experience, make_assessment) -> str:
    """A store of some thousands, all of them worth learning from."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with Store(url) as store:
        names = [f"e-{i}" for i in range(COUNT)]
        experiences.record(store, [make_experience(name) for name in names])
        sources.change(store, "web", "trusted", actor="test")
        experiences.assess(store, [make_assessment(name) for name in names])
    return url


@pytest.fixture
def builder(url, tmp_path) -> Iterator[Builder]:
    """A process that has loaded all that a build needs, and forks for each."""
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as nursery:
        yield Builder(nursery, url, tmp_path / "datasets" / "dataset")
        assert nursery.stdin is not None
        nursery.stdin.close()


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("rounds", [FEW_ROUNDS, pytest.param(ROUNDS, marks=pytest.mark.slow)])
def test_a_build_killed_at_any_moment_leaves_a_whole_dataset_or_none(builder, tmp_path, rounds):
    """Under the dataset's name there is all of it or nothing; what lies beside it is cleared."""
    folder = tmp_path / "datasets" / "dataset"
    assert builder.build() == 0  # after this all is loaded
    whole = _bytes(folder)
    assert sorted(whole) == sorted(
        ["README.md", "manifest.json", "selection.png", *(f"{split}.jsonl" for split in SPLITS)]
    )
    shutil.rmtree(folder)
    started = time.monotonic()
    assert builder.build() == 0
    took = time.monotonic() - started
    draw = random.Random(1)
    killed = 0
    for _ in range(rounds):
        shutil.rmtree(folder)
        for _ in range(KILLS):
            # Late moments are of more interest: then files are written.
            killed += builder.build(killed_after=took * draw.random() ** 0.5) != 0
            assert not folder.exists() or _bytes(folder) == whole
        assert builder.build() == 0
        assert _bytes(folder) == whole
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert killed > rounds * KILLS // ROUNDS
