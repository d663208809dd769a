"""The scoring process, for real: started, fed, killed, and mistaken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from scorers.assess import assess_pending
from scorers.panel import panel_id
from scorers.settings import PanelSettings
from store import experiences as recorded
from store.errors import ChildFailed
from store.events import Store
from store.records import Experience, now, to_json

MakeExperience = Callable[..., Experience]
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = PanelSettings()


@pytest.fixture
def store(tmp_path: Path, experience: MakeExperience) -> Iterator[Store]:
    """A store with seventy experiences: more than one batch."""
    with Store(f"sqlite:///{tmp_path / 'bhavana.db'}") as opened:
        items = [
            experience("Why is it dark?", f"It is night {n}.", name=f"e-{n}") for n in range(70)
        ]
        recorded.record(opened, items)
        yield opened


def python(code: str) -> tuple[str, ...]:
    """The command that runs this code."""
    return sys.executable, "-c", code


def test_importing_scorers_loads_no_torch() -> None:
    """The daemon's process asks for versions and panels without a model in memory."""
    code = (
        "import sys, scorers.assess, scorers.antijudge, scorers.panel as p, scorers.settings as s\n"
        "p.panel_id(s.PanelSettings())\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'sklearn')))"
    )
    assert subprocess.run(python(code), cwd=ROOT, check=False).returncode == 0


def test_assesses_everything_once(store: Store) -> None:
    """All that is pending is recorded, batch by batch; a second run has nothing to do."""
    told: list[int] = []
    assert assess_pending(store, SETTINGS, store.position(), told.append) == 70
    assert told == [64, 70]
    assert assess_pending(store, SETTINGS, store.position(), told.append) == 0
    kept = list(recorded.assessed(store, panel_id(SETTINGS), as_of=store.position(), moment=now()))
    assert len(kept) == 70
    assert all(item.assessment.label is not None for item in kept)


def test_sees_only_what_was_there(store: Store) -> None:
    """Experiences after the position wait for the next turn of the loop."""
    assert assess_pending(store, SETTINGS, as_of=3) == 3


def test_sees_only_what_some_models_said(store: Store, experience: MakeExperience) -> None:
    """Who watches a release does not wait for a backlog of other answers."""
    said = msgspec.structs.replace(
        experience("Why?", "It is night.", name="of-release"), model="release-1"
    )
    recorded.record(store, [said])
    models = ("release-1", "base")
    assert assess_pending(store, SETTINGS, store.position(), models=models) == 1
    assert assess_pending(store, SETTINGS, store.position(), models=models) == 0
    assert len(recorded.unassessed(store, panel_id(SETTINGS), as_of=store.position())) == 70


def test_the_workers_last_words_are_told(store: Store) -> None:
    """A worker that dies at start stops the cycle with what it wrote to stderr."""
    dying = python("import sys; sys.exit('the encoder caught fire')")
    with pytest.raises(ChildFailed, match="the encoder caught fire"):
        assess_pending(store, SETTINGS, store.position(), command=dying)


def test_a_kill_loses_at_most_one_batch(store: Store) -> None:
    """What was committed before the worker died is kept, and the next run does the rest."""
    dies_after_a_batch = python(
        "import sys, io\n"
        "from scorers.worker import serve\n"
        "lines = [sys.stdin.buffer.readline() for _ in range(66)]\n"
        "serve(io.BytesIO(b''.join(lines)), sys.stdout.buffer)\n"
        "sys.exit('killed')"
    )
    with pytest.raises(ChildFailed, match="killed"):
        assess_pending(store, SETTINGS, store.position(), command=dies_after_a_batch)
    assert assess_pending(store, SETTINGS, store.position()) == 6


def test_nonsense_from_the_worker_is_not_recorded(store: Store) -> None:
    """Lines that are no assessments stop the cycle."""
    babbling = python("import sys\nfor line in sys.stdin: print('hello', flush=True)")
    with pytest.raises(ChildFailed, match="no assessment"):
        assess_pending(store, SETTINGS, store.position(), command=babbling)
    assert recorded.count_by_label(store, panel_id(SETTINGS)) == {}


def test_the_worker_ends_with_its_input(experience: MakeExperience) -> None:
    """When the parent is gone stdin ends, and so does the worker, after answering what it had."""
    lines = [to_json(SETTINGS), to_json(experience("Why?", "Because it rains."))]
    ended = subprocess.run(
        [sys.executable, "-m", "scorers.worker"],
        input=b"\n".join(lines),
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0
    assert ended.stdout.count(b"\n") == 1
    assert b"served=1" in ended.stderr


def test_the_worker_refuses_what_is_not_the_protocol() -> None:
    """A first line that is no settings ends it with a reason and an exit code."""
    ended = subprocess.run(
        [sys.executable, "-m", "scorers.worker"],
        input=b'{"colour": "red"}\n',
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert b"colour" in ended.stderr
