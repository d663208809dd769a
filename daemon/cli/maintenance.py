"""Verbs on the store itself: migrate, rebuild."""

from __future__ import annotations

import click
import typer

from daemon.cli.app import app, settings
from daemon.service import sole_daemon
from daemon.wiring import make_data, open_store
from store.errors import Halted

group = typer.Typer(help="The event store: migrate, rebuild.", no_args_is_help=True)
app.add_typer(group, name="store")


@group.command()
def migrate() -> None:
    """Bring the schema to the newest revision; the daemon does so at its start, too."""
    with open_store(settings()) as store:
        click.echo(f"{store.url} is at the newest revision, position {store.position()}.")


@group.command()
def rebuild() -> None:
    """Drop the projections, replay the log, and compare: both must hold the same."""
    configured = settings()
    with sole_daemon(make_data(configured)), open_store(configured) as store:
        before = store.projections_digest()
        replayed = store.rebuild()
        after = store.projections_digest()
    different = [name for name in before if before[name] != after[name]]
    if different:
        raise Halted(
            f"Replaying {replayed} events changed {', '.join(different)}.",
            hint="The rebuilt tables follow the log; the old ones did not. Please report this.",
        )
    click.echo(f"Replayed {replayed} events; all {len(after)} projections are as before.")
