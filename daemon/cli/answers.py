"""Verbs that talk to the model: chat, answer."""

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
from daemon.cycle import incumbent_of
from daemon.practice import ask
from daemon.wiring import Parts, wire
from store.errors import Rejected
from store.records import MAIN, Message
from trainer.job import write_atomically
from trainer.questions import Answer, Question, Sampling, read_questions

UseBase = Annotated[bool, typer.Option("--base", help="Ask the untouched base.")]
UseRelease = Annotated[
    str | None, typer.Option("--release", help="Ask this release, instead of the current one.")
]
Limit = Annotated[int, typer.Option(min=1, help="Length limit of an answer, in tokens.")]


def _adapter(
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
    name, adapter = _adapter(parts, base, release, line)
    output.parent.mkdir(parents=True, exist_ok=True)
    answers = _asked(parts, questions, adapter, max_new_tokens)
    write_atomically(output, msgspec.json.Encoder().encode_lines(answers))
    click.echo(f"{len(answers)} answers by {name} in {output}", err=True)


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(help="One message; else a conversation.")] = None,
    base: Annotated[bool, typer.Option("--base", help="Let the base answer beside it.")] = False,
    release: UseRelease = None,
    line: OfLine = MAIN,
    max_new_tokens: Limit = 200,
) -> None:
    """Talk to the current release; with --base, to the base and the release side by side."""
    parts = wire(settings())
    speakers = [_adapter(parts, False, release, line)]
    if base and speakers[0][1] is not None:
        speakers.insert(0, _adapter(parts, True, None))
    histories: dict[str, list[Message]] = {name: [] for name, _ in speakers}
    if prompt is None:
        click.echo(f"Talking to {' and '.join(histories)}. An empty line ends it.", err=True)
    while text := prompt or click.prompt("you", default="", show_default=False).strip():
        for name, adapter in speakers:
            history = histories[name]
            history.append(Message(role="user", content=text))
            question = Question(id="chat", messages=tuple(history))
            [reply] = _asked(parts, [question], adapter, max_new_tokens, quiet=True)
            history.append(Message(role="assistant", content=reply.response or "…"))
            click.echo(f"{name}: {reply.response}\n")
        if prompt is not None:
            break


def _asked(
    parts: Parts,
    questions: Sequence[Question],
    adapter: str | None,
    max_new_tokens: int,
    *,
    quiet: bool = False,
) -> list[Answer]:
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
