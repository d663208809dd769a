"""Verbs about people and where they come from: erase, consent, sources."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

import click
import typer

from daemon import logs
from daemon.cli.app import AsJson, Poisoned, app, settings, show, told_of
from daemon.erasure import Receipt
from daemon.erasure import erase as erase_everywhere
from daemon.revocation import tell_poison
from daemon.wiring import open_store, wire
from store import experiences, sources
from store.errors import Rejected
from store.privacy import Scope
from store.records import ConsentChange, Tier, new_id, now

ACTOR = "cli"
group = typer.Typer(
    help="Where experiences come from, and how far each source is trusted.", no_args_is_help=True
)
app.add_typer(group, name="sources")

OfExperience = Annotated[str | None, typer.Option("--experience", help="Its id.")]
OfConversation = Annotated[str | None, typer.Option("--conversation", help="Its id.")]
OfSubject = Annotated[
    str | None, typer.Option("--subject", help="The person's pseudonym, as the frontend sends it.")
]


@app.command()
def erase(
    experience: OfExperience = None,
    conversation: OfConversation = None,
    subject: OfSubject = None,
    reason: Annotated[str, typer.Option(help="Kept in the log.")] = "asked for by the person",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be erased. Begin with this.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase what a person said, from the store and every dataset; prints a receipt.

    The words cannot be brought back. What learned from them is named: the next cycle trains
    without them.
    """
    scope, name = _one(experience, conversation, subject)
    with open_store(settings()) as store:
        receipt = erase_everywhere(store, scope, name, reason=reason, actor=ACTOR, dry_run=dry_run)
    show(receipt, as_json, lambda: _told(receipt))


@app.command()
def consent(
    training: Annotated[
        bool, typer.Option("--give/--withdraw", help="Give or withdraw consent to training.")
    ],
    experience: OfExperience = None,
    conversation: OfConversation = None,
    subject: OfSubject = None,
    policy: Annotated[
        str | None, typer.Option(help="The version of the text that the person agreed to.")
    ] = None,
) -> None:
    """Give or withdraw consent to training; counts from the next selection on."""
    scope, name = _one(experience, conversation, subject)
    change = ConsentChange(
        id=new_id("consent"),
        scope=scope,
        scope_id=name,
        training=training,
        changed_at=now(),
        policy=policy,
    )
    with open_store(settings()) as store:
        experiences.change_consent(store, change, actor=ACTOR)
    click.echo(f"Consent of the {scope} {name} is {'given' if training else 'withdrawn'}.")


@group.command(name="list")
def list_sources(as_json: AsJson = False) -> None:
    """List the sources with their trust and how much they posted."""
    with open_store(settings()) as store:
        counts = experiences.count_by_source(store)
        known = {source.name: source for source in sources.listed(store)}
        tiers = sources.tiers(store, as_of=store.position(), moment=now())
    shown = [
        {
            "name": name,
            "tier": tiers[name],
            "quarantined_until": known[name].quarantined_until if name in known else None,
            "experiences": counts.get(name, 0),
        }
        for name in sorted(known.keys() | counts.keys())
    ]

    def text() -> str:
        return (
            "\n".join(
                f"{s['name']:24}  {s['tier']:12}  {s['experiences']:>9} experiences"
                + (
                    f"  until {s['quarantined_until']:%Y-%m-%d %H:%M} UTC"
                    if s["tier"] == "quarantined" and s["quarantined_until"]
                    else ""
                )
                for s in shown
            )
            or "No sources yet; `bhavana keys create --source NAME` begins one."
        )

    show(shown, as_json, text)


@group.command(name="set")
def set_tier(
    name: Annotated[str, typer.Argument(help="As `bhavana sources list` shows it.")],
    tier: Annotated[
        Literal["quarantined", "untrusted", "trusted"],
        typer.Argument(
            help="quarantined: recorded, not learned from. untrusted: narrow caps. trusted: "
            "only the caps for each person."
        ),
    ],
    days: Annotated[
        float | None, typer.Option(min=0, help="A quarantine's length; else until you end it.")
    ] = None,
    poisoned: Poisoned = None,
) -> None:
    """Set how far a source is trusted, from the next selection on."""
    if tier != "quarantined" and (days is not None or poisoned is not None):
        raise Rejected("--days and --poisoned are for a quarantine.")
    until = None if days is None else now() + timedelta(days=days)
    chosen: Tier = tier
    parts = wire(settings())
    sources.change(parts.store, name, chosen, actor=ACTOR, until=until)
    click.echo(f"{name} is {tier}.")
    if poisoned is not None:
        logs.set_up()
        marked = tell_poison(parts, "source", name, reason=poisoned, actor=ACTOR)
        click.echo(told_of(marked))


def _one(
    experience: str | None, conversation: str | None, subject: str | None
) -> tuple[Scope, str]:
    given: list[tuple[Scope, str]] = []
    scopes: tuple[tuple[Scope, str | None], ...] = (
        ("experience", experience),
        ("conversation", conversation),
        ("subject", subject),
    )
    given = [(scope, name) for scope, name in scopes if name is not None]
    if len(given) != 1:
        raise Rejected("Name one of --experience, --conversation, --subject.")
    return given[0]


def _told(receipt: Receipt) -> str:
    done = "would be erased" if receipt.dry_run else "erased"
    counts = (
        f"{receipt.experiences} experiences, {receipt.feedback} feedback, "
        f"{receipt.assessments} assessments, {receipt.reviews} reviews, {receipt.tags} tags, "
        f"{receipt.consent_changes} consent changes {done}."
    )
    rows = [f"{name}: {rows} rows" for name, rows in receipt.dataset_rows.items()]
    return "\n".join([counts, *rows, *receipt.remains])
