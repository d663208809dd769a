"""Select the experiences worth learning from and write them as a dataset.

FORMATS is the roster: a new format is one file and one line here.
"""

from __future__ import annotations

from converters.formats import alpaca, chat, completion, parquet, spreadsheet, text
from converters.formats.format import Format
from converters.formats.templates import CHATML, LLAMA3, MISTRAL, ZEPHYR

FORMATS: dict[str, Format] = {
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
