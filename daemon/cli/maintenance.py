"""Verbs on the store itself: migrate, rebuild, verify, accept a loss, stats, retain."""

from __future__ import annotations

from typing import Annotated

import click
import typer

from daemon import erasure
from daemon.cli.app import AsJson, app, progress, settings, show
from daemon.service import sole_daemon
from daemon.wiring import make_data, open_store, read_store
from store import losses
from store.errors import Halted, StorageFault
from store.records import now
from store.stats import stats
from store.verify import Verification
from store.verify import verify as verify_all

ACTOR = "cli"
group = typer.Typer(
    help="The event store: whether it is whole, copies of it, what it keeps.",
    no_args_is_help=True,
)
app.add_typer(group, name="store")


@group.command()
def migrate() -> None:
    """Bring the schema to the newest revision; the daemon does so at its start, if it may."""
    with open_store(settings(), migrates=True) as store:
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


@group.command()
def verify(as_json: AsJson = False) -> None:
    """Check the whole store: database, every event, the chain, the mark, the projections.

    Changes nothing, and may run beside the daemon. Exit code 3 when something is wrong; each
    fault says what to do.
    """
    try:
        with read_store(settings()) as store, progress() as on_progress:
            found = verify_all(store, on_progress)
    except StorageFault as error:
        raise Halted(error.message, hint=error.hint) from error
    show(found, as_json, lambda: summary(found))
    require_sound(found, "The store")


def summary(found: Verification) -> str:
    """What was checked, in one line; nothing is left to say where there are faults."""
    mark = "" if found.high_water is None else f", high-water mark {found.high_water}"
    return (
        f"{found.events} events ({found.erased} erased), {found.seals} seals, head "
        f"{found.head}{mark}, {len(found.faults)} faults. Chain {found.chain}."
    )


def require_sound(found: Verification, what: str) -> None:
    """Raises Halted listing the faults, if there are any."""
    if found.faults:
        listed = "\n".join(f"  - {fault}" for fault in found.faults)
        raise Halted(f"{what} is not whole:\n{listed}")


@group.command(name="accept-loss")
def accept_loss(
    reason: Annotated[str, typer.Option(help="Kept in the log: what happened, who decided.")],
    as_json: AsJson = False,
) -> None:
    """Accept that events are gone for good, so that the loop turns again without them.

    Where a backup has them, restore it instead. What is accepted stays in the log.
    """
    with open_store(settings()) as store:
        gaps = losses.accept(store, reason=reason, actor=ACTOR)
    text = f"Accepted as lost: {losses.listed(gaps)}." if gaps else "Nothing is missing."
    show([gap._asdict() for gap in gaps], as_json, lambda: text)


@group.command(name="stats")
def show_stats(as_json: AsJson = False) -> None:
    """Count events by type, rows by table, and bytes on the disk."""
    with read_store(settings()) as store:
        found = stats(store)

    def text() -> str:
        counted = f"{sum(found.events.values())}, {found.erased} of them erased"
        if found.oldest and found.newest:
            counted += f", {found.oldest:%Y-%m-%d} to {found.newest:%Y-%m-%d}"
        parts = (("events", found.events), ("rows", found.rows), ("bytes", found.bytes))
        lines = [f"events: {counted}"]
        for title, counts in parts:
            lines += ["", title]
            lines += [f"  {name:24}{count:>15}" for name, count in counts.items()]
        return "\n".join(lines)

    show(found, as_json, text)


@group.command()
def retain(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be erased. Begin with this.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase what was kept for as long as [retention] says; the daemon does so once a day.

    By age and consent, from the store and every dataset. The words cannot be brought back.
    """
    configured = settings()
    with open_store(configured) as store:
        done = erasure.retain(
            store, configured.retention, moment=now(), actor=ACTOR, dry_run=dry_run
        )
    show(done, as_json, lambda: _told(done))


def _told(done: erasure.Retained) -> str:
    state = "would be erased" if done.dry_run else "erased"
    counts = (
        f"{done.consented} experiences with consent and {done.unconsented} without {state} "
        "for their age."
    )
    rows = [f"{name}: {count} rows" for name, count in done.dataset_rows.items()]
    return "\n".join([counts, *rows, *done.remains])
