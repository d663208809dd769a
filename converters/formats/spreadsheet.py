"""CSV with the columns of SAIGE's converter: the text by a template, and what the panel said.

Quoted as RFC 4180 says. A cell that begins with a sign at which a spreadsheet would run it as a
formula gets an apostrophe before it, and so does one that begins with an apostrophe: to read a
cell back, take one apostrophe from its beginning. A file without types is guessed at: an id such
as 007 is a number to most readers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from converters.formats.format import Example, Format
from converters.formats.templates import Template

COLUMNS = {
    "text": "string",
    "harm_score": "float64",
    "buddhist_alignment": "string",
    "weighted_score": "float64",
    "difficulty": "string",
    "scenario_id": "string",
    "experience_id": "string",
}
RUNS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")
"""Beginnings of a formula, the full-width ones too; and the apostrophe, so that one can undo it."""


def of(template: Template) -> Format[Example]:
    """The format with the text as one family's template writes it."""

    def row(example: Example) -> dict[str, Any]:
        said = example.assessment
        return {
            "text": template(example.messages),
            "harm_score": said and said.actual_harm,
            "buddhist_alignment": said and said.label,
            "weighted_score": said and said.weighted,
            "difficulty": example.row["difficulty"],
            "scenario_id": example.row["conversation"],
            "experience_id": example.row["id"],
        }

    return Format(
        about=f"CSV in SAIGE's columns, text as the template of {template.model} writes it",
        suffix=".csv",
        row=row,
        write=write,
        features=COLUMNS,
    )


def write(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The rows under their header; what is not known is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([_inert(row[name]) for name in COLUMNS] for row in rows)
    return text.getvalue().encode()


def _inert(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(RUNS) else cell
