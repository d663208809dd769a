"""Verbs on what was judged: evaluations list, evaluations show, and promote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import typer
from msgspec.structs import replace

from daemon import logs, report
from daemon.cli.app import AsJson, DryRun, ProgressLine, app, login, settings, show
from daemon.evaluations import EvaluationBrief, listed, shown
from daemon.override import finish, foretell
from daemon.override import override as by_word
from daemon.wiring import open_store, wire
from store.errors import NotFound, Rejected
from store.records import Outcome, Release
from trainer.job import write_atomically
from trainer.report.facts import facts_of
from trainer.report.page import page
from trainer.report.table import lines

group = typer.Typer(
    help="What the gates judged: which candidates, with which verdicts, and why.",
    no_args_is_help=True,
)
app.add_typer(group, name="evaluations")


@group.command(name="list")
def list_evaluations(as_json: AsJson = False) -> None:
    """List every evaluation, newest first: how it ended, and what was promoted by whose word."""
    with open_store(settings()) as store:
        found = listed(store)
    show(
        found,
        as_json,
        lambda: "\n".join(map(_line, found.evaluations)) or "None yet; `bhavana cycle` turns one.",
    )


@group.command(name="show")
def show_evaluation(
    evaluation: Annotated[str | None, typer.Argument(help="Else the newest.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the page with pictures and transcripts there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show one evaluation: verdicts, differences, what is not settled, what it stands on.

    The page needs nothing else to be looked at; the evaluation's folder holds it, too.
    """
    with open_store(settings()) as store:
        newest = listed(store).evaluations[:1]
        if evaluation is None and not newest:
            raise NotFound("No candidate was judged yet.", hint="`bhavana cycle` turns the loop.")
        facts = facts_of(store, evaluation or newest[0].id)
        told = shown(store, facts.evaluation.id)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(html, page(facts).encode())
        click.echo(f"{html} holds the page.", err=True)
    table = report.table(facts.evaluation.verdicts)
    show(told, as_json, lambda: "\n".join([*table, "", *lines(facts)]))


@app.command()
def promote(
    evaluation: Annotated[str, typer.Argument(help="As `bhavana evaluations list` shows it.")],
    override: Annotated[
        bool, typer.Option("--override", help="Although gates held it back; needs --reason.")
    ] = False,
    reason: Annotated[
        str, typer.Option(help="Why; it stays with the release for ever, for all to see.")
    ] = "",
    actor: Annotated[
        str | None,
        typer.Option("--actor", help="Who decides; else the name you are logged in by."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put an evaluated candidate into service: published and probed, as a cycle does it.

    With --override a person answers for one that did not pass. What erred at a gate nobody can
    overrule, nor what was compared with another release than serves now.
    """
    if reason and not override:
        raise Rejected("A reason is for an override.", hint="Say --override, too.")
    logs.set_up()
    if dry_run:
        parts = wire(settings(), tell=click.echo)
        who = (actor or login()) if override else ""
        foretell(parts, evaluation, click.echo, actor=who, reason=reason, overridden=override)
        parts.store.close()
        return
    line = ProgressLine()
    parts = replace(wire(settings()), watch=line)
    try:
        if override:
            release = by_word(parts, evaluation, actor=actor or login(), reason=reason)
        else:
            release = finish(parts, evaluation)
    finally:
        line.end()
        parts.store.close()
    show(release, as_json, lambda: _promoted(release))


def _line(e: EvaluationBrief) -> str:
    held = [f"{gate} {o.value}" for gate, o in e.outcomes.items() if o is not Outcome.PASS]
    ended = "passed" if e.passed else f"held back ({', '.join(held) or 'no gate was asked'})"
    word = "" if e.overridden is None else f" by the word of {e.overridden.actor}"
    became = "" if e.release is None else f", promoted{word} as {e.release}"
    return f"{e.id}  {e.finished_at:%Y-%m-%d %H:%M}  {ended}{became}"


def _promoted(release: Release) -> str:
    word = release.overridden
    by = "" if word is None else f", by the word of {word.actor}, which stays with it"
    return f"{release.id} serves at {release.target}{by}."
