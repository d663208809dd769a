"""Verbs that run the daemon or look at it: serve, status, config."""

from __future__ import annotations

import click
import msgspec

from daemon import logs, report
from daemon.cli.app import AsJson, app, settings, show
from daemon.service import serve as run
from daemon.wiring import open_store


@app.command()
def serve() -> None:
    """Run the daemon in the foreground until SIGTERM; SIGHUP reads the configuration again."""
    logs.set_up()
    run(settings(), reload=settings)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say what happened: experiences, labels, last cycle and its gates, release, next run."""
    configured = settings()
    with open_store(configured) as store:
        show(
            report.status(store, configured) if as_json else None,
            as_json,
            lambda: report.status_text(store, configured),
        )


@app.command()
def config() -> None:
    """Print the settings in force, defaults included, as JSON; fails where they are wrong.

    Secrets are not shown.
    """
    click.echo(msgspec.json.format(msgspec.json.encode(_tree(settings())), indent=2).decode())


def _tree(value: object) -> object:
    """Every field, those at their default too, which the nouns' own JSON leaves out."""
    if isinstance(value, msgspec.Struct):
        return {name: _shown(name, getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: _tree(child) for name, child in value.items()}
    return value


def _shown(name: str, value: object) -> object:
    secret = isinstance(value, str) and value and logs.SECRET_NAMES.search(name)
    return "[secret]" if secret else _tree(value)
