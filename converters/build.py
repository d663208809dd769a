"""The build of a dataset in a process of its own: what it loads is gone when it ends.

A long selection would take the interpreter from those who record meanwhile.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from converters.build_preferences import build_preferences
from converters.dataset import build
from converters.selection import Asked
from scorers.apart import ask
from store import errors
from store.errors import BhavanaError
from store.events import StoreReader
from store.orphans import end_without_parent
from store.records import Dataset, Identifier, Noun, to_json

NICENESS = 10
"""The daemon's own work goes first."""
LONGEST = 6 * 3600.0
"""Seconds after which it is taken for hung: a million rows take minutes, and looking for
paraphrases 25 ms a row."""


class Order(Noun, frozen=True, kw_only=True):
    """What is to be built, from which store, and where."""

    store: str
    """SQLAlchemy URL."""
    high_water: str | None
    """File of the high-water mark, where it is not beside SQLite's file."""
    folder: str
    asked: Asked
    dataset_id: Identifier
    cycle_id: Identifier
    format: str = "chat"
    """Or one of what people prefer."""


class Outcome(Noun, frozen=True, kw_only=True):
    """The dataset, or why there is none."""

    dataset: Dataset | None = None
    fault: str = ""
    """Name of one of the errors of the house."""
    message: str = ""
    hint: str | None = None


def build_apart(order: Order, stop: threading.Event | None = None) -> Dataset:
    """The record of the dataset that a child process built; the caller leaves it.

    Raises what `build` raises, ChildFailed, and Unavailable when `stop` was set.
    """
    outcome = ask("converters.build", order, Outcome, seconds=LONGEST, stop=stop)
    if outcome.dataset is None:
        raise getattr(errors, outcome.fault)(outcome.message, hint=outcome.hint)
    return outcome.dataset


def answer(order: Order) -> Outcome:
    """The same in this process."""
    mark = None if order.high_water is None else Path(order.high_water)
    try:
        store = StoreReader(order.store, high_water=mark)
        folder, ids = (
            Path(order.folder),
            {"dataset_id": order.dataset_id, "cycle_id": order.cycle_id},
        )
        if order.format == "chat":
            dataset = build(store, folder, order.asked, **ids)
        else:
            dataset = build_preferences(store, folder, order.asked, format=order.format, **ids)
    except BhavanaError as error:
        return Outcome(fault=type(error).__name__, message=error.message, hint=error.hint)
    store.close()
    return Outcome(dataset=dataset)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answers the order on stdin."""
    parser = argparse.ArgumentParser(
        prog="python -m converters.build",
        description="Builds a dataset; the cycle asks it to.",
    )
    parser.add_argument("--json", action="store_true", help="JSON in, JSON out: the only way")
    parser.parse_args(arguments)
    end_without_parent()
    os.nice(NICENESS)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(to_json(answer(order)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
