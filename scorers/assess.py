"""The loop that has pending experiences assessed, with one child process.

It knows no torch, no scorer, and not how findings are combined (scorers/panel.py does).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from scorers import chosen
from scorers.panel import panel_id
from scorers.settings import PanelSettings
from store import experiences as recorded
from store.errors import ChildFailed, Unavailable
from store.events import Store
from store.records import Assessment, Experience, new_id, to_json

BATCH = 64
"""Experiences between two commits: a kill loses at most these."""
DEAR_BATCH = 8
"""The same where a scorer is at work that is asked over a network."""
STALL_SECONDS = 600.0
"""A worker that needs longer for one batch, loading included, is taken for hung."""
TRY_LATER = 75
"""Exit code of a worker that could not reach what it asks (EX_TEMPFAIL of sysexits.h)."""
POLL_SECONDS = 0.2
LAST_WORDS = 2_000
"""Characters of the worker's stderr that its failure is reported with."""
ROOT = Path(__file__).resolve().parent.parent


class Worker(NamedTuple):
    """The child process that scores, as its parent holds it."""

    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def assess(self, batch: Sequence[Experience]) -> list[Assessment]:
        """One assessment per experience, in order.

        Raises ChildFailed when the worker fails, Unavailable when it could not reach what it asks.
        """
        try:
            self.send([*map(to_json, batch), b""])
            lines = [self.stdout.readline() for _ in batch]
        except BrokenPipeError as error:
            raise self.failure("died while it was given work") from error
        if not all(line.endswith(b"\n") for line in lines):
            raise self.failure("died at work")
        try:
            assessments = [msgspec.json.decode(line, type=Assessment) for line in lines]
        except msgspec.MsgspecError as error:
            raise self.failure("answered something that is no assessment") from error
        if [a.experience_id for a in assessments] != [e.id for e in batch]:
            raise self.failure("answered about other experiences")
        return assessments

    def send(self, lines: Sequence[bytes]) -> None:
        """Writes lines to the worker."""
        self.stdin.write(b"".join(line + b"\n" for line in lines))
        self.stdin.flush()

    def failure(self, what: str) -> ChildFailed | Unavailable:
        """The error that tells what happened, with the worker's last words."""
        self.process.kill()
        code = self.process.wait()
        self.stderr.seek(0)
        words = self.stderr.read()[-LAST_WORDS:].decode("utf-8", "replace").strip()
        if code == TRY_LATER:
            return Unavailable(words.partition(": ")[2] or "The scoring worker cannot work now.")
        return ChildFailed(f"The scoring worker {what} (exit code {code}). {words}".strip())


@contextmanager
def worker(
    settings: PanelSettings, command: Sequence[str] | None = None, *, patient: bool = False
) -> Iterator[Worker]:
    """A scoring worker, ended and reaped on the way out, whatever happens.

    A patient one takes processor time that nobody else wants: for what can wait.
    Its stderr goes to a file: a pipe that nobody reads would fill and stop it.
    """
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            list(command or (sys.executable, "-m", "scorers.worker", *["--patient"][:patient])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=ROOT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        child = Worker(process, process.stdin, process.stdout, stderr)
        try:
            yield _greeted(child, settings)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            _close(process.stdin)


def _greeted(child: Worker, settings: PanelSettings) -> Worker:
    try:
        child.send([to_json(settings)])
    except BrokenPipeError as error:
        raise child.failure("did not start") from error
    return child


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # what was left to write is of no use to a dead child


def batch_of(settings: PanelSettings) -> int:
    """How many experiences at once: few where each may take a while."""
    return DEAR_BATCH if any(entry.dear for entry in chosen(settings).values()) else BATCH


def stall_seconds(settings: PanelSettings) -> float:
    """When a worker is taken for hung: a judge has timeouts of its own, and all may be used up."""
    if "judge" not in settings.scorers:
        return STALL_SECONDS
    judge = settings.judge
    calls = batch_of(settings) * len(judge.dimensions) * judge.samples
    return STALL_SECONDS + calls * judge.timeout_seconds * (judge.retries + 1) / judge.concurrency


@contextmanager
def ended_when(
    child: Worker, stop: threading.Event, stall_seconds: float = STALL_SECONDS
) -> Iterator[None]:
    """Ends the worker when `stop` is set or a batch takes too long: a read would wait forever."""
    done = threading.Event()

    def watch() -> None:
        deadline = time.monotonic() + stall_seconds
        while not done.wait(POLL_SECONDS):
            if stop.is_set() or time.monotonic() > deadline:
                child.process.kill()
                return

    watcher = threading.Thread(target=watch, name="assess-watch")
    watcher.start()
    try:
        yield
    except ChildFailed:
        if stop.is_set():
            raise Unavailable(
                "Stopping; what is not assessed yet will be at the next start."
            ) from None
        raise
    finally:
        done.set()
        watcher.join()


@contextmanager
def _giving_back(store: Store, panel: str, holder: str) -> Iterator[None]:
    """Gives back at the end what was claimed last, however it ends, so that nobody waits for it."""
    try:
        yield
    finally:
        with suppress(Unavailable):
            recorded.claim(store, panel, as_of=0, holder=holder)


def assess_pending(
    store: Store,
    settings: PanelSettings,
    as_of: int,
    on_progress: Callable[[int], None] | None = None,
    command: Sequence[str] | None = None,
    stop: threading.Event | None = None,
    holder: str | None = None,
    models: Collection[str] | None = None,
) -> int:
    """Assesses what this panel has not seen up to a position; returns how many were recorded.

    Every batch is committed by itself, so that a kill loses at most one and a repeat is
    harmless. `on_progress` is told the count after each. `models`: only what these said. A `holder`
    that was killed has its own claims again at once. Raises ChildFailed, Misconfigured, and
    Unavailable when `stop` was set or a scorer cannot reach what it asks; what is not assessed then
    is pending as before.
    """
    panel = panel_id(settings)

    def is_pending() -> bool:
        return bool(recorded.unassessed(store, panel, as_of=as_of, limit=1, models=models))

    if not is_pending():
        return 0
    done = 0
    size = batch_of(settings)
    stop = stop or threading.Event()
    holder = holder or new_id("assess")
    with _giving_back(store, panel, holder), worker(settings, command, patient=True) as child:
        while is_pending():
            batch = recorded.claim(
                store, panel, as_of=as_of, holder=holder, limit=size, models=models
            )
            if not batch:  # other workers are at the rest of it
                if stop.wait(POLL_SECONDS):
                    raise Unavailable("Stopping; what is not assessed yet will be.")
                continue
            with ended_when(child, stop, stall_seconds(settings)):
                assessments = child.assess(batch)
            if any(assessment.panel != panel for assessment in assessments):
                raise child.failure("judged as another panel: the weights changed meanwhile")
            results = recorded.assess(store, assessments)
            new = sum(result.status == "recorded" for result in results)
            if not new and not any(result.status == "erased" for result in results):
                raise child.failure("assessed a batch that could not be recorded")
            done += new
            if on_progress is not None:
                on_progress(done)
    return done
