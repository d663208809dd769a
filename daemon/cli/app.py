"""The typer application, what every verb shares, and how settings reach a verb."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import click
import msgspec
import typer

from daemon.settings import Settings, find_config, load
from store.errors import Rejected
from trainer.job import Heartbeat

app = typer.Typer(
    name="bhavana",
    help="Lets a language model improve from its own conversations, ethically.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_config: dict[str, Path | None] = {"path": None}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

OfLine = Annotated[str, typer.Option("--line", help="The line of releases that is meant.")]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Tell every step and request; change nothing.")
]

Reviewer = Annotated[
    str | None, typer.Option("--as", help="Who decides; else the name you are logged in by.")
]


@app.callback()
def options(
    config: Annotated[
        Path | None,
        typer.Option(help="Configuration file; else $BHAVANA_CONFIG, ~/.config, /etc."),
    ] = None,
) -> None:
    """Lets a language model improve from its own conversations, ethically."""
    _config["path"] = config


def config_file() -> Path | None:
    """The configuration file that counts; None where there is none."""
    return find_config(_config["path"])


def settings(policy: Mapping[str, Any] | None = None) -> Settings:
    """The settings that the options and the environment ask for. Raises Misconfigured.

    `policy`: keys of that section to try.
    """
    return load(config_file(), os.environ, policy=policy)


def login() -> str:
    """The name by which a person decides who names none. Raises Rejected where there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # a user without a name, as in some containers
        raise Rejected(
            "You are logged in without a name.", hint="Say who decides: --as."
        ) from error


def show(value: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Prints the value as JSON or as text for people."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
    else:
        click.echo(text())


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Shows phase, done and total on a terminal; says nothing where there is none."""
    line = ProgressLine()

    def told(phase: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            line(Heartbeat.now(phase, done, total))

    try:
        yield told
    finally:
        line.end()


class ProgressLine:
    """Progress on one line of a terminal; one line per phase where there is none."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._phase = ""

    def __call__(self, beat: Heartbeat) -> None:
        """Shows a heartbeat."""
        count = f" {beat.done}/{beat.total}" if beat.total > 1 else ""
        if self._terminal:
            click.echo(f"\r\033[K{beat.phase}{count}", err=True, nl=False)
        elif beat.phase != self._phase:
            click.echo(beat.phase, err=True)
        self._phase = beat.phase

    def end(self) -> None:
        """Leaves the line."""
        if self._terminal and self._phase:
            click.echo("", err=True)
