"""`python promoting.py`: promotes and rolls back in processes of their own, which can be killed.

The house's own code over a real store and a real target; only the model on this machine is a
stand-in, whose answers are given. Importing takes seconds, so it is done once here, before any
thread is made; each line on stdin, an order, is run in a forked child. At each point where a kill
would leave something else behind the child counts, and at the one it was told it kills itself:

    before and after each line of the journal, and each other record
    before and after each change of a file of the releases
    before and after each request that changes something on a server

Its end is told: the points it passed, or the signal that ended it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec

from daemon import cycle, override
from daemon.canary import watch
from daemon.canary.settings import CanarySettings
from daemon.rollback import roll_back
from daemon.serving import serve_what_is_recorded, settle
from daemon.settings import Settings, StoreSettings, TrainerSettings
from daemon.wiring import Parts, open_target
from store.events import Store
from tests.contracts.targets import Order

CHANGES = (
    "os.rename",
    "os.symlink",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "shutil.copyfile",
    "shutil.rmtree",
)
"""What Python tells of, before it does it."""
LATE = ("certifi", "httpcore", "trainer.gguf.lora", "trainer.targets.ollama.probe")
"""What targets load when they need it: here it is loaded once for all children."""
READS = ("/api/show", "/api/generate", "/api/chat")
"""POSTs that change nothing that lasts."""


class Points:
    """Counts the points of a run, and ends it at one of them."""

    def __init__(self, end_at: int) -> None:
        self.passed: list[str] = []
        self._end_at = end_at

    def pass_by(self, name: str) -> None:
        """One more; here it ends, where it is to."""
        self.passed.append(name)
        if len(self.passed) == self._end_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str, said: Callable[..., str]) -> None:
        """A point before and after each call."""
        inner = getattr(owner, name)

        def outer(*args: Any, **more: Any) -> Any:
            self.pass_by(f"before {said(*args)}")
            found = inner(*args, **more)
            self.pass_by(f"after {said(*args)}")
            return found

        setattr(owner, name, outer)

    def around_requests(self) -> None:
        """A point before and after each; what only reads, or only talks, leaves nothing behind."""
        send = httpx.Client.send

        def outer(client: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
            said = f"{request.method} {request.url.path}"
            changes = request.method not in ("GET", "HEAD") and not said.endswith(READS)
            if changes:
                self.pass_by(f"before {said}")
            response = send(client, request, **more)
            if changes:
                self.pass_by(f"after {said}")
            return response

        httpx.Client.send = outer  # type: ignore[method-assign]

    def watch_files(self, folder: Path) -> None:
        """A point before each change in this folder."""

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in CHANGES and any(str(folder) in str(a) for a in arguments):
                self.pass_by(f"before {event} {Path(str(arguments[0])).name}")

        sys.addaudithook(hook)


def parts_of(data: Path, order: Order, hours: float = 0) -> Parts:
    """What the daemon of this folder works with; a new release is on trial for so many hours."""
    settings = Settings(
        data_dir=str(data),
        store=StoreSettings(url=f"sqlite:///{data / 'bhavana.db'}"),
        trainer=TrainerSettings(base=order.base, target=order.target),
        targets=order.settings,
        canary=CanarySettings(hours=hours),
    )
    store = Store(settings.store_url)
    return Parts(settings=settings, store=store, target=open_target(settings, store))


def promote(parts: Parts, name: str) -> None:
    """As the verb does."""
    override.finish(parts, f"evaluation-{name}")


def go_back(parts: Parts, _: str) -> None:
    """As the verb does."""
    roll_back(parts, reason="test", actor="test")


def accept(parts: Parts, _: str) -> None:
    """As the verb does: the trial is over, for better."""
    watch.accept(parts, reason="test", actor="test")


def start(parts: Parts, name: str) -> None:
    """What the daemon does when it starts, and when a cycle ends without a promotion."""
    serve_what_is_recorded(parts)
    settle(parts, "main", f"release-{name}")


VERBS: dict[str, Callable[[Parts, str], None]] = {
    "promote": promote,
    "rollback": go_back,
    "accept": accept,
    "start": start,
}


def child(order: dict[str, Any]) -> list[str]:
    """Runs the order to its end, or to the point where it is killed."""
    where = msgspec.convert(order["order"], Order)
    points = Points(order["end_at"])
    parts = parts_of(Path(order["data"]), where, order["hours"])
    adapter = order["adapter"]
    cycle._references = lambda *_: where.references(adapter)  # type: ignore[assignment]
    cycle._report = lambda *_: None  # a page for people, made anew whenever it is asked for
    points.around(Store, "append", lambda _, facts, **__: ", ".join(map(_said, facts)))
    points.around_requests()
    points.watch_files(Path(order["data"]) / "releases")
    VERBS[order["verb"]](parts, order["name"])
    parts.store.close()
    return points.passed


def _said(fact: Any) -> str:
    noun = fact.noun
    return f"{noun.step} {noun.state}" if fact.type == "release.step" else fact.type


def main() -> None:
    """Serves until stdin ends."""
    for name in LATE:
        importlib.import_module(name)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what is logged is not an answer
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.alarm(120)  # whatever happens, it does not stay
            said: dict[str, Any] = {}
            try:
                said = {"points": child(order)}
            except BaseException as error:  # noqa: BLE001
                said = {"error": f"{type(error).__name__}: {error}"}
            os.write(writing, json.dumps(said).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(pid, 0)
        answer = json.loads(told or b"{}") | {"code": os.waitstatus_to_exitcode(status)}
        print(json.dumps(answer), file=out)


if __name__ == "__main__":
    main()
