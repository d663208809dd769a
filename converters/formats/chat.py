"""Chat messages, the Hugging Face conversational layout: {"messages": [{role, content}, ...]}.

What a dataset is built in, and what every other format is made from.
"""

from __future__ import annotations

from converters.formats.format import Format, Row, Turn, jsonl
from store.records import Experience


def row(experience: Experience) -> Row:
    """The conversation with the response as its last turn, and where it came from."""
    messages: list[Turn] = [{"role": m.role, "content": m.content} for m in experience.messages]
    return {
        "id": experience.id,
        "conversation": experience.conversation,
        "messages": [*messages, {"role": "assistant", "content": experience.response}],
        "source": experience.source,
        # "" rather than null: a column of nulls in one split would have another type there
        "category": experience.context.category or "",
        "difficulty": experience.context.difficulty or "",
    }


FORMAT = Format(
    about="chat messages as JSON lines, in the Hugging Face layout",
    suffix=".jsonl",
    row=lambda example: example.row,
    write=jsonl,
)
