"""Chat messages, the Hugging Face conversational layout: {"messages": [{role, content}, ...]}.

What a dataset is built in, and what every other format is made from.
"""

from __future__ import annotations

from converters.formats.format import Example, Format, Row, jsonl
from converters.formats.turns import prompt, reply
from converters.reading import Spoken
from store.records import Experience


def row(experience: Experience | Spoken) -> Row:
    """The conversation with the response as its last turn, and where it came from."""
    return {
        "id": experience.id,
        "conversation": experience.conversation,
        "messages": [*prompt(experience), reply(experience.response)],
        "source": experience.source,
        # "" rather than null: a column of nulls in one split would have another type there
        "category": experience.context.category or "",
        "difficulty": experience.context.difficulty or "",
    }


FORMAT: Format[Example] = Format(
    about="chat messages as JSON lines, in the Hugging Face layout",
    suffix=".jsonl",
    row=lambda example: example.row,
    write=jsonl,
)
