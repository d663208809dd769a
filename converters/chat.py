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
        "messages": [*messages, {"role": "assistant", "content": experience.response}],
        "source": experience.source,
        "category": experience.context.category,
        "difficulty": experience.context.difficulty,
    }
