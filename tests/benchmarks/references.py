"""The references: the least that keeps the same promise, without a product around it.

`python -m tests.benchmarks.references FILE` serves single events: Starlette, msgspec and SQLite
(WAL, synchronous=FULL), one writer thread, group commit, 201 after the commit.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from store.engine import sqlite_module
from store.records import Experience

MOST_GROUPED = 1_000
TABLE = "CREATE TABLE IF NOT EXISTS raw (id TEXT NOT NULL UNIQUE, body BLOB NOT NULL)"
INSERT = "INSERT OR IGNORE INTO raw VALUES (?, ?)"


class _Waiting(NamedTuple):
    id: str
    body: bytes
    done: asyncio.Future[None]


def open_raw(path: Path) -> sqlite3.Connection:
    """A bare table of ids and bodies in a file of its own, with the pragmas that keep a promise."""
    connection: sqlite3.Connection = sqlite_module().connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(TABLE)
    return connection


def insert_raw(connection: sqlite3.Connection, rows: Sequence[tuple[str, bytes]]) -> None:
    """The rows in one commit."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(INSERT, rows)
    connection.execute("COMMIT")


def application(path: Path) -> Starlette:
    """One route that answers 201 when its event is committed."""
    waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
    decoder = msgspec.json.Decoder(Experience)

    def write(loop: asyncio.AbstractEventLoop) -> None:
        connection = open_raw(path)
        while True:
            group = [waiting.get()]
            while len(group) < MOST_GROUPED and not waiting.empty():
                group.append(waiting.get())
            insert_raw(connection, [(w.id, w.body) for w in group])
            loop.call_soon_threadsafe(_tell, group)

    def _tell(group: Sequence[_Waiting]) -> None:
        for one in group:
            if not one.done.done():  # its client may be gone
                one.done.set_result(None)

    writer: list[threading.Thread] = []

    async def record(request: Request) -> Response:
        body = await request.body()
        experience = decoder.decode(body)
        loop = asyncio.get_running_loop()
        if not writer:
            writer.append(threading.Thread(target=write, args=(loop,), daemon=True))
            writer[0].start()
        done = loop.create_future()
        waiting.put(_Waiting(experience.id, body, done))
        await done
        answer = msgspec.json.encode({"id": experience.id, "status": "recorded"})
        return Response(answer, status_code=201, media_type="application/json")

    return Starlette(routes=[Route("/v1/experiences", record, methods=["POST"])])


def main(path: Path) -> None:
    """Serves on a free port of loopback and prints its address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        application(path),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
