"""The verb that undoes a promotion; loads nothing else, so that it is quick."""

from __future__ import annotations

from typing import Annotated

import click
import typer

from daemon import logs
from daemon.cli.app import AsJson, DryRun, OfLine, Reviewer, app, login, settings, show
from daemon.rollback import foretell, roll_back
from daemon.wiring import wire
from store.records import MAIN

__all__ = ["app", "rollback"]


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; it stands in the log.")],
    line: OfLine = MAIN,
    by: Reviewer = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put the release before the current one back into service, or the untouched base."""
    logs.set_up()
    if dry_run:
        foretell(wire(settings(), tell=click.echo), click.echo, line=line)
        return
    parts = wire(settings())
    gone = roll_back(parts, reason=reason, actor=by or login(), line=line)
    show(
        {"line": line, "was": gone.id, "serves": gone.previous},
        as_json,
        lambda: f"{gone.previous or 'The untouched base'} serves again on {line}, not {gone.id}.",
    )
