"""The samples of a suite: data, and nothing that knows a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from store.errors import IntegrityError
from store.records import Message, Noun
from trainer.base import hash_files
from trainer.questions import Question

SUITES = Path(__file__).parent / "suites"


class Case(Noun, frozen=True, kw_only=True):
    """One call of a function that a model wrote, and what must come back."""

    call: str
    """The function's name."""
    arguments: tuple[Any, ...] = ()
    """JSON values."""
    expected: Any = None
    raises: str = ""
    """The name of the exception that must be raised instead."""


class Sample(Noun, frozen=True, kw_only=True):
    """One sample of a suite; paraphrases of one another share a family."""

    id: str
    family: str
    prompt: str
    earlier: tuple[Message, ...] = ()
    """The turns before the prompt."""
    category: str = ""
    principle: str = ""
    reference: str = ""
    """A good reply."""
    keeps: str = ""
    breaks: str = ""
    """Two replies alike in length and tone, of which the first is the better."""
    options: tuple[str, ...] = ()
    """The only replies there are: the grammar of a choice."""
    target: str = ""
    """The right option, or what the score looks for."""
    cases: tuple[Case, ...] = ()

    def question(self) -> Question:
        """As a model is asked it."""
        return Question(
            id=self.id, messages=(*self.earlier, Message(role="user", content=self.prompt))
        )

    def texts(self) -> frozenset[str]:
        """All its words: none of them may enter training. Options are too short to be told."""
        said = (self.prompt, *(m.content for m in self.earlier))
        return frozenset((*said, self.reference, self.keeps, self.breaks)) - {""}


def read_suite(name: str) -> list[Sample]:
    """The samples of a suite, in the order of the file. Raises IntegrityError."""
    hint = "Install again: the suites came with the program."
    try:
        return msgspec.json.Decoder(Sample).decode_lines((SUITES / name).read_bytes())
    except OSError as error:
        raise IntegrityError(f"The suite {name} is missing.", hint=hint) from error
    except msgspec.DecodeError as error:
        raise IntegrityError(f"The suite {name} cannot be read: {error}.", hint=hint) from error


def suite_hash(name: str) -> str:
    """SHA-256 of the suite's file: a verdict is bound to it. Empty where the file is missing."""
    return hash_files([SUITES / name]) if (SUITES / name).is_file() else ""
