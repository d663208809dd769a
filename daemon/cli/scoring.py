"""The verb that scores: a file without a store, or all that the store holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any

import click
import msgspec
import typer

from converters.steps import route_of
from daemon.cli.app import app, progress, settings
from daemon.wiring import at_work, open_store, vouch_for_panel
from scorers import SCORERS
from scorers.assess import assess_pending, worker
from scorers.measure import Measured, measure
from scorers.panel import panel_id
from scorers.settings import PanelSettings
from store.errors import Rejected
from store.records import HARMS, PRINCIPLES, Policy

STANDARD = Path("-")


class Panel(StrEnum):
    """Which panel assesses; an older one cannot: its scorers are gone."""

    new = "new"


@app.command()
def assess(
    input: Annotated[
        Path | None, typer.Option(help="JSONL of {id, prompt, response, context?}; - reads.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSONL of {id, findings, assessment}; - prints.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Assess all of the store, history included.")
    ] = False,
    panel: Annotated[
        Panel, typer.Option(help="With --all: the panel of the configuration as it is now.")
    ] = Panel.new,
    scorers: Annotated[
        str, typer.Option(help=f"Only these, with commas: of {', '.join(SCORERS)}.")
    ] = "",
) -> None:
    """Score a file of answers, without a store; or, with --all, everything that is recorded.

    With --input and --output lines come out as they are ready, in the order of the input. A line
    that is no row is told on stderr with its number; the others go on.

    With --all what the panel of the configuration has not assessed yet is assessed now. Each
    cycle does so by itself; this is for seeing a new panel's work before the next one. It may run
    beside the daemon, and be stopped at any time: what is done is kept.
    """
    if everything:
        if input or output or scorers:
            raise Rejected("--all takes no --input, --output and --scorers.")
        assert panel is Panel.new
        _assess_all()
        return
    if input is None or output is None:
        raise Rejected(
            "There is nothing to assess.", hint="Give --input and --output, or --all for the store."
        )
    _assess_file(input, output, scorers)


def _assess_all() -> None:
    with progress() as told, open_store(settings()) as store:
        house = at_work(settings(), store)
        vouch_for_panel(house)
        told("assessing", 0, 0)
        count = assess_pending(
            store, house.panel, store.position(), lambda done: told("assessing", done, 0)
        )
    click.echo(f"{count} assessed by panel {panel_id(house.panel)[:12]}")


def _assess_file(input: Path, output: Path, scorers: str) -> None:
    house = settings()
    only = _only(scorers, house.panel)
    faults = 0

    def on_fault(number: int, reason: str) -> None:
        nonlocal faults
        faults += 1
        click.echo(f"line {number}: {reason}", err=True)

    done = 0
    with _reading(input) as lines, _writing(output) as answers, progress() as told:
        told("assessing", 0, 0)
        with worker(only) as child:
            for batch in measure(lines, child, on_fault):
                answers.write(
                    msgspec.json.Encoder().encode_lines([_shown(m, house.policy) for m in batch])
                )
                answers.flush()
                done += len(batch)
                told("assessing", done, 0)
    if not done and faults:
        raise Rejected("No line of the input is a row.", hint="See `bhavana assess --help`.")
    click.echo(f"{done} assessed, {faults} lines were no rows", err=True)


def _only(names: str, panel: PanelSettings) -> PanelSettings:
    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    if unknown := sorted(set(wanted) - SCORERS.keys()):
        raise Rejected(
            f"There is no scorer {', '.join(unknown)}.", hint=f"There are {', '.join(SCORERS)}."
        )
    return msgspec.structs.replace(panel, scorers=wanted or panel.scorers)


def _shown(measured: Measured, policy: Policy) -> dict[str, Any]:
    """The row of the answer; null where the panel abstains."""
    found = measured.assessment
    route = route_of(found, policy)
    return {
        "id": measured.id,
        "findings": found.findings,
        "assessment": {
            "actual_harm": found.actual_harm,
            "harm": {name: found.harm.get(name) for name in HARMS} | found.harm,
            "principles": {name: found.principles.get(name) for name in PRINCIPLES},
            "weighted": found.weighted,
            "label": found.label,
            "refusal": found.refusal,
            "abstained": found.abstained,
            "doubts": found.doubts,
            "eligible": route == "training",
            "route": route,
            "panel": found.panel,
        },
    }


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise Rejected(f"{path} cannot be read: {error.strerror}.") from error
    with file:
        yield file


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    if path == STANDARD:
        yield sys.stdout.buffer
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    except OSError as error:
        raise Rejected(f"{path} cannot be written: {error.strerror}.") from error
    with file:
        yield file
