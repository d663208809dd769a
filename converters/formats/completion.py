"""Two columns of plain text: prompt, completion.

A conversation of one turn has its question as the prompt, verbatim; a longer one is a transcript
that ends where the assistant is to speak.
"""

from __future__ import annotations

from converters.formats.format import Example, Format, Turn, jsonl
from converters.formats.turns import exchange, transcript


def row(example: Example) -> dict[str, str]:
    """Prompt and completion of one conversation. Raises Unfit."""
    earlier, asked, answer = exchange(example.messages)
    if not earlier:
        return {"prompt": asked, "completion": answer}
    last: Turn = {"role": "user", "content": asked}
    return {
        "prompt": f"{transcript([*earlier, last])}\n\nAssistant:",
        "completion": f" {answer}",  # a space: the prompt ends with a label and its colon
    }


FORMAT: Format[Example] = Format(
    about="prompt, completion; longer conversations are a transcript in prompt",
    suffix=".jsonl",
    row=row,
    write=jsonl,
)
