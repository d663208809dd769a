"""The command line: `bhavana VERB`. Each file here holds the verbs of one errand."""

from __future__ import annotations

import sys

import click

from daemon.cli import (
    agreement,
    answers,
    chat,
    copies,
    counts,
    datasets,
    doctor,
    evaluations,
    files,
    heads,
    keys,
    loop,
    maintenance,
    people,
    policy,
    review,
    scoring,
    search,
    service,
    tags,
    train,
)
from daemon.cli.app import app
from store.errors import BhavanaError, Halted, Unavailable

EXIT_REJECTED, EXIT_HALTED, EXIT_UNAVAILABLE = 2, 3, 75
VERBS = (
    service,
    doctor,
    loop,
    train,
    evaluations,
    chat,
    answers,
    scoring,
    search,
    review,
    agreement,
    tags,
    counts,
    heads,
    datasets,
    policy,
    files,
    people,
    keys,
    maintenance,
    copies,
)
"""Importing them registers their verbs with the app."""


def main() -> None:
    """Runs the command line; our errors become one message and an exit code, never a traceback.

    2: the request or the configuration is wrong. 3: a cycle stopped or was held back, look at
    it. 75: try again later.
    """
    try:
        app()
    except BhavanaError as error:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"  next: {error.hint}", err=True)
        sys.exit(_code(error))


def _code(error: BhavanaError) -> int:
    if isinstance(error, Halted):
        return EXIT_HALTED
    return EXIT_UNAVAILABLE if isinstance(error, Unavailable) else EXIT_REJECTED
