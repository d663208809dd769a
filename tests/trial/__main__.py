"""`make gate-trial`: tries to get wrong adapters through the gates, and right ones, too.

`python -m tests.trial` makes 8 right and 19 wrong candidates of SmolLM2-135M, judges each as a
cycle would, and ends with 0 only when no wrong one was let through and at most one right one was
held back. Inconclusive is held back. It takes hours on two cores the first time; everything is
kept in the folder, and a trial that was killed goes on.

`python -m tests.trial make` only makes them, and `python -m tests.trial base` judges the untouched
base against itself, with answers drawn by another seed each time.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from store.errors import BhavanaError, Unavailable
from tests.trial import against_itself, trial
from tests.trial.candidates import RIGHT, WRONG
from tests.trial.making import Workshop
from tests.trial.result import table
from trainer import base as bases
from trainer.launchers.launcher import ROOT

BASE = "smollm2-135m"
FOLDER = ROOT / ".trial"
STOPPED = 75


def main() -> int:
    """0 when the gates held."""
    asked = parsed(sys.argv[1:])
    if asked.list:
        for name, candidate in (RIGHT | WRONG).items():
            print(f"{'right' if name in RIGHT else 'wrong':6} {name:20} {candidate.about}")
        return 0
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    asked.folder.mkdir(parents=True, exist_ok=True)
    try:
        shop = Workshop(
            folder=asked.folder.resolve(), base=bases.locate(asked.base), say=_say, stop=stop
        )
        return run(asked, shop)
    except Unavailable as error:
        print(f"stopped: {error}", file=sys.stderr)
        return STOPPED
    except BhavanaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(asked: argparse.Namespace, shop: Workshop) -> int:
    """Does what was asked; 1 when the gates did not hold."""
    if asked.what == "base":
        held, lines = against_itself.run(shop, asked.seeds)
        print("\n".join(lines))
        return int(not held)
    if asked.what == "make":
        trial.make(shop, asked.only)
        return 0
    found = trial.run(shop, asked.only, asked.json or shop.folder / "result.json")
    print("\n".join(["", *table(found)]))
    return int(not found.held)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.trial",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=("trial", "make", "base"), default="trial")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where all is kept (.trial/)")
    parser.add_argument("--base", default=BASE, help=f"another base model ({BASE})")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this candidate; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="name the candidates")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    parser.add_argument("--seeds", type=int, default=20, help="of `base` (20)")
    asked = parser.parse_args(arguments)
    unknown = set(asked.only) - set(RIGHT | WRONG)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; --list names them")
    return asked


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
