"""Verbs that copy the store: backup, copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import typer

from daemon.cli.app import AsJson, progress, settings, show
from daemon.cli.maintenance import group, require_sound, summary
from daemon.wiring import read_store
from store import copies
from store.events import StoreReader


@group.command()
def backup(
    file: Annotated[Path, typer.Argument(help="An SQLite file that is not there yet.")],
    as_json: AsJson = False,
) -> None:
    """Copy the store into one file, beside the running daemon, and prove that it opens.

    To restore: stop the daemon, move the database and every file beside it that begins with
    its name out of the way, and put the backup in its place; for PostgreSQL, `bhavana store
    copy`. What was erased after the backup is in it still: erase it again.
    """
    with read_store(settings()) as store, progress() as on_progress:
        found = copies.backup(store, file.absolute(), on_progress=on_progress)
    show(found, as_json, lambda: summary(found))
    click.echo(f"{file} was opened and verified; keep it on another disk.", err=True)


@group.command(name="copy")
def copy_store(
    to: Annotated[
        str,
        typer.Option(help="URL of an empty database. Passwords: better in ~/.pgpass than here."),
    ],
    source: Annotated[
        str | None,
        typer.Option("--from", help="URL of the store to copy; else the configured one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a store into another database, such as from SQLite to PostgreSQL, and compare them.

    Everything is copied as it is, erased events and seals, too; the tables are replayed. Exit
    code 3 when source and copy have faults; they are listed.
    """
    opened = read_store(settings()) if source is None else StoreReader(source)
    with opened as store, progress() as on_progress:
        found = copies.copy(store, to, on_progress=on_progress)
    show(found, as_json, lambda: summary(found))
    require_sound(found, "The copy is equal to its source, but it")
