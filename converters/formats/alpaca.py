"""Alpaca's three columns: instruction, input, output.

The instruction is what was asked last. The input is what was said before it, system message
included, as a transcript; a conversation of one turn has none, and its words are verbatim.
"""

from __future__ import annotations

from converters.formats.format import Example, Format, jsonl
from converters.formats.turns import exchange, transcript


def row(example: Example) -> dict[str, str]:
    """Instruction, input and output of one conversation. Raises Unfit."""
    earlier, asked, answer = exchange(example.messages)
    return {"instruction": asked, "input": transcript(earlier), "output": answer}


FORMAT: Format[Example] = Format(
    about="instruction, input, output; earlier turns are a transcript in input",
    suffix=".jsonl",
    row=row,
    write=jsonl,
)
