"""Select the experiences worth learning from and write them as a dataset.

FORMATS and PREFERENCES are the rosters: a new format is one file and one line here.
"""

from __future__ import annotations

from typing import Any

from converters.formats import (
    alpaca,
    chat,
    completion,
    kto,
    parquet,
    preference,
    spreadsheet,
    text,
)
from converters.formats.format import Example, Format
from converters.formats.templates import CHATML, LLAMA3, MISTRAL, ZEPHYR
from converters.preferences import Preference, marks, pairs

FORMATS: dict[str, Format[Example]] = {
    "chat": chat.FORMAT,
    "text-zephyr": text.of(ZEPHYR),
    "text-mistral": text.of(MISTRAL),
    "text-llama3": text.of(LLAMA3),
    "text-chatml": text.of(CHATML),
    "alpaca": alpaca.FORMAT,
    "completion": completion.FORMAT,
    "csv": spreadsheet.of(MISTRAL),
    "csv-zephyr": spreadsheet.of(ZEPHYR),
    "csv-llama3": spreadsheet.of(LLAMA3),
    "parquet": parquet.FORMAT,
}
"""What a dataset can be written in."""

PREFERENCES: dict[str, Preference[Any]] = {
    "dpo": Preference(pairs, preference.FORMAT),
    "kto": Preference(marks, kto.FORMAT),
}
"""What people say of answers, in the formats that it is learned from in."""
