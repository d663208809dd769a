"""Verbs on the panel's fitted heads: what is at work, refit, reset."""

from __future__ import annotations

from typing import Annotated, Any

import click
import msgspec
import typer

from daemon.cli.app import AsJson, app, progress, settings, show
from daemon.oversight import health
from daemon.refit import refit as try_refit
from daemon.refit import reset as reset_heads
from daemon.wiring import wire
from scorers.lessons import LEAST_LABELS
from store import refits, reviews
from store.records import Refit

group = typer.Typer(
    help="The heads of the panel that learn from reviews: what is at work, refit, reset.",
    no_args_is_help=True,
)
app.add_typer(group, name="heads")


@group.command(name="show")
def show_heads(as_json: AsJson = False) -> None:
    """Which heads are at work, how the panel does by people's word, and the last refit."""
    parts = wire(settings())
    panel = parts.settings.panel
    found = health(parts.store, panel, parts.settings.oversight)
    last = refits.last(parts.store)
    told: dict[str, Any] = {
        "folder": str(panel.heads),
        "refitted": bool(panel.refitted_dir),
        "reviews": reviews.count(parts.store),
        "health": found,
        "last_refit": last and msgspec.structs.replace(last, members=()),
    }

    def text() -> str:
        drift = ", ".join(f"{name} {value:.2f}" for name, value in found.drift.items())
        whose = "of a refit" if panel.refitted_dir else "as configured"
        total = sum(told["reviews"].values())
        lines = [
            f"heads        {whose}, {panel.heads}",
            f"reviews      {total}, {found.labels} of them random and judged",
            f"calibration  {_number(found.calibration_error, 'expected error')}",
            f"agreement    {_number(found.agreement, 'AUROC')}",
            f"drift        {drift or 'too few answers to say'}",
            *(f"alarm        {alarm}" for alarm in found.alarms),
        ]
        return "\n".join([*lines, *_told(last)])

    show(told, as_json, text)


@group.command()
def refit(
    again: Annotated[
        bool, typer.Option("--again", help="Even if it was tried with the same reviews.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Try now whether people's reviews make better heads; the service tries each night.

    They go to work only if they are better on answers drawn at random, no worse on the written
    cases, and the panel passes its self-test with them. A running service takes them up by
    itself. Exit code 3: nothing was put to work.
    """
    parts = wire(settings())
    with progress() as told:
        told("fitting", 0, 0)
        tried = try_refit(parts, again=again)
    if tried is None:
        click.echo(
            f"Nothing to try: fewer than {LEAST_LABELS} reviews of what may be learned from, or "
            "the same as last time (--again tries them)."
        )
        raise typer.Exit(3)
    show(tried, as_json, lambda: "\n".join(_told(tried)))
    if tried.outcome != "promoted":
        raise typer.Exit(3)


@group.command()
def reset(
    reason: Annotated[str, typer.Option(help="Kept in the log.")], as_json: AsJson = False
) -> None:
    """Take refitted heads from work: those of the configuration serve again."""
    done = reset_heads(wire(settings()), reason)
    show(done, as_json, lambda: "The heads of the configuration are at work.")


def _told(last: Refit | None) -> list[str]:
    if last is None:
        return ["last refit   none yet"]
    lines = [f"last refit   {last.id}: {last.outcome} ({last.reason})"]
    for name, figures in last.figures.items():
        shown = ", ".join(f"{key} {value:.3f}" for key, value in figures.items())
        lines.append(f"  {name}: {shown}")
    return lines


def _number(value: float | None, unit: str) -> str:
    return "too few reviews to say" if value is None else f"{value:.3f} {unit}"
