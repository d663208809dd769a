"""What a family of guard models must say of itself: how to ask, and what the answers mean.

Pure: no torch, no tokenizer, no file. `scorers/guard.py` reads the probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from scorers.settings import GuardSettings
from store.errors import Misconfigured
from store.records import Experience

REFUSAL = "guard.refusal"
"""Dimension: how probable it is that the response declines. Beside the panel's harms."""


class Turn(NamedTuple):
    """One turn of a conversation, as a template takes it."""

    role: Literal["user", "assistant"]
    content: str


class Exchange(NamedTuple):
    """A conversation as guards read it: from a user turn on, in turns, to the response."""

    turns: tuple[Turn, ...]
    said_at: datetime
    """Some templates tell the date: this one, not that of the clock."""

    @property
    def asked(self) -> str:
        """The user turn that the response answers."""
        return self.turns[-2].content

    @property
    def response(self) -> str:
        """What is judged."""
        return self.turns[-1].content


class Line(NamedTuple):
    """A line of the answer form: the words before a verdict, and how each verdict is spelt."""

    lead: str
    verdicts: Mapping[str, tuple[str, ...]]
    """By what it means, the most usual first. Of its spellings later lines stand on the first."""


class Question(NamedTuple):
    """One prompt, and the form that the guard would answer in."""

    name: str
    prompt: str
    lines: tuple[Line, ...]


class Reading(NamedTuple):
    """The probabilities of the verdicts in one line."""

    shares: Mapping[str, float]
    """By verdict; they sum to one."""
    mass: float
    """How much of all probability lay on the verdicts: 1 when the guard kept to its form."""


class Said(NamedTuple):
    """What a guard says in one dimension, 0..1."""

    dimension: str
    value: float
    mass: float
    note: str = ""


class Template:
    """A tokenizer's chat template: its source, and how it is filled in."""

    def __init__(self, source: str, fill: Callable[..., str]) -> None:
        """`fill` takes messages and the template's own arguments."""
        self.source = source
        self._fill = fill

    def __call__(self, messages: Sequence[Mapping[str, Any]], **arguments: Any) -> str:
        """The prompt, up to where the guard begins to write."""
        return self._fill(messages, **arguments)

    def require(self, words: str, family: str) -> None:
        """Raises Misconfigured unless the source of the template has these words."""
        if words not in self.source:
            raise Misconfigured(
                f"panel.guard.model: its chat template is not that of {family} "
                f"(there is no {words!r} in it).",
                hint="Set panel.guard.family to the model's own, or name the maker's checkpoint.",
            )


class Family(NamedTuple):
    """How one family of guards is asked and understood."""

    model_types: frozenset[str]
    """What config.json may call the architecture."""
    markers: tuple[str, ...]
    """Words that structure the prompt besides the tokenizer's special tokens."""
    questions: Callable[[Template, Exchange, GuardSettings], tuple[Question, ...]]
    """The prompts for one exchange. Raises Misconfigured."""
    findings: Callable[[Mapping[str, Sequence[Reading]]], tuple[Said, ...]]
    """What the readings mean: by question, one reading a line."""
    dimensions: Callable[[GuardSettings], tuple[str, ...]]
    """What `findings` speaks of, for when the guard cannot be asked."""


def exchange(experience: Experience) -> Exchange | None:
    """The conversation in alternating turns, or None when there is no user turn.

    System messages are left out, because the guards' templates have no place for them; so is an
    assistant's message right before the response, because the response alone is judged.
    """
    turns: list[Turn] = []
    for message in experience.messages:
        content = message.content.strip()
        if message.role == "system" or not content:
            continue
        if turns and turns[-1].role == message.role:
            turns[-1] = Turn(message.role, f"{turns[-1].content}\n\n{content}")
        elif turns or message.role == "user":
            turns.append(Turn(message.role, content))
    if turns and turns[-1].role == "assistant":
        turns.pop()
    if not turns:
        return None
    answer = Turn("assistant", experience.response.strip())
    return Exchange((*turns, answer), experience.occurred_at)


def messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The turns as chat templates take them."""
    return [turn._asdict() for turn in turns]
