"""The verb that looks at training: train."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import click
import typer

from daemon.cli.app import AsJson, app, settings, show
from daemon.settings import Settings
from daemon.training import follow as following
from daemon.training import job_folder
from store.errors import Rejected
from store.records import now
from trainer.launchers import LAUNCHERS
from trainer.launchers.launcher import Plan
from trainer.progress import Progress, progress_of

LINE_SECONDS = 10.0
"""Between two lines where the output is no terminal."""


@app.command()
def train(
    follow: Annotated[
        bool, typer.Option("--follow", help="Show step, loss and time left until it has ended.")
    ] = False,
    run: Annotated[
        str | None, typer.Option(help="Which training run, such as run-…; else the newest.")
    ] = None,
    launcher: Annotated[
        str | None,
        typer.Option(help=f"How to run it elsewhere: {', '.join(LAUNCHERS)}. With --dry-run."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the launcher would run or submit.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at a training run: where it is, how long it takes, how to run it elsewhere.

    Training is a step of a cycle, which `bhavana cycle` turns. What it learns from and how is
    trainer.recipe.method: sft, from answers; dpo, from corrections and preferences; kto, from
    decisions and thumbs. The last two need TRL (the extra `preference`).

    With --launcher, a command, a Slurm script or a Kubernetes manifest for the run's folder is
    printed, for a daemon that was stopped while it trained: `| sbatch` or `| kubectl apply -f -`
    submits it, and the daemon, started again, goes on with the adapter that it left in the folder.

    Exit code 0: it goes well or has ended so. 3: it failed; the reason is printed.
    """
    configured = settings()
    folder = job_folder(configured.data, run)
    if launcher is not None or dry_run:
        click.echo(_plan(configured, folder, launcher, dry_run), nl=False)
        return
    found = _follow(folder) if follow else progress_of(folder)
    show(found, as_json, lambda: _ending(found))
    if found.is_over and not found.finished:
        raise typer.Exit(3)


def _plan(configured: Settings, folder: Path, launcher: str | None, dry_run: bool) -> str:
    if launcher is None or launcher not in LAUNCHERS:
        raise Rejected(
            f"There is no launcher {launcher!r}." if launcher else "--dry-run of which launcher?",
            hint=f"Name one with --launcher: {', '.join(LAUNCHERS)}.",
        )
    if not dry_run:
        raise Rejected(
            "A launcher only prints what is to be run.",
            hint=f"`bhavana train --launcher {launcher} --dry-run`, and hand it over from there.",
        )
    trainer = configured.trainer
    plan = Plan(folder=folder, data=configured.data, launch=trainer.launch, limits=trainer.limits)
    return LAUNCHERS[launcher](plan)


def _follow(folder: Path) -> Progress:
    """Shows the job until it has ended: one line that changes, or a line each few seconds."""
    terminal, shown, told = sys.stderr.isatty(), "", -LINE_SECONDS
    for found in following(folder):
        line = found.line(now())
        if line == shown or (not terminal and time.monotonic() - told < LINE_SECONDS):
            continue
        click.echo(f"\r\033[K{line}" if terminal else line, err=True, nl=not terminal)
        shown, told = line, time.monotonic()
    if terminal:
        click.echo("", err=True)
    return found


def _ending(found: Progress) -> str:
    lines = [f"{found.job}: {_state(found, now())}"]
    if found.isolation:
        lines.append(f"  attempt {found.attempts}, held by {found.isolation}")
    lines += [f"  {path}" for path in _pictures(Path(found.path))]
    return "\n".join(lines)


def _state(found: Progress, moment: datetime) -> str:
    if found.finished:
        return f"done, {found.line(moment)}"
    if found.is_over:
        return f"{found.outcome}. {found.said}"
    if found.at_work:
        return f"{found.line(moment)}. `bhavana train --follow` stays with it."
    return "nobody works on it. `bhavana serve` or `bhavana cycle` goes on with it."


def _pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))
