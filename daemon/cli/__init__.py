"""The command line: `bhavana VERB`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from store.errors import BhavanaError, Halted, Unavailable

EXIT_REJECTED, EXIT_HALTED, EXIT_UNAVAILABLE = 2, 3, 75
HURRIED = {"rollback": "daemon.cli.rollback"}
"""Verbs that load their own file alone: harm is undone as fast as this process starts."""
ALL = "daemon.cli.verbs"
SPINS = "GOMP_SPINCOUNT", "10000"
"""How many turns a thread of torch waits awake for the others, here and in every child. With
libgomp's own 300,000 a step of training on two cores of which another process uses one took more
than 13 times as long (with these 3.3 times), because threads wait for one that is not running; on
quiet cores these cost 3 %."""


def main() -> None:
    """Runs the command line; our errors become one message and an exit code, never a traceback.

    2: the request or the configuration is wrong. 3: a cycle stopped or was held back, look at
    it. 75: try again later.
    """
    os.environ.setdefault(*SPINS)
    try:
        importlib.import_module(HURRIED.get(_verb(sys.argv[1:]), ALL)).app()
    except BhavanaError as error:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"  next: {error.hint}", err=True)
        sys.exit(_code(error))


def _verb(arguments: Sequence[str]) -> str:
    """The first word that is no option, nor the value of the one that has one before a verb."""
    words = iter(arguments)
    for word in words:
        if word == "--config":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def _code(error: BhavanaError) -> int:
    if isinstance(error, Halted):
        return EXIT_HALTED
    return EXIT_UNAVAILABLE if isinstance(error, Unavailable) else EXIT_REJECTED
