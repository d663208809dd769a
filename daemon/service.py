"""The life of the process: start, serve, stop. Signals only set a flag.

One daemon a data folder: a lock file says who. The clock is APScheduler in memory; when the
next cycle is due stands in the store, so that no restart forgets or repeats one.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType

import msgspec
import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from daemon import metrics, sockets
from daemon.api import Front, make_app
from daemon.canary.watch import look
from daemon.chat.keeper import Keeper
from daemon.connections import Server
from daemon.cycle import give_up, turn
from daemon.erasure import retain_daily
from daemon.ingest import House
from daemon.notify import notify, watchdog_seconds
from daemon.oversight import health
from daemon.refit import nightly, withdraw_unlearnable
from daemon.revocation import follow
from daemon.serving import serve_what_is_recorded
from daemon.settings import ServerSettings, Settings
from daemon.webhooks.delivery import Courier
from daemon.wiring import Parts, at_work, judge_costs, make_data, vouch_for_panel, wire
from scorers.standing import StandingWorker
from store import canaries, cycles, schedule
from store.errors import BhavanaError, Busy, Misconfigured, StorageFault, Unavailable
from store.records import MAIN, Noun, now
from trainer.job import write_record

TICK_SECONDS = 1.0
KEY_USES_SECONDS = 60.0
RETENTION_SECONDS = 600.0
"""How often is looked whether what is too old is due to be erased."""
SERVING_SECONDS = 60.0
"""How often is looked whether the target serves what is recorded."""
OVERSIGHT_SECONDS = 600.0
"""How often the panel's health is looked at, and whether a refit is due."""
FOLLOW_SECONDS = 5.0
"""How often is looked whether there is something to revoke, or to tell."""
LOCK_SECONDS = 0.5
MOST_FAILURES = 5
"""A cycle that an unforeseen error ends this often is given up, so that others can run."""
FIRST_BACKOFF_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 300.0
log = structlog.get_logger()


class Address(Noun, frozen=True, kw_only=True):
    """Where the running daemon listens: data_dir/daemon.json."""

    pid: int
    url: str


@contextmanager
def sole_daemon(data: Path) -> Iterator[None]:
    """Holds the data folder's lock. Raises Busy naming the process that holds it."""
    data.mkdir(parents=True, exist_ok=True)
    path = data / "daemon.lock"
    with path.open("a+") as lock:
        if not _locked(lock.fileno()):
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise Busy(
                f"A daemon (pid {holder}) already serves the store in {data}.",
                hint="Stop it first, or give this one another data_dir.",
            )
        (data / "daemon.json").unlink(missing_ok=True)  # left by one that was killed
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _locked(descriptor: int) -> bool:
    """Takes the lock; tries for a moment, since `running_daemon` holds it while it looks."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def running_daemon(data: Path) -> Address | None:
    """The daemon that serves this data folder now; None when none does, or it only just starts."""
    try:
        with (data / "daemon.lock").open() as lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # somebody holds it
    except FileNotFoundError:
        return None
    else:
        return None
    try:
        return msgspec.json.decode((data / "daemon.json").read_bytes(), type=Address)
    except FileNotFoundError:
        return None


class Service:
    """A daemon over one store."""

    def __init__(self, parts: Parts, reload: Callable[[], Settings]) -> None:
        self.parts = parts
        self._reload = reload
        self._ready = False
        self._turning = False
        self._heavy = threading.Lock()
        """Held by what wants all the memory and processors: a cycle, or a refit."""
        self._settling = threading.Lock()
        """Held while the settings change."""
        self._backoff = FIRST_BACKOFF_SECONDS
        self._failures = 0
        self._not_before = 0.0
        self._unserved: dict[str, str] = {}
        """By line, why it is not known whether its target serves what is recorded."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Server | None = None
        self._clock = BackgroundScheduler(timezone="UTC")
        self._house: House | None = None
        self._judge = StandingWorker(
            lambda: self.parts.settings.panel,
            vouch=lambda stop: vouch_for_panel(self.parts.settings, stop),
        )
        self._courier = Courier()
        self._next_look = 0.0
        self._keeper = Keeper(lambda: self.parts)
        self._storage_fault: StorageFault | None = None
        parts.store.writer.on_storage_fault = self._end_for_storage

    def serve(self) -> None:
        """Serves until SIGTERM or SIGINT; returns when everything has ended."""
        settings = self.parts.settings
        listeners = sockets.inherited() or [_bound(settings.server)]
        url = sockets.url_of(listeners[0])
        self._catch_signals()
        self._start_clock()
        self._keeper.start()
        write_record(settings.data / "daemon.json", Address(pid=os.getpid(), url=url))
        self._server = Server(
            self._app(),
            deadlines=settings.server.deadlines,
            most_connections=settings.server.most_connections,
            stop_seconds=settings.server.stop_seconds,
            on_start=lambda: self._started(url),
            on_stop=self._stop,
        )
        try:
            self._server.should_exit = self.parts.stop.is_set()  # a signal may have come already
            self._server.run(sockets=listeners)
        finally:
            self._stop()
            self._judge.close()
            self._keeper.close()
            self._clock.shutdown(wait=True)
            with suppress(OSError):  # the disk may be why we stop
                (settings.data / "daemon.json").unlink(missing_ok=True)
            log.info("stopped")
        if self._storage_fault is not None:
            raise self._storage_fault

    def _app(self) -> Front:
        app = make_app(
            self.parts.store,
            lambda: self._ready,
            limits=self.parts.settings.limits,
            redaction=self.parts.settings.redaction,
            judge=self._judge.assess,
            costs=lambda: judge_costs(self.parts.settings),
            settings=lambda: self.parts.settings,
            keeper=self._keeper,
        )
        self._house = app.house
        return app

    def _started(self, url: str) -> None:
        """The application answers; what came meanwhile waited in the kernel's queue."""
        gc.freeze()  # what the start built stays: neither a collection nor the exit walks it again
        self._ready = not self.parts.stop.is_set()
        notify("READY=1", f"STATUS=Serving {url}")
        log.info("serving", url=url, pid=os.getpid())
        self._loop = asyncio.get_running_loop()  # from here on the watchdog is fed

    def _end_for_storage(self, fault: StorageFault) -> None:
        """Nothing more is acknowledged by a process whose disk failed; a fresh one looks anew."""
        log.error("storage_failed", error=str(fault))
        self._storage_fault = fault
        self._stop()

    # --- the clock ------------------------------------------------------------------------

    def _start_clock(self) -> None:
        def every(seconds: float, function: Callable[[], object], **first: datetime) -> None:
            self._clock.add_job(
                function,
                IntervalTrigger(seconds=seconds),
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
                **first,
            )

        every(TICK_SECONDS, self._tick)
        every(schedule.LEASE_SECONDS / 3, self._renew)
        every(KEY_USES_SECONDS, self._note_key_uses)
        every(RETENTION_SECONDS, lambda: retain_daily(self.parts))
        every(FOLLOW_SECONDS, lambda: follow(self.parts))
        every(FOLLOW_SECONDS, lambda: self._courier.deliver(self.parts))
        every(TICK_SECONDS, self._watch)
        if (interval := watchdog_seconds()) is not None:
            every(interval / 3, self._feed_watchdog)
        every(SERVING_SECONDS, self._keep_serving, next_run_time=now())
        every(OVERSIGHT_SECONDS, self._oversee, next_run_time=now())
        self._clock.add_job(self._vouch)
        self._clock.start()

    def _vouch(self) -> None:
        """Tells at the start, not only when the first cycle is due, what the panel is worth."""
        try:
            verdict = vouch_for_panel(self.parts.settings, self.parts.stop)
        except BhavanaError as error:
            if not self.parts.stop.is_set():
                metrics.PANEL_TRUSTED.set(0)
                log.warning("panel_untrusted", error=str(error))
        else:
            metrics.PANEL_TRUSTED.set(1)
            log.info("panel_trusted", cases=verdict.cases, panel=verdict.panel[:12])

    def _watch(self) -> None:
        """Looks at the releases on trial, beside a cycle: harm does not wait for a training."""
        if time.monotonic() >= self._next_look and not self.parts.stop.is_set():
            self._next_look = time.monotonic() + 60 * self.parts.settings.canary.look_minutes
            try:
                look(self.parts)
            except BhavanaError as error:
                log.warning("canaries_not_looked_at", error=str(error))

    def _keep_serving(self) -> None:
        """Puts right what a kill left at the target; one that cannot be asked is told, once."""
        for line in self.parts.settings.line_names:
            try:
                serve_what_is_recorded(self.parts, line)
            except Busy:  # a promotion or a rollback is about it
                continue
            except BhavanaError as error:
                said = str(error)
                if self._unserved.get(line) != said and not self.parts.stop.is_set():
                    log.warning("target_not_settled", line=line, error=said)
                self._unserved[line] = said
            else:
                self._unserved.pop(line, None)

    def _oversee(self) -> None:
        """Shows how the panel does, and fits its heads anew where that is due."""
        try:
            withdraw_unlearnable(self.parts)
            self._take_heads()
            self._show_health()
            if self._heavy.acquire(blocking=False):
                try:
                    tried = nightly(self.parts)
                finally:
                    self._heavy.release()
                if tried is not None:
                    metrics.REFITS.labels(tried.outcome).inc()
                    self._take_heads()
                    self._show_health()
        except BhavanaError as error:
            log.warning("panel_not_overseen", error=str(error))

    def _show_health(self) -> None:
        settings = self.parts.settings
        found = health(self.parts.store, settings.panel, settings.oversight)
        metrics.show_health(found)
        for alarm in found.alarms:
            log.warning("training_halted", alarm=alarm)

    def _take_heads(self) -> None:
        """Puts those heads to work that the last refit left, by whomever it was asked."""
        with self._settling:
            self._settle(self.parts.settings)

    def _settle(self, settings: Settings) -> None:
        settings = at_work(settings, self.parts.store)
        if settings.panel.refitted_dir != self.parts.settings.panel.refitted_dir:
            log.info("heads_changed", folder=settings.panel.refitted_dir or "configured")
        self.parts = msgspec.structs.replace(self.parts, settings=settings)

    def _tick(self) -> None:
        """Turns the loop when a cycle was interrupted or is due."""
        if self.parts.stop.is_set() or time.monotonic() < self._not_before:
            return
        if not self._heavy.acquire(blocking=False):
            return  # the heads are fitted anew; what is due stays due
        try:
            self._turn_if_due()
        finally:
            self._heavy.release()

    def _turn_if_due(self) -> None:
        line, taken = MAIN, False
        try:
            due = self._due()
            if due is None:
                return
            reason, line, taken = due
            self._turning = True
            metrics.CYCLE_RUNNING.set(1)
            self._take_heads()
            cycle = turn(self.parts, reason=reason, line=line)
            metrics.CYCLES.labels(cycle.state).inc()
            metrics.LAST_CYCLE.set_to_current_time()
            self._backoff, self._failures = FIRST_BACKOFF_SECONDS, 0
        except Busy:  # another daemon on this store turns the loop; it goes on when that one ends
            self._not_before = time.monotonic() + schedule.LEASE_SECONDS / 3
            if taken:
                self._ask_again(line, prevented=True)
        except Exception as error:  # noqa: BLE001  # the cycle's edge: log, survive, try again
            self._back_off(error)
            self._ask_again(line)
        finally:
            self._turning = False
            metrics.CYCLE_RUNNING.set(0)

    def _due(self) -> tuple[str, str, bool] | None:
        """Why a cycle should turn now, on which line, and whether its turn was taken for it.

        None where nothing is due. Each line has a schedule of its own; those that are due together
        take turns in order. A line whose release is on trial waits for the end of it.
        """
        store = self.parts.store
        interrupted = cycles.running(store)
        if interrupted is not None:
            return interrupted.reason, interrupted.line, False
        on_trial = {(c.target, c.line) for c in canaries.undecided(store)}
        for line in self.parts.settings.line_names:
            if (self.parts.target.name, line) in on_trial:
                continue
            if self._take_due(schedule.of_line(line)):
                return "schedule", line, True
        return None

    def _take_due(self, name: str) -> bool:
        store, every = self.parts.store, timedelta(hours=self._every_hours)
        planned = schedule.schedule(store, name)
        if planned is None:
            schedule.plan(store, now() + every, name)
            return False
        # Noted before the turn: a cycle killed from here on is resumed, never turned twice.
        return planned.next_run_at <= now() and schedule.take_due(store, now() + every, name)

    def _back_off(self, error: Exception) -> None:
        if self.parts.stop.is_set():
            return
        known = isinstance(error, BhavanaError)
        self._failures += 1
        if not known and self._failures >= MOST_FAILURES:
            give_up(self.parts, f"{type(error).__name__}: {error}")
            self._failures = 0
        log.warning(
            "cycle_interrupted",
            error=str(error),
            retry_seconds=self._backoff,
            exc_info=None if known else error,
        )
        self._not_before = time.monotonic() + self._backoff
        self._backoff = min(self._backoff * 2, LONGEST_BACKOFF_SECONDS)

    def _ask_again(self, line: str, *, prevented: bool = False) -> None:
        """A turn that failed before its cycle was recorded, or never began, is still due."""
        try:
            if prevented or cycles.running(self.parts.store) is None:
                schedule.due_at(self.parts.store, now(), schedule.of_line(line))
        except BhavanaError as error:
            log.warning("turn_lost", error=str(error), retry_hours=self._every_hours)

    @property
    def _every_hours(self) -> float:
        return self.parts.settings.schedule.every_hours

    def _renew(self) -> None:
        if self._turning:
            try:
                schedule.acquire(self.parts.store, self.parts.holder)
            except Unavailable as error:
                log.warning("lease_not_renewed", error=str(error))

    def _note_key_uses(self) -> None:
        if self._house is not None:
            try:
                self._house.ring.note_uses()
            except Unavailable as error:
                log.warning("key_uses_not_noted", error=str(error))

    def _feed_watchdog(self) -> None:
        """Feeds the watchdog only while everything that must live answers."""
        if self._loop is None:
            return
        try:
            silent = [check.__name__.strip("_") for check in self._liveness() if not check()]
        except BhavanaError as error:
            silent = [str(error)]
        if silent:
            log.warning("watchdog_not_fed", silent=silent)
        else:
            notify("WATCHDOG=1")

    def _liveness(self) -> list[Callable[[], bool]]:
        """What must answer, and soon: a check that hangs keeps the watchdog hungry as well."""
        return [self._loop_answers, self.parts.store.writer.alive, self._database_answers]

    def _loop_answers(self) -> bool:
        assert self._loop is not None
        answered = threading.Event()
        self._loop.call_soon_threadsafe(answered.set)
        return answered.wait(TICK_SECONDS * 5)

    def _database_answers(self) -> bool:
        return self.parts.store.position() >= 0

    # --- signals --------------------------------------------------------------------------

    def _catch_signals(self) -> None:
        # uvicorn catches these while it serves and raises them again when it is done; these
        # handlers then see a process that is stopping anyway, and it exits with 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, self._on_hangup)

    def _stop(self) -> None:
        if not self.parts.stop.is_set():
            notify("STOPPING=1")
        self._ready = False
        self.parts.stop.set()
        if self._server is not None:
            self._server.should_exit = True

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=self.reload, name="reload").start()

    def reload(self) -> None:
        """Reads the configuration again; a broken one is refused and the old one kept.

        Where the store is and where the server listens stay as they were until a restart.
        """
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            with self._settling:
                settings = self._settled()
        except BhavanaError as error:
            metrics.RELOAD_FAILED.set(1)
            log.error("reload_refused", error=str(error))  # noqa: TRY400  # said in words
        else:
            if self._house is not None:
                self._house.apply(settings.limits, settings.redaction)
            metrics.RELOAD_FAILED.set(0)
            log.info("reloaded")
        notify("READY=1")

    def _settled(self) -> Settings:
        old = self.parts.settings
        kept = {"data_dir": old.data_dir, "store": old.store, "server": old.server}
        self._settle(msgspec.structs.replace(self._reload(), **kept))
        return self.parts.settings


def serve(settings: Settings, reload: Callable[[], Settings]) -> None:
    """Runs the daemon in this process. Raises Busy, Misconfigured, Unavailable at the start."""
    with sole_daemon(make_data(settings)):
        parts = wire(settings)
        try:
            Service(parts, reload).serve()
        finally:
            parts.store.close()


def _bound(server: ServerSettings) -> socket.socket:
    try:
        return sockets.bind(server.host, server.port)
    except OSError as error:
        raise Misconfigured(
            f"Cannot listen on {server.host}:{server.port}: {error.strerror}.",
            hint="Set server.port (BHAVANA_SERVER__PORT), or 0 for a free one.",
        ) from error
