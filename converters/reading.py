"""The pass over the words: what of each experience decides whether it is learned from.

Experiences are read in small batches, and only numbers of them stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from converters.grams import Numbered, Numbers, Places, mixed, numbered
from converters.rows import Rows
from store import experiences
from store.events import StoreReader
from store.privacy import batches

BATCH = 1_000
"""Experiences at once: numpy's calls cost little beside what they do, and memory stays small."""


class Turn(Struct, frozen=True, gc=False):
    """What was said before the response."""

    role: str
    content: str


class Situation(Struct, frozen=True, gc=False):
    """What it was about."""

    category: str | None = None
    difficulty: str | None = None


class Spoken(Struct, frozen=True, gc=False):
    """The parts of an experience that decide; it was checked when it was recorded."""

    id: str
    source: str
    messages: tuple[Turn, ...]
    response: str
    conversation_id: str | None = None
    subject: str | None = None
    context: Situation = Situation()

    @property
    def conversation(self) -> str:
        """The conversation, or the experience."""
        return self.conversation_id or self.id


NOTHING = Spoken(id="", source="", messages=(), response="")
_spoken = msgspec.json.Decoder(Spoken).decode


class Said(NamedTuple):
    """Some experiences, and everything that was said in them, as words."""

    places: Places
    """Of each among the rows asked for; what was erased meanwhile is not there."""
    found: list[Spoken]
    texts: list[str]
    """Of each experience its messages in their order, then the response."""
    heard: np.ndarray
    """Which of the texts a person or a model said, and not the system."""
    words: Numbered
    """Of all texts."""
    responses: np.ndarray
    """Which of the texts is each one's response."""
    questions: np.ndarray
    """Which is the last that the person said; -1 where the person said nothing."""


def _read(body: bytes, better: Mapping[str, str]) -> Spoken:
    """With the answer that a person wrote in place of the model's, where one did."""
    spoken = _spoken(body)
    text = better.get(spoken.id)
    return spoken if text is None else msgspec.structs.replace(spoken, response=text)


def said(store: StoreReader, rows: Rows, better: Mapping[str, str]) -> Iterator[Said]:
    """Reads what was said in these rows, some at a time."""
    for start in range(0, len(rows), BATCH):
        wanted = rows["position"][start : start + BATCH].tolist()
        bodies = experiences.bodies_at(store, wanted)
        places = [place for place, position in enumerate(wanted) if position in bodies]
        found = [_read(bodies[wanted[place]], better) for place in places]
        texts: list[str] = []
        heard, responses, questions = [], [], []
        for spoken in found:
            question = -1
            for turn in spoken.messages:
                if turn.role == "user":
                    question = len(texts)
                texts.append(turn.content)
                heard.append(turn.role != "system")
            questions.append(question)
            responses.append(len(texts))
            texts.append(spoken.response)
            heard.append(True)
        yield Said(
            places=np.array(places, int) + start,
            found=found,
            texts=texts,
            heard=np.array(heard, bool),
            words=numbered(texts),
            responses=np.array(responses, int),
            questions=np.array(questions, int),
        )


def exchange(some: Said) -> tuple[Numbers, Numbers]:
    """Of each experience a number for the words of the question, and for those of both."""
    whole = some.words.whole
    # -1 reads the last text's number, which stands for no question.
    asked = np.where(some.questions < 0, np.uint64(0), whole[some.questions])
    return asked, mixed(asked * np.uint64(3) + whole[some.responses])


def texts(store: StoreReader, rows: Rows, better: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(question, answer) of each row, in their order; empty where it was erased meanwhile."""
    for some in batches(rows["position"].tolist()):
        bodies = experiences.bodies_at(store, some)
        for position in some:
            spoken = _read(bodies[position], better) if position in bodies else NOTHING
            asked = [turn.content for turn in spoken.messages if turn.role == "user"]
            yield asked[-1] if asked else "", spoken.response


def asked_in(store: StoreReader, rows: Rows, better: Mapping[str, str]) -> Iterator[list[str]]:
    """Everything that the person said in each row, in their order."""
    for some in batches(rows["position"].tolist()):
        bodies = experiences.bodies_at(store, some)
        for position in some:
            spoken = _read(bodies[position], better) if position in bodies else NOTHING
            yield [turn.content for turn in spoken.messages if turn.role == "user"]
