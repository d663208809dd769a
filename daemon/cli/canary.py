"""Verbs on the release that is on trial: canary show, accept, rollback."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon import logs
from daemon.canary.watch import accept as take
from daemon.canary.watch import on_trial, seen
from daemon.cli.app import AsJson, OfLine, Reviewer, app, login, settings, show
from daemon.rollback import roll_back
from daemon.wiring import wire
from store.records import MAIN, Canary, Contrast

group = typer.Typer(
    help="The release that is on trial with people: how it does, accept it, roll it back.",
    no_args_is_help=True,
)
app.add_typer(group, name="canary")
Why = Annotated[str, typer.Option("--reason", help="Why; it stands in the log.")]


@group.command(name="show")
def show_canary(line: OfLine = MAIN, as_json: AsJson = False) -> None:
    """Show how the release on trial does beside its predecessor, by what is assessed now."""
    parts = wire(settings())
    found = seen(parts, on_trial(parts, line))
    show(found, as_json, lambda: "\n".join(told(found)))


@group.command()
def accept(reason: Why, line: OfLine = MAIN, by: Reviewer = None, as_json: AsJson = False) -> None:
    """Take the release on trial as it is: it gets all of its line's traffic."""
    logs.set_up()
    taken = take(wire(settings()), reason=reason, actor=by or login(), line=line)
    show(taken, as_json, lambda: f"{taken.release} serves alone on {line}.")


@group.command()
def rollback(
    reason: Why, line: OfLine = MAIN, by: Reviewer = None, as_json: AsJson = False
) -> None:
    """End the trial: the release before it, or the untouched base, serves alone again."""
    logs.set_up()
    parts = wire(settings())
    canary = on_trial(parts, line)
    gone = roll_back(parts, reason=reason, actor=by or login(), line=line, only=canary.release)
    show(
        {"line": line, "was": gone.id, "serves": gone.previous},
        as_json,
        lambda: f"{gone.previous or 'The untouched base'} serves again on {line}, not {gone.id}.",
    )


def told(canary: Canary) -> list[str]:
    """The trial, for people."""
    until = f"until {canary.until:%Y-%m-%d %H:%M} UTC"
    lines = [
        f"release      {canary.release} on {canary.line}, {canary.share:.0%} of the traffic",
        f"predecessor  {canary.predecessor}",
        f"state        {canary.state}, {until}" + (f" ({canary.detail})" if canary.detail else ""),
        f"answers      {canary.answers}, {canary.judged} judged",
    ]
    return lines + [_line(contrast) for contrast in canary.contrasts]


def _line(c: Contrast) -> str:
    beside = f"bound {c.allowed:g}" if c.other is None else f"{c.other:.3f} + {c.allowed:g}"
    return (
        f"{c.measure:<13}{c.value:.3f} on {c.n} against {beside}: evidence {c.evidence:.3g} of "
        f"{c.needed:.3g}{', worse' if c.crossed else ''}"
    )
