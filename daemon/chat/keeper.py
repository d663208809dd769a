"""Keeps the process that answers people: the right adapters in it, and another one when it dies.

Four times a second it asks the target who should answer. What the process holds already answers
from that moment on, so that the way back takes no longer than that. For what it does not hold a
second process is started beside it; the first one answers until the second can, and ends when its
last answer is given. A request is answered by one release in one process, from beginning to end.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from msgspec import Struct
from msgspec.structs import replace

from daemon.chat import figures
from daemon.chat.lineup import Lineup
from daemon.problems import RETRY_AFTER_SECONDS, Problem
from daemon.settings import Settings
from daemon.wiring import Parts
from store import cycles
from store.errors import BhavanaError, NotFound
from store.records import Release, new_id
from trainer.adapter import adapter_hash
from trainer.base import locate
from trainer.serving import Held, ServeJob, Server, model_file, processors, require_installed

LOOK_SECONDS = 0.25
FAULT_SECONDS = 1.0
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
log = structlog.get_logger()


class Stage(Struct, frozen=True):
    """Who answers now, and where."""

    server: Server
    lineup: Lineup


class Keeper:
    """Follows the target from a thread of its own. `enter` is for the threads that answer."""

    def __init__(self, parts: Callable[[], Parts]) -> None:
        """`parts` is asked each time: settings may be read again."""
        self._parts = parts
        self._lock = threading.Lock()
        """Held while the stage changes, and while somebody enters it."""
        self._stage: Stage | None = None
        self._now: Server | None = None
        self._next: Server | None = None
        self._leaving: list[Server] = []
        self._fault = "The model is being loaded."
        self._failures = 0
        self._not_before = 0.0
        self._asked: tuple[object, ServeJob] | None = None
        """What was last found out about, and what should be held for it."""
        self._spoilt: ServeJob | None = None
        """With this no process came to answer."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serving", daemon=True)

    def start(self) -> None:
        """Begins to follow."""
        shutil.rmtree(self._folder, ignore_errors=True)  # left by a daemon that was killed
        self._thread.start()

    def close(self) -> None:
        """Ends every process. Safe to repeat."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def enter(self) -> Iterator[Stage]:
        """Who answers now; the process stays until the block ends. Raises Problem 503."""
        with self._lock:
            stage = self._stage
            if stage is None:
                raise Problem(
                    503,
                    "model_unavailable",
                    self._fault,
                    hint="Ask again in a moment; `bhavana doctor` tells what serving needs.",
                    headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
                )
            stage.server.answering += 1
        try:
            yield stage
        finally:
            with self._lock:
                stage.server.answering -= 1

    def lineup(self) -> Lineup | None:
        """The lineup that is answered by; None where nobody answers."""
        stage = self._stage
        return None if stage is None else stage.lineup

    # --- following --------------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = LOOK_SECONDS
            try:
                self._look()
            except BhavanaError as error:
                self._complain(str(error))
                pause = FAULT_SECONDS
            except Exception:  # the thread's edge: who answers now goes on
                log.exception("serving_not_followed")
                pause = FAULT_SECONDS
            figures.READY.set(self._stage is not None)
        self._end_all()

    def _look(self) -> None:
        self._see_who_ended()
        settings = self._parts().settings
        if not settings.serving.enabled:
            self._end_all()
            return
        lineup = self._follow(settings)
        if self._next is not None and self._next.state() == "ready":
            self._change_over(self._next)
        now = self._now
        if now is not None and all(map(now.holds, lineup.answering)):
            self._show(Stage(now, lineup))
        self._have(self._wanted(settings, lineup))

    def _follow(self, settings: Settings) -> Lineup:
        target = self._parts().target
        return Lineup(traffic={line: target.active(line) for line in settings.line_names})

    def _wanted(self, settings: Settings, lineup: Lineup) -> ServeJob:
        """What a process should hold: who answers, and to whom one may want to go back.

        Found out anew only when something has changed: it reads every byte of the base.
        """
        about = (settings.serving, settings.trainer.base, lineup)
        if self._asked is None or self._asked[0] != about:
            self._asked = about, self._job(settings, lineup)
        wanted = self._asked[1]
        if wanted != self._spoilt:
            return wanted
        # What is held for the way back alone must not keep the others from answering.
        needed = tuple(one for one in wanted.adapters if one.release in lineup.answering)
        return replace(wanted, adapters=needed)

    def _job(self, settings: Settings, lineup: Lineup) -> ServeJob:
        require_installed()
        serving, parts = settings.serving, self._parts()
        adapters = tuple(self._held(parts, lineup))
        base = locate(settings.trainer.base)
        return ServeJob(
            base=base,
            model=model_file(base, serving.gguf),
            adapters=adapters,
            cache=str(parts.cache / "serving"),
            slots=serving.slots,
            context=serving.context,
            threads=serving.threads or processors(),
            gpu_layers=serving.gpu_layers,
        )

    def _held(self, parts: Parts, lineup: Lineup) -> Iterator[Held]:
        """Raises NotFound for a release that should answer and is not in the archive."""
        answering = sorted(lineup.answering)
        found = (cycles.by_id(parts.store, Release, name) for name in answering)
        before = {r.previous for r in found if r is not None and r.previous is not None}
        if self._stage is not None and self._stage.lineup != lineup:
            before |= self._stage.lineup.answering  # a new release's record may not be there yet
        for name in (*answering, *sorted(before - lineup.answering)):
            try:
                folder = parts.archive.adapter(name)
            except NotFound as error:
                if name in lineup.answering:
                    raise
                log.warning("not_held_ready", release=name, error=str(error))
            else:
                yield Held(release=name, adapter=str(folder), adapter_hash=adapter_hash(folder))

    def _have(self, wanted: ServeJob) -> None:
        """Starts a process for what none holds or is about to hold, unless one died just now."""
        served = self._now is not None and self._now.job.covers(wanted)
        if self._next is not None and (served or not self._next.job.covers(wanted)):
            self._leave(self._next)
            self._next = None
        elif not served and self._next is None and time.monotonic() >= self._not_before:
            self._next = Server(self._folder / new_id("server"), wanted)
            figures.STARTS.inc()

    @property
    def _folder(self) -> Path:
        return self._parts().settings.data / "serving"

    # --- changing ---------------------------------------------------------------------------

    def _change_over(self, server: Server) -> None:
        """The new process takes over; `_look` shows it as soon as it knows who answers."""
        log.info(
            "serving_loaded", pid=server.pid, releases=[one.release for one in server.job.adapters]
        )
        self._leave(self._now)
        self._now, self._next, self._failures = server, None, 0

    def _show(self, stage: Stage) -> None:
        if stage == self._stage:
            return
        with self._lock:
            self._stage = stage
        answers = {line: traffic.release for line, traffic in stage.lineup.traffic.items()}
        log.info("serving_answers", **answers)

    def _leave(self, server: Server | None) -> None:
        """It ends when it has given its last answer."""
        if server is not None:
            self._leaving.append(server)

    def _see_who_ended(self) -> None:
        with self._lock:
            if self._stage is not None and not self._stage.server.alive:
                self._stage = None
            on_stage = None if self._stage is None else self._stage.server
            gone = [s for s in self._leaving if s is not on_stage and s.answering == 0]
        for server in gone:
            server.end()
            self._leaving.remove(server)
        if self._now is not None and not self._now.alive:
            self._failed(self._now)
            self._now = None
        if self._next is not None and not self._next.alive:
            self._spoilt = self._next.job
            self._failed(self._next)
            self._next = None

    def _failed(self, server: Server) -> None:
        pause = min(FIRST_BACKOFF_SECONDS * 2**self._failures, LONGEST_BACKOFF_SECONDS)
        self._failures += 1
        self._not_before = time.monotonic() + pause
        self._fault = "The process that answers has ended; it is being started again."
        log.warning("serving_ended", said=server.last_words(), retry_seconds=pause)
        server.end()

    def _complain(self, said: str) -> None:
        if said != self._fault:
            log.warning("serving_not_possible", error=said)
        self._fault = said

    def _end_all(self) -> None:
        with self._lock:
            self._stage = None
        for server in (self._now, self._next, *self._leaving):
            if server is not None:
                server.end()
        self._now = self._next = None
        self._leaving = []
