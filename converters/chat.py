"""Chat messages, the Hugging Face conversational layout: {"messages": [{role, content}, ...]}."""

from __future__ import annotations

from typing import Any

from store.experiences import Assessed


def row(chosen: Assessed) -> dict[str, Any]:
    """The conversation with the response as its last turn, and where it came from."""
    experience = chosen.experience
    messages = [{"role": m.role, "content": m.content} for m in experience.messages]
    return {
        "id": experience.id,
        "conversation": experience.conversation,
        "messages": [*messages, {"role": "assistant", "content": experience.response}],
        "source": experience.source,
        # "" rather than null: a column of nulls in one split would have another type there
        "category": experience.context.category or "",
        "difficulty": experience.context.difficulty or "",
    }
