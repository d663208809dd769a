"""Verbs on API keys: create, list, revoke."""

from __future__ import annotations

from typing import Annotated

import click
import typer

from daemon.cli.app import AsJson, app, settings, show
from daemon.wiring import open_store
from store import keys
from store.events import Store

ACTOR = "cli"
group = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)
app.add_typer(group, name="keys")


def _store() -> Store:
    return open_store(settings())


@group.command()
def create(
    scope: Annotated[
        list[str], typer.Option(help=f"May be given again. One of: {', '.join(keys.SCOPES)}.")
    ],
    name: Annotated[str, typer.Option(help="Who will use it, for the list.")] = "unnamed",
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once; only its hash is stored."""
    with _store() as store:
        key, text = keys.create(store, name=name, scopes=tuple(scope), actor=ACTOR)
    show({"id": key.id, "key": text, "scopes": key.scopes}, as_json, lambda: text)
    if not as_json:
        click.echo("Keep it now: it cannot be shown again.", err=True)


@group.command(name="list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys; their secrets are not stored."""
    with _store() as store:
        found = keys.listed(store)

    def text() -> str:
        return (
            "\n".join(
                f"{k.id}  {k.name:20}  {','.join(k.scopes):20}  "
                + ("revoked" if k.revoked_at else "active")
                for k in found
            )
            or "No keys yet; `bhavana keys create --scope ingest` makes one."
        )

    shown = [
        {"id": k.id, "name": k.name, "scopes": k.scopes, "revoked": k.revoked_at is not None}
        for k in found
    ]
    show(shown, as_json, text)


@group.command()
def revoke(key_id: Annotated[str, typer.Argument(help="As `bhavana keys list` shows it.")]) -> None:
    """Revoke a key; it is refused from the next request on."""
    with _store() as store:
        key = keys.revoke(store, key_id, actor=ACTOR)
    click.echo(f"{key.id} is revoked.")
