"""Verbs on the datasets that cycles built, and on what people prefer, which is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import msgspec
import typer

from converters import FORMATS, PREFERENCES
from converters import dataset as datasets
from converters.export import Exported
from converters.export import export as write_copy
from converters.export_preferences import export_preferences
from converters.formats.turns import conversations
from daemon.cli.app import AsJson, app, settings, show
from daemon.wiring import asked_of, at_work, open_store
from store import cycles
from store.errors import IntegrityError, NotFound
from store.events import Store
from store.records import Dataset, now
from trainer.base import locate

group = typer.Typer(
    help="The datasets that cycles built: list, show, preview, export in another format; "
    "and what people prefer, exported for DPO and KTO.",
    no_args_is_help=True,
)
app.add_typer(group, name="datasets")

Output = Annotated[Path, typer.Option(help="A folder that is not there yet.")]
DatasetId = Annotated[str, typer.Argument(help="As `bhavana datasets list` shows it.")]
EXPORT = """Write a dataset into a folder of its own, in the format that a trainer wants.

`datasets.load_dataset(FOLDER)` reads it; README.md and manifest.json say what is in it. The folder
must not be there, or be empty. Refused is a dataset that words were erased from, or of which a row
may no longer be learned from; a copy outlives both, so delete it when it was used.

The text formats hold special tokens already: let the tokenizer add none. In people's words such
tokens are broken up (`< /s>`).

\b
Formats:
"""
"""Behind \\b, lines are shown as they stand."""
PREFER = """Write what people prefer into a folder of its own, for DPO or KTO.

From reviews (`bhavana review correct`, `accept`, `reject`) and from feedback: corrections and
preferences for pairs, thumbs for single answers. Feedback is a signal and no proof. A response that
somebody likes counts as good only where the panel admits it or a reviewer accepted it; a text that
somebody sent counts as better only where a reviewer accepted the same words, or where it came with
a secret key of a trusted source. The policy's caps, consent and min_examples hold as for a dataset.

`datasets.load_dataset(FOLDER)` reads it, and so does TRL; README.md and manifest.json say what is
in it. The folder must not be there, or be empty. No erasure reaches a copy, so delete it when it
was used. A cycle whose recipe has trainer.recipe.method = "dpo" or "kto" builds and trains the
same as a dataset of its own, which erasure does reach.

\b
Formats:
"""
TO_ITS_KEEPER = "No erasure reaches this copy: delete it when it was used."


@group.command(name="list")
def list_datasets(as_json: AsJson = False) -> None:
    """List the datasets, the newest first."""
    with open_store(settings()) as store:
        found = cycles.built(store)
    told = [
        {
            "id": dataset.id,
            "built_at": dataset.built_at,
            "position": dataset.position,
            "format": dataset.format,
            "counts": dataset.counts,
            "content_hash": dataset.content_hash,
        }
        for dataset in found
    ]

    def text() -> str:
        return (
            "\n".join(
                f"{one.id:32}  {one.built_at:%Y-%m-%d %H:%M} UTC  {one.format:4}  "
                f"{_rows(one.counts)}"
                for one in found
            )
            or "No datasets yet; `bhavana cycle` builds one."
        )

    show(told, as_json, text)


@group.command(name="show")
def show_dataset(dataset_id: DatasetId, as_json: AsJson = False) -> None:
    """Show what a dataset was made from, where it lies, and whether it is whole."""
    with open_store(settings()) as store:
        dataset = _named(store, dataset_id)
    fault = None
    try:
        datasets.verify(dataset)
    except IntegrityError as error:
        fault = error.message
    told = msgspec.to_builtins(dataset) | {"whole": fault is None, "fault": fault}
    del told["members"]  # thousands of positions in the log

    def text() -> str:
        steps = [f"  {name.replace('_', ' '):24}{n:>9}" for name, n in dataset.funnel.items() if n]
        lines = [
            f"dataset   {dataset.id}, built {dataset.built_at:%Y-%m-%d %H:%M} UTC",
            f"of        {dataset.cycle_id}, position {dataset.position} of the log",
            f"rows      {_rows(dataset.counts)}, as {dataset.format}",
            f"folder    {dataset.path}",
            f"hash      {dataset.content_hash}",
            f"panel     {dataset.panel}",
            f"whole     {fault or 'yes'}",
        ]
        return "\n".join([*lines, "selection", *steps])

    show(told, as_json, text)


@group.command(help=EXPORT + "\n".join(f"  {name:13} {f.about}" for name, f in FORMATS.items()))
def export(
    dataset_id: DatasetId,
    output: Output,
    format: Annotated[str, typer.Option(help="One of those above.")] = "chat",
    as_json: AsJson = False,
) -> None:
    """Writes a dataset in another format."""
    with open_store(settings()) as store:
        dataset = _named(store, dataset_id)
        done = write_copy(store, dataset, output.absolute(), format=format)
    show(done, as_json, lambda: _told(done, output))


@group.command(
    help=PREFER + "\n".join(f"  {name:13} {p.format.about}" for name, p in PREFERENCES.items())
)
def preferences(
    output: Output,
    format: Annotated[str, typer.Option(help="One of those above.")],
    as_json: AsJson = False,
) -> None:
    """Writes what people prefer."""
    configured = settings()
    with open_store(configured) as store:
        house = at_work(configured, store)
        asked = asked_of(house, store, as_of=store.position(), moment=now())
        done = export_preferences(store, output.absolute(), asked, format=format)
    rows = _rows(done.counts)
    show(done, as_json, lambda: f"{done.format} in {output}: {rows}.\n{TO_ITS_KEEPER}")


@group.command()
def preview(
    dataset_id: DatasetId,
    rows: Annotated[int, typer.Option(min=1, help="How many, from the beginning.")] = 3,
    masks: Annotated[
        bool,
        typer.Option("--masks", help="As tokens, with what training learns from in ⟦ ⟧; slower."),
    ] = False,
) -> None:
    """Show the first training rows, as they stand or as training sees them."""
    configured = settings()
    with open_store(configured) as store:
        dataset = _named(store, dataset_id)
    lines = datasets.read(dataset)["train"].splitlines()[:rows]
    shown = [one for line in lines for one in conversations(msgspec.json.decode(line))]
    if masks:
        # Loads torch, which no other verb on datasets needs.
        from trainer.preview import preview as as_trained

        trainer = configured.trainer
        texts = as_trained(
            shown, locate(trainer.base), configured.data / "cache", trainer.recipe.max_length
        )
    else:
        texts = [
            "\n".join([row["id"], *(f"{m['role']}: {m['content']}" for m in row["messages"])])
            for row in shown
        ]
    click.echo("\n\n".join(texts))


def _named(store: Store, dataset_id: str) -> Dataset:
    found = cycles.by_id(store, Dataset, dataset_id)
    if found is None:
        raise NotFound(
            f"There is no dataset {dataset_id}.", hint="`bhavana datasets list` shows them."
        )
    return found


def _told(done: Exported, folder: Path) -> str:
    return f"{done.dataset} as {done.format} in {folder}: {_rows(done.counts)}.\n{TO_ITS_KEEPER}"


def _rows(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in counts.items())
