"""The verb that asks the model a file of questions: answer."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import click
import msgspec
import typer

from daemon.cli.app import OfLine, ProgressLine, app, settings
from daemon.descent import incumbent_of
from daemon.practice import ask
from daemon.wiring import Parts, wire
from store.errors import Rejected
from store.records import MAIN
from trainer.job import write_atomically
from trainer.questions import Answer, Question, Sampling, read_questions

UseBase = Annotated[bool, typer.Option("--base", help="Ask the untouched base.")]
UseRelease = Annotated[
    str | None, typer.Option("--release", help="Ask this release, instead of the current one.")
]
Limit = Annotated[int, typer.Option(min=1, help="Length limit of an answer, in tokens.")]


def who_answers(
    parts: Parts, base: bool, release: str | None, line: str = MAIN
) -> tuple[str, str | None]:
    """(what answers, its adapter's folder): the base, the release named, or the line's current."""
    if base and release:
        raise Rejected("--base and --release exclude each other.")
    if release is not None:
        return release, str(parts.archive.adapter(release))
    parts.settings.of_line(line)
    current = None if base else incumbent_of(parts, line)
    if current is None:
        return parts.settings.trainer.base, None
    return current.id, str(parts.archive.adapter(current.id))


@app.command()
def answer(
    input: Annotated[Path, typer.Option(help="JSONL of {id, prompt} or {id, messages}.")],
    output: Annotated[Path, typer.Option(help="JSONL of {id, response, tokens, finished}.")],
    base: UseBase = False,
    release: UseRelease = None,
    line: OfLine = MAIN,
    max_new_tokens: Limit = 256,
) -> None:
    """Answer a file of prompts with the current release, greedily, in batches."""
    parts = wire(settings())
    questions = read_questions(input)
    name, adapter = who_answers(parts, base, release, line)
    output.parent.mkdir(parents=True, exist_ok=True)
    answers = asked(parts, questions, adapter, max_new_tokens)
    write_atomically(output, msgspec.json.Encoder().encode_lines(answers))
    click.echo(f"{len(answers)} answers by {name} in {output}", err=True)


def asked(
    parts: Parts,
    questions: Sequence[Question],
    adapter: str | None,
    max_new_tokens: int,
    *,
    quiet: bool = False,
) -> list[Answer]:
    """What the base, or an adapter on it, answers in a child process."""
    folder = Path(tempfile.mkdtemp(prefix="bhavana-"))
    line = ProgressLine()
    try:
        return ask(
            parts,
            questions,
            adapter=adapter,
            sampling=Sampling(max_new_tokens=max_new_tokens),
            folder=folder,
            watch=(lambda _: None) if quiet else line,
        )
    finally:
        line.end()
        shutil.rmtree(folder)
