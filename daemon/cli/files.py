"""Verbs that carry experiences in and out by files: import, dump."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import click
import msgspec
import typer

from converters.imports import IMPORTS
from converters.imports.files import AUTO, Found, read
from daemon.cli.app import AsJson, app, progress, settings, show
from daemon.importing import Fault, Imported, bring_in, faults_of
from daemon.redaction import Redactor
from daemon.wiring import at_work, open_store, vouch_for_panel
from scorers.panel import panel_id
from scorers.standing import StandingWorker
from store import dossiers, sources
from store.errors import Rejected
from store.records import Consent, Name, Tier, now

ACTOR = "cli"
SHOWN = 20
"""So many faults of a file are told; the others are counted."""
IMPORT = """Record the conversations of a file as experiences: each answer to the user is one.

All of the file or nothing: what cannot be read is told with its place and reason. Importing twice
records nothing twice. Redaction and trust are those of the source; a new one begins in quarantine
(`bhavana sources`). Nobody's consent is assumed. What was said at an unknown time is dated
1970-01-01.

\b
Formats:
"""
"""Behind \\b, lines are shown as they stand."""


@app.command(
    name="import",
    help=IMPORT + "\n".join(f"  {name:13} {one.about}" for name, one in IMPORTS.items()),
)
def import_file(
    file: Annotated[Path, typer.Argument(help="JSON lines, or JSON in one piece.")],
    source: Annotated[str, typer.Option(help="Where the conversations come from.")],
    format: Annotated[str, typer.Option(help=f"One of those above, or {AUTO}.")] = AUTO,
    consent_training: Annotated[
        bool,
        typer.Option("--consent-training", help="Everybody in it agreed to training; you know so."),
    ] = False,
    policy_text: Annotated[
        str | None, typer.Option(help="The version of the text that they agreed to.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Record the rest where something cannot be read.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Records the conversations of a file."""
    named, consent = _named(source), _consent(consent_training, policy_text)
    configured = settings()
    redact = Redactor(configured.redaction)

    def found() -> Iterator[Found]:
        return read(file, format=format, source=named, consent=consent)

    with open_store(configured) as store, progress() as told:
        faults = faults_of(found(), redact, lambda done: told("reading", done, 0))
        if faults and not skip_bad:
            _tell(file, faults)
            raise Rejected(
                f"{len(faults)} places of {file} cannot be imported; nothing was recorded.",
                hint="Mend them, or leave them out: --skip-bad.",
            )
        house = at_work(configured, store)
        with StandingWorker(
            lambda: house.panel, vouch=lambda stop: vouch_for_panel(house, stop)
        ) as worker:
            done = bring_in(
                store,
                found(),
                redact,
                worker.assess,
                source=named,
                actor=ACTOR,
                told=lambda count: told("recording", count, 0),
            )
        tier = sources.tiers(store, as_of=store.position(), moment=now())[named]
    _tell(file, done.faults)
    show(done, as_json, lambda: _summary(done, named, tier, consent.training))
    if len(done.faults) > len(faults):  # others than those that were to be skipped
        raise Rejected(
            f"{len(done.faults) - len(faults)} experiences were not taken.",
            hint="Consent is changed by `bhavana consent`; what was erased stays so.",
        )


@app.command()
def dump(
    output: Annotated[Path, typer.Option(help="A file that is not there yet.")],
    source: Annotated[str | None, typer.Option(help="Only from this source.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write experiences with all that was said of them into a file, a JSON object a line.

    The file is yours alone, and whole or not there. No erasure reaches it: delete it when it was
    used. It is no backup: `bhavana store backup` is.
    """
    configured = settings()
    if output.exists():
        raise Rejected(f"{output} is there already.", hint="Name a file that is not.")
    count = 0
    encode = msgspec.json.Encoder().encode
    with open_store(configured) as store, progress() as told:
        panel = panel_id(at_work(configured, store).panel)
        total = dossiers.count(store, source=source, tag=tag)
        with _whole(output) as file:
            for count, one in enumerate(
                dossiers.walk(store, panel=panel, source=source, tag=tag), 1
            ):
                file.write(encode(one) + b"\n")
                told("writing", count, total)
    text = f"{count} experiences in {output}. No erasure reaches it: delete it when it was used."
    show({"experiences": count, "file": str(output)}, as_json, lambda: text)


def _named(source: str) -> str:
    try:
        return msgspec.convert(source, Name)
    except msgspec.ValidationError as error:
        raise Rejected(
            f"{source!r} cannot name a source.", hint="It has 1 to 128 characters on one line."
        ) from error


def _consent(training: bool, policy: str | None) -> Consent:
    if policy is not None and not training:
        raise Rejected("--policy-text is what people agreed to: it needs --consent-training.")
    try:
        return msgspec.convert({"training": training, "policy": policy}, Consent)
    except msgspec.ValidationError as error:
        raise Rejected(
            "--policy-text is the name of a version, not the text itself.",
            hint="It has 1 to 128 characters on one line.",
        ) from error


def _tell(file: Path, faults: Sequence[Fault]) -> None:
    for fault in faults[:SHOWN]:
        click.echo(f"{file}, {fault.place}: {fault.reason}", err=True)
    if len(faults) > SHOWN:
        click.echo(f"{file}: {len(faults) - SHOWN} more", err=True)


def _summary(done: Imported, source: str, tier: Tier, consented: bool) -> str:
    counts = (done.recorded, done.duplicates, len(done.faults))
    lines = ["{} recorded, {} were there already, {} left out.".format(*counts)]
    if not consented:
        lines.append("Nobody's consent is assumed, so none of it is learned from.")
    if tier == "quarantined":
        lines.append(f"{source} is in quarantine: `bhavana sources set {source} trusted` ends it.")
    return "\n".join(lines)


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file of its owner's alone, which takes its name when all is in it, or is not there."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.partial-", dir=path.parent)
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)  # gone already when all went well
    except OSError as error:
        raise Rejected(
            f"{path} cannot be written: {error.strerror}.", hint="Name another file."
        ) from error
