"""Verbs that look at what is recorded: search, show."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import click
import typer

from daemon.cli.app import AsJson, app, settings, show
from daemon.wiring import at_work, open_store
from scorers.panel import panel_id
from store import dossiers
from store.dossiers import Dossier
from store.records import Assessment, Category, Decision, Difficulty, Experience, Feedback, Label
from store.search import Filter, Hit
from store.search import search as search_all


@app.command()
def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(help="All of them must be there; in quotes, a phrase is one."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only from this source.")] = None,
    category: Annotated[Category | None, typer.Option(help="Only of this category.")] = None,
    difficulty: Annotated[Difficulty | None, typer.Option(help="Only so difficult ones.")] = None,
    label: Annotated[Label | None, typer.Option(help="Only with this label by the panel.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    decision: Annotated[
        Decision | None, typer.Option(help="Only where people last decided so.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Find experiences by words in messages and response, the newest first.

    Upper and lower case are alike, and a word may be a part of another one. Without words: the
    newest experiences that the options leave.
    """
    only = Filter(
        source=source,
        category=category,
        difficulty=difficulty,
        label=label,
        tag=tag,
        decision=decision,
    )
    configured = settings()
    with open_store(configured) as store:
        panel = panel_id(at_work(configured, store).panel)
        hits = list(islice(search_all(store, words or (), panel=panel, only=only), limit))
    show(hits, as_json, lambda: "\n".join(map(_line, hits)) or "Nothing is found.")
    if len(hits) == limit and not as_json:
        click.echo(f"The newest {limit}; there may be more: --limit.", err=True)


@app.command(name="show")
def show_one(
    experience_id: Annotated[str, typer.Argument(help="As `bhavana search` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show one experience with all that was said of it, and the datasets that hold it."""
    configured = settings()
    with open_store(configured) as store:
        panel = panel_id(at_work(configured, store).panel)
        found = dossiers.get(store, experience_id, panel=panel)
    show(found, as_json, lambda: _told(found))


def conversation(e: Experience) -> list[str]:
    """What was said, for people to read."""
    said = [f"{message.role}: {message.content}" for message in e.messages]
    return [*said, "", f"answer: {e.response}"]


def judged(a: Assessment) -> list[str]:
    """What the panel says, for people to read."""
    harm = ", ".join(f"{name} {value:.2f}" for name, value in a.harm.items())
    label = "none" if a.label is None else a.label.value
    lines = [f"panel: {harm or 'no harm known'}; label {label}"]
    if a.doubts or a.abstained:
        lines.append(f"unsure: {', '.join((*a.doubts, *a.abstained))}")
    return lines


def _line(hit: Hit) -> str:
    marks = [hit.decision or "", *(f"#{tag}" for tag in hit.tags)]
    marked = " ".join(mark for mark in marks if mark)
    label = "-" if hit.label is None else hit.label.value
    return (
        f"{hit.id}  {hit.occurred_at:%Y-%m-%d %H:%M}  {hit.source}  {label}"
        f"{'  ' if marked else ''}{marked}\n    {hit.snippet}"
    )


def _told(d: Dossier) -> str:
    e = d.experience
    of = [name for name in (e.context.category, e.context.difficulty) if name]
    lines = [
        f"{e.id}  {e.occurred_at:%Y-%m-%d %H:%M} UTC  from {e.source}, position {d.position}",
        f"consent to training: {'yes' if d.consented else 'no'}",
    ]
    lines += [f"category: {', '.join(of)}"] if of else []
    lines += [f"tags: {', '.join(d.tags)}"] if d.tags else []
    lines += [f"datasets: {', '.join(d.datasets)}"] if d.datasets else []
    lines += ["", *conversation(e), ""]
    lines += ["panel: has not assessed it yet"] if d.assessment is None else judged(d.assessment)
    lines += [f"feedback: {_feedback(f)}" for f in d.feedback]
    for r in d.reviews:
        harms = f", {', '.join(r.harms)}" if r.harms else ""
        lines.append(f"review: {r.decision}{harms} by {r.reviewer}: {r.reason}")
        lines += [f"better: {r.text}"] if r.text else []
    return "\n".join(lines)


def _feedback(f: Feedback) -> str:
    parts = [f.kind, "" if f.value is None else f"{f.value:g}", f.text or ""]
    on = "" if f.conversation_id is None else "on the whole conversation"
    return " ".join(part for part in (*parts, on) if part)
