"""How long people wait for a better release, and how long for the end of a worse one."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import msgspec
import tomlkit

from daemon import cycle, override
from daemon.rollback import roll_back
from daemon.wiring import Parts
from tests.benchmarks.figures import REPEATS, Figure, figure
from tests.contracts.promoting import parts_of
from tests.contracts.targets import ADAPTERS, Order, Site, on_this_machine
from tests.daemon.judging import judged
from trainer.adapter import FILES
from trainer.targets.archive import sync
from trainer.targets.target import Traffic

WEIGHTS_BYTES = 6_500_000
"""An adapter of the default recipe on the embedded base."""
MOST_SECONDS = 2.0
"""From the command to the release before."""
ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.001
PATIENCE_SECONDS = 60.0
NO_MODEL = "the probe's answers are given: what a model needs for them comes on top"
SITES: dict[str, Callable[[Path], AbstractContextManager[Site]]] = {
    "local": partial(on_this_machine, size=WEIGHTS_BYTES),
}
"""Where it is measured; a stand-in of a server says so in its name."""
SWITCH = "import os,sys; os.symlink('x',sys.argv[1]+'.n'); os.replace(sys.argv[1]+'.n',sys.argv[1])"


def promotion(folder: Path) -> list[Figure]:
    """Trigger to active, and back: as the daemon does it, and by the command line."""
    return [figure for name in SITES for figure in _at(name, folder / name)]


def _at(name: str, folder: Path) -> Iterator[Figure]:
    folder.mkdir()
    with SITES[name](folder) as site, _house(folder, site.order) as parts:
        up, copied = [], []
        for number in range(2 * REPEATS):
            adapter = ADAPTERS[number % len(ADAPTERS)]
            _judged(parts, site.order, number, adapter)
            up.append(_promoted(parts, site.order, number, adapter))
            copied.append(_copied(Path(site.order.adapters[adapter]), folder))
        here, linked = _back(parts, folder), _linked(folder)
        by_command, bare = _commanded(parts, site.order, folder), _bare(folder)
        wall, processor = map(list, zip(*by_command, strict=True))
    yield figure(
        f"{name}: trigger to active", "s", up, "copy and sync its bytes", copied, note=NO_MODEL
    )
    yield figure(f"{name}: rolled back by itself", "s", here, "switch and sync a link", linked)
    yield figure(
        f"{name}: rolled back by command", "s", wall, "a bare process that does", bare,
        asked="ours <=", bar=MOST_SECONDS,
    )  # fmt: skip
    yield figure(
        f"{name}: of that, processor time", "s", processor, "a bare process that does", bare,
        note="what the command takes on a machine that does nothing else",
    )  # fmt: skip


@contextmanager
def _house(folder: Path, order: Order) -> Iterator[Parts]:
    (folder / "data").mkdir(exist_ok=True)
    parts = parts_of(folder / "data", order)
    try:
        yield parts
    finally:
        parts.store.close()


def _judged(parts: Parts, order: Order, number: int, adapter: str) -> None:
    incumbent = None if number == 0 else f"release-{number - 1}"
    weights = Path(order.adapters[adapter])
    judged(parts, {}, name=str(number), incumbent=incumbent, ended="failed", adapter=weights)


def _promoted(parts: Parts, order: Order, number: int, adapter: str) -> float:
    given = order.references(adapter)
    with mock.patch.object(cycle, "_references", return_value=given):
        began = time.perf_counter()
        override.finish(parts, f"evaluation-{number}")
        took = time.perf_counter() - began
    _require(parts, f"release-{number}")
    return took


def _back(parts: Parts, _: Path) -> list[float]:
    took = []
    for _number in range(REPEATS):
        began = time.perf_counter()
        gone = roll_back(parts, reason="bench", actor="bench")
        took.append(time.perf_counter() - began)
        _require(parts, gone.previous)
    return took


def _commanded(parts: Parts, order: Order, folder: Path) -> list[tuple[float, float]]:
    """From the start of `bhavana rollback` until the target serves the release before; and the
    processor time of the whole command.
    """
    config = folder / "bhavana.toml"
    tree = {
        "data_dir": str(parts.settings.data),
        "trainer": {"base": order.base, "target": order.target},
        "targets": msgspec.to_builtins(order.settings),
    }
    config.write_text(tomlkit.dumps(tree))
    command = [sys.executable, "-m", "daemon", "--config", str(config), "rollback"]
    took = []
    for number in reversed(range(REPEATS)):
        wanted = Traffic(release=None if number == 0 else f"release-{number - 1}")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        child = subprocess.Popen([*command, "--reason", "bench"], cwd=ROOT, stdout=subprocess.PIPE)
        while parts.target.active() != wanted:
            if time.perf_counter() - began > PATIENCE_SECONDS or child.poll():
                raise RuntimeError(f"{wanted.release} did not come back")
            time.sleep(POLL_SECONDS)
        waited = time.perf_counter() - began
        child.communicate()
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append((waited, now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime))
    return took


def _require(parts: Parts, release: str | None) -> None:
    if parts.target.active() != Traffic(release=release):
        raise RuntimeError(f"{release} does not serve")


def _copied(adapter: Path, folder: Path) -> float:
    """The physical limit of a promotion: the bytes are there a second time, synced."""
    place = folder / "copied"
    began = time.perf_counter()
    place.mkdir()
    for name in FILES:
        shutil.copyfile(adapter / name, place / name)
        sync(place / name)
    sync(place)
    took = time.perf_counter() - began
    shutil.rmtree(place)
    return took


def _linked(folder: Path) -> list[float]:
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        (folder / "next").symlink_to("x")
        (folder / "next").replace(folder / "link")
        sync(folder)
        took.append(time.perf_counter() - began)
    return took


def _bare(folder: Path) -> list[float]:
    """A Python process that only switches a link."""
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", SWITCH, os.fspath(folder / "bare")], check=True)
        took.append(time.perf_counter() - began)
    return took
