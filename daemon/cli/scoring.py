"""The verb that scores a file, without a store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import click
import msgspec
import typer

from converters.selection import route_of
from daemon.cli.app import app, progress, settings
from scorers import SCORERS
from scorers.assess import worker
from scorers.measure import Measured, measure
from scorers.settings import PanelSettings
from store.errors import Rejected
from store.records import HARMS, PRINCIPLES, Policy

STANDARD = Path("-")


@app.command()
def assess(
    input: Annotated[
        Path, typer.Option(help="JSONL of {id, prompt, response, context?}; - reads.")
    ],
    output: Annotated[Path, typer.Option(help="JSONL of {id, findings, assessment}; - prints.")],
    scorers: Annotated[
        str, typer.Option(help=f"Only these, with commas: of {', '.join(SCORERS)}.")
    ] = "",
) -> None:
    """Score a file of answers with the panel and the policy of the configuration. No store.

    Lines come out as they are ready, in the order of the input. A line that is no row is told
    on stderr with its number; the others go on.
    """
    house = settings()
    panel = _only(scorers, house.panel)
    faults = 0

    def on_fault(number: int, reason: str) -> None:
        nonlocal faults
        faults += 1
        click.echo(f"line {number}: {reason}", err=True)

    done = 0
    with _reading(input) as lines, _writing(output) as answers, progress() as told:
        told("assessing", 0, 0)
        with worker(panel) as child:
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
