"""What a judge has answered and what it has cost: one SQLite file in the cache folder.

Kept is what was understood of an answer (numbers, offsets, reasons), never its words: an answer
quotes what people said, and erasure does not reach a cache. For the same reason a text is named by
a keyed hash. Any number of processes may use one file, and be killed at any time: a request counts
from before it is sent, an answer from when it is kept. Losing the file costs calls, nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from store.engine import sqlite_module
from store.errors import Misconfigured, Unavailable
from store.records import now

FILE = "judge.db"
KEPT_DAYS = 365
"""An answer that was kept longer ago is asked for again."""
BUSY_SECONDS = 30.0
RESULTS = ("answered", "refused", "busy", "failed", "timed_out")
"""How a request can end; `pending` besides, for those under way or killed."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS secret (one INTEGER PRIMARY KEY CHECK (one = 1), value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, day TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS days (
    day TEXT PRIMARY KEY, requests INTEGER NOT NULL, tokens INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (
    name TEXT NOT NULL, label TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (name, label)
) WITHOUT ROWID;
"""


class Day(NamedTuple):
    """What one day (UTC) has cost so far."""

    requests: int = 0
    tokens: int = 0


def folder(configured: str, environment: Mapping[str, str]) -> Path:
    """Where the ledger lies: as configured, else where systemd or the user keeps caches."""
    if configured:
        return Path(configured).expanduser().absolute()
    if given := environment.get("CACHE_DIRECTORY"):  # systemd names several with colons between
        return Path(given.partition(":")[0])
    home = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "bhavana"


class Ledger:
    """The file, open. Safe to use from any thread."""

    def __init__(self, place: Path) -> None:
        """Opens or creates it in a folder. Raises Misconfigured."""
        self.path = place / FILE
        self._sqlite = sqlite_module()
        self._lock = threading.Lock()
        try:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Created here, not by SQLite, so that nobody else can read the secret in it.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = self._sqlite.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._open()
        except OSError as error:
            raise Misconfigured(
                f"The judge's cache {self.path} cannot be written: {error.strerror}.",
                hint="Name another folder as panel.judge.cache.",
            ) from error
        except self._sqlite.Error as error:
            raise Misconfigured(
                f"The judge's cache {self.path} cannot be used: {error}.",
                hint="Delete it: what it knew is asked for again.",
            ) from error

    def _open(self) -> None:
        self._connection.execute("PRAGMA journal_mode=WAL")
        # A power cut may cost the last answers, which are only a cache; a kill costs nothing.
        self._connection.execute("PRAGMA synchronous=NORMAL")
        with self._writing() as connection:
            for statement in SCHEMA.split(";")[:-1]:
                connection.execute(statement)
            connection.execute(
                "INSERT OR IGNORE INTO secret VALUES (1, ?)", (secrets.token_bytes(32),)
            )
            oldest = (now() - timedelta(days=KEPT_DAYS)).date().isoformat()
            connection.execute("DELETE FROM answers WHERE day < ?", (oldest,))
            [row] = connection.execute("SELECT value FROM secret").fetchall()
        self.secret: bytes = bytes(row[0])
        """Random, made with the file: whoever does not have it cannot foresee a marker."""

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file. Safe to repeat."""
        with self._lock:
            self._connection.close()

    # --- answers --------------------------------------------------------------------------

    def key(self, *parts: str) -> str:
        """The name under which the answer to these is kept."""
        sizes = "".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self.secret, sizes.encode(), hashlib.sha256).hexdigest()

    def recall(self, key: str) -> bytes | None:
        """What is kept under a key, or None."""
        with self._failing(), self._lock:
            row = self._connection.execute(
                "SELECT value FROM answers WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                self._count("calls", "cached", 1)
        return None if row is None else bytes(row[0])

    def keep(self, key: str, value: bytes) -> bytes:
        """Keeps a value and returns the one that counts: another process may have been first."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", (key, value, _today())
            )
            [row] = connection.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchall()
        return bytes(row[0])

    # --- what it costs --------------------------------------------------------------------

    def begin(self, requests_per_day: int, tokens_per_day: int) -> bool:
        """Counts one request of today, unless that would be more than the budget; 0 is none."""
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO days VALUES (?, 0, 0)", (_today(),))
            begun = connection.execute(
                "UPDATE days SET requests = requests + 1 WHERE day = ?"
                " AND (? = 0 OR requests < ?) AND (? = 0 OR tokens < ?)",
                (_today(), requests_per_day, requests_per_day, tokens_per_day, tokens_per_day),
            ).rowcount
            self._count("calls", "pending" if begun else "over_budget", 1)
        return bool(begun)

    def end(self, result: str, prompt_tokens: int, answer_tokens: int, seconds: float) -> None:
        """Notes how a request that was begun has ended."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE days SET tokens = tokens + ? WHERE day = ?",
                (prompt_tokens + answer_tokens, _today()),
            )
            self._count("calls", "pending", -1)
            self._count("calls", result, 1)
            self._count("tokens", "prompt", prompt_tokens)
            self._count("tokens", "answer", answer_tokens)
            self._count("seconds", "", seconds)

    def _count(self, name: str, label: str, by: float) -> None:
        if by:
            self._connection.execute(
                "INSERT INTO counters VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET value = value + excluded.value",
                (name, label, by),
            )

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """A transaction. The write lock comes first, so that it never fails halfway."""
        with self._failing(), self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except self._sqlite.OperationalError as error:  # a full disk, or locked for too long
            raise Unavailable(
                f"The judge's cache {self.path} cannot be used now: {error}.",
                hint="Is the disk full? It is a cache: it may be deleted.",
            ) from error


class Costs(NamedTuple):
    """What a ledger has counted since it was made, and today."""

    counters: Mapping[tuple[str, str], float] = MappingProxyType({})
    """By (name, label): calls by result, tokens by kind, seconds."""
    today: Day = Day()


def costs(place: Path) -> Costs:
    """What the ledger in a folder says, read without changing it; nothing where there is none."""
    sqlite = sqlite_module()
    path = place / FILE
    if not path.is_file():
        return Costs()
    with suppress(sqlite.Error):
        connection = sqlite.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)
        try:
            rows = connection.execute("SELECT name, label, value FROM counters").fetchall()
            day = connection.execute(
                "SELECT requests, tokens FROM days WHERE day = ?", (_today(),)
            ).fetchone()
        finally:
            connection.close()
        return Costs({(name, label): value for name, label, value in rows}, Day(*(day or ())))
    return Costs()


def _today() -> str:
    return now().date().isoformat()
