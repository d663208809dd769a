"""Questions for a model and the answers to them, as lines of JSONL. Loads no torch."""

from __future__ import annotations

from pathlib import Path

import msgspec

from store.errors import Rejected
from store.records import Message, Noun


class Question(Noun, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A line of the input: an id and a prompt, or an id and messages."""

    id: str
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None

    def conversation(self) -> list[dict[str, str]]:
        """The messages that the answer follows."""
        if self.messages is not None:
            return [{"role": m.role, "content": m.content} for m in self.messages]
        return [{"role": "user", "content": self.prompt or ""}]


class Answer(Noun, frozen=True, kw_only=True):
    """A line of the output."""

    id: str
    response: str
    tokens: int
    finished: bool
    """The model ended by itself, rather than at max_new_tokens."""
    batch: int = 0
    """Which frozen batch it was in: asking the same batch again gives the same answers."""


class Sampling(Noun, frozen=True, kw_only=True):
    """How answers are drawn. Temperature 0 is greedy, and repeatable."""

    max_new_tokens: int = 96
    temperature: float = 0.0
    seed: int = 0


def read_questions(path: Path) -> list[Question]:
    """The questions of a JSONL file. Raises Rejected naming the line at fault."""
    questions = []
    seen: set[str] = set()
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise Rejected(f"{path} cannot be read: {error.strerror}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            question = msgspec.json.decode(line, type=Question)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Rejected(
                f"{path}, line {number}: {error}.",
                hint='A line is {"id": "...", "prompt": "..."} or {"id": ..., "messages": [...]}.',
            ) from error
        if not question.prompt and not question.messages:
            raise Rejected(f"{path}, line {number}: neither prompt nor messages.")
        if question.id in seen:
            raise Rejected(f"{path}, line {number}: the id {question.id!r} is there twice.")
        seen.add(question.id)
        questions.append(question)
    if not questions:
        raise Rejected(f"{path} holds no question.")
    return questions
