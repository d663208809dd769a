"""Verbs of the loop: cycle, practice."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import msgspec
import typer

from converters.constitution.compose import examples
from converters.constitution.exports import experience as as_experience
from daemon import logs, practice, report
from daemon.cli.app import (
    AsJson,
    OfLine,
    ProgressLine,
    app,
    settings,
    show,
)
from daemon.cycle import turn
from daemon.service import Address, running_daemon, sole_daemon
from daemon.settings import Settings
from daemon.wiring import Parts, wire
from store import cycles, schedule
from store.errors import Misconfigured, Rejected, Unavailable
from store.records import MAIN, Cycle, Evaluation, Experience, now
from trainer.job import Heartbeat
from trainer.questions import Sampling

POLL_SECONDS = 0.5
BY_HAND = "command line"
KEY_VARIABLE = "BHAVANA_API_KEY"
CONSTITUTION_SEED = 7
"""Always the same: the same count posts the same examples, twice nothing new."""


@app.command()
def cycle(line: OfLine = MAIN, as_json: AsJson = False) -> None:
    """Turn the loop once now: in the running daemon where there is one, else in this process.

    On another line than main: the sections [lines.NAME] of the configuration. A line's stage
    (constitutional, capability, specialist) gives it its mixture and what its gates ask at least.

    Exit code 0: promoted, or unchanged because there was nothing new. 3: held back by a gate,
    failed, or too few experiences; the reason is printed.
    """
    configured = settings()
    configured.of_line(line)
    parts = wire(configured)
    progress = ProgressLine()
    try:
        address = running_daemon(configured.data)
        if address is None:
            logs.set_up()
            with sole_daemon(configured.data):
                ended = _here(msgspec.structs.replace(parts, watch=progress), line)
        else:
            ended = _in_daemon(parts, configured, line, progress)
    finally:
        progress.end()
    evaluation = cycles.of_cycle(parts.store, Evaluation, ended.id)

    def text() -> str:
        table = [] if evaluation is None else report.table(evaluation.verdicts)
        return "\n".join([*table, f"{ended.id}: {ended.state} ({ended.detail})"])

    show(ended, as_json, text)
    if ended.state not in ("promoted", "unchanged"):
        raise typer.Exit(3)


def _here(parts: Parts, line: str) -> Cycle:
    """A cycle of this line in this process, after the rest of one that was interrupted."""
    ended = turn(parts, reason=BY_HAND, line=line)
    return ended if ended.line == line else turn(parts, reason=BY_HAND, line=line)


def _in_daemon(parts: Parts, configured: Settings, line: str, progress: ProgressLine) -> Cycle:
    """Asks the running daemon for a cycle and follows it to its end. Raises Rejected."""
    name = schedule.of_line(line)
    if line != MAIN and schedule.schedule(parts.store, name) is None:
        raise Rejected(
            f"The running daemon does not know the line {line} yet.",
            hint="Let it read the configuration again: SIGHUP, or `systemctl reload bhavana`.",
        )
    before = cycles.last(parts.store, line)
    asked = now()
    schedule.due_at(parts.store, asked, name)
    while True:
        last = cycles.last(parts.store, line)
        if last is not None and last != before and last.state != "running":
            return last
        if running_daemon(configured.data) is None:
            raise Unavailable("The daemon ended; the cycle goes on when it is started again.")
        _show_progress(configured, progress, asked)
        time.sleep(POLL_SECONDS)


def _show_progress(configured: Settings, line: ProgressLine, since: datetime) -> None:
    try:
        beat = msgspec.json.decode((configured.data / "progress.json").read_bytes(), type=Heartbeat)
    except FileNotFoundError:
        return
    if beat.at >= since:
        line(beat)


@app.command(name="practice")
def practise(
    episodes: Annotated[int, typer.Option(min=0, help="How many scenarios to answer.")] = 20,
    exemplars: Annotated[
        bool, typer.Option("--exemplars", help="Also post the bundled exemplary answers.")
    ] = False,
    constitution: Annotated[
        int, typer.Option(min=0, help="Also post so many composed constitutional examples.")
    ] = 0,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Length limit; an answer ends at its last whole sentence.")
    ] = 48,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Which scenarios, and the draw of the answers.")] = 0,
    key: Annotated[
        str | None, typer.Option(envvar=KEY_VARIABLE, help="API key with the scope ingest.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="The daemon's address; else the one that runs here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let the current model answer bundled scenarios and post them as experiences.

    And what was written to be learned from: exemplars, constitutional examples.
    """
    configured = settings()
    address = url or _address(configured).url
    if not key:
        raise Misconfigured(
            "No API key.",
            hint="Make one with `bhavana keys create --scope ingest --scope operate` and set "
            f"{KEY_VARIABLE}.",
        )
    items: list[Experience] = []
    if exemplars:
        items += map(practice.as_experience, practice.exemplars())
    if constitution:
        items += map(as_experience, examples(constitution, CONSTITUTION_SEED))
    if episodes:
        line = ProgressLine()
        sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        items += practice.practise(
            wire(configured), episodes, seed=seed, sampling=sampling, watch=line
        )
        line.end()
    counts = practice.post(address, key, items)
    text = ", ".join(f"{n} {status}" for status, n in counts.items()) or "nothing to post"
    show(counts, as_json, lambda: text)


def _address(configured: Settings) -> Address:
    found = running_daemon(configured.data)
    if found is None:
        raise Unavailable(
            f"No daemon serves {configured.data}.", hint="Start it with `bhavana serve`."
        )
    return found
