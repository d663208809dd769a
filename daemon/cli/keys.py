"""Verbs on API keys: create, rotate, list, revoke."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import click
import msgspec
import typer

from daemon import logs
from daemon.cli.app import AsJson, Poisoned, app, settings, show, told_of
from daemon.revocation import tell_poison
from daemon.wiring import open_store, wire
from store import keys, privacy
from store.events import Store
from store.records import ApiKey, now

ACTOR = "cli"
KeyId = Annotated[str, typer.Argument(help="As `bhavana keys list` shows it.")]
group = typer.Typer(help="API keys: create, rotate, list, revoke.", no_args_is_help=True)
app.add_typer(group, name="keys")


def _store() -> Store:
    return open_store(settings())


@group.command()
def create(
    scope: Annotated[
        list[str], typer.Option(help=f"May be given again. One of: {', '.join(keys.SCOPES)}.")
    ],
    name: Annotated[str, typer.Option(help="Who will use it, for the list.")] = "unnamed",
    source: Annotated[
        str | None,
        typer.Option(help="What it posts belongs to this source. A new one begins in quarantine."),
    ] = None,
    publishable: Annotated[
        bool, typer.Option("--publishable", help="May stand in a web page: it only writes.")
    ] = False,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Web origin for a publishable key, may be given again."),
    ] = None,
    expires_days: Annotated[
        float | None, typer.Option(min=0, help="Days until it ends; never, if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once; only its hash is stored."""
    with _store() as store:
        key, text = keys.create(
            store,
            name=name,
            scopes=tuple(scope),
            actor=ACTOR,
            source=source,
            publishable=publishable,
            origins=tuple(origin or ()),
            expires_at=None if expires_days is None else now() + timedelta(days=expires_days),
        )
    _show_new(key, text, as_json)


@group.command()
def rotate(
    key_id: KeyId,
    overlap_hours: Annotated[
        float, typer.Option(min=0, help="How long the old one stays valid beside the new one.")
    ] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Make a new key in the place of an old one, which ends after the overlap."""
    with _store() as store:
        key, text = keys.rotate(store, key_id, overlap=timedelta(hours=overlap_hours), actor=ACTOR)
    _show_new(key, text, as_json)


def _show_new(key: ApiKey, text: str, as_json: bool) -> None:
    show({"id": key.id, "key": text, "scopes": key.scopes}, as_json, lambda: text)
    if not as_json:
        click.echo("Keep it now: it cannot be shown again.", err=True)


@group.command(name="list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys; their secrets are not stored."""
    with _store() as store:
        found = keys.listed(store)
        uses = keys.uses(store)

    def text() -> str:
        return (
            "\n".join(
                f"{k.id}  {k.name:20}  {','.join(k.scopes):20}  {k.source or '-':12}  {_state(k):8}"
                f"  {uses[k.id].isoformat(timespec='minutes') if k.id in uses else 'never used'}"
                for k in found
            )
            or "No keys yet; `bhavana keys create --scope ingest --source web` makes one."
        )

    shown = [
        {
            "id": k.id,
            "name": k.name,
            "kind": k.kind,
            "scopes": k.scopes,
            "source": k.source,
            "origins": k.origins,
            "state": _state(k),
            "revoked": k.revoked_at is not None,
            "expires_at": k.expires_at,
            "last_used_at": uses.get(k.id),
        }
        for k in found
    ]
    show(shown, as_json, text)


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now() else "active"


def _still_learned_from(key: ApiKey) -> str:
    return (
        f"What it posted is of the source {key.source}, which is learned from as before: "
        "quarantine that, or erase what is poison."
    )


@group.command()
def revoke(key_id: KeyId, poisoned: Poisoned = None, as_json: AsJson = False) -> None:
    """Revoke a key; it is refused within a second. Lists what learned from what it posted.

    With --json, the ids of the experiences, too. Safe to repeat: the list is as of now.
    """
    parts = wire(settings())
    with parts.store as store:
        key = keys.revoke(store, key_id, actor=ACTOR)
        posted = privacy.of_key(store, key_id)
        went = msgspec.structs.asdict(privacy.where_it_went(store, posted))
        if poisoned is not None:
            logs.set_up()
            marked = tell_poison(parts, "key", key_id, reason=poisoned, actor=ACTOR)
            click.echo(told_of(marked), err=True)
            click.echo(_still_learned_from(key), err=True)

    def text() -> str:
        learned = [
            f"{kind} that learned from them: {', '.join(names)}"
            for kind, names in went.items()
            if names
        ]
        said = f"{key.id} is revoked. It posted {len(posted)} experiences."
        return "\n".join([said, *learned])

    shown = {
        "id": key.id,
        "revoked_at": key.revoked_at,
        "posted": len(posted),
        "experiences": [name for name in posted.values() if name],
    }
    show(shown | went, as_json, text)
