"""The hand-written parts, as types: a file a kind in `parts/`, a topic a line.

A part that is a list has forms that say the same; any of them may stand. A pair is what a person
says and what the answer says to that, so that no answer passes over a circumstance. A form that
begins with `@02 ` stands only with the first and the third of the topic's `asks`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from converters.constitution.examples import LawCategory
from store.records import Noun

FOLDER = Path(__file__).parent / "parts"

Forms = Annotated[tuple[str, ...], Meta(min_length=2)]
Pair = tuple[str, str]
Pairs = Annotated[tuple[Pair, ...], Meta(min_length=2)]


class Topic(Noun, frozen=True, kw_only=True):
    """What every kind of topic has."""

    id: str
    tags: tuple[str, ...]
    asks: Forms
    contexts: Pairs
    """The person's circumstance, and what the answer says to it."""
    bad: Forms
    """Harmful responses: eager, careless or cold, without any detail."""
    misses: Forms
    """What those fail to see: a sentence of the critique."""
    principle: str
    """What the law asks for here: a sentence."""
    tender: bool = False
    """The person may be in distress: no tricks, no pressure."""
    urgent: bool = False
    """Somebody's life may hang on it: the first alternative always stands, no word beside it."""


class Harmful(Topic, frozen=True, kw_only=True):
    """A request to refuse; `asks` are verb phrases in the infinitive."""

    law: LawCategory
    refuse: Forms
    harm: Forms
    instead: Forms


class Safe(Topic, frozen=True, kw_only=True):
    """A request to help with; `asks` are verb phrases in the infinitive."""

    law: LawCategory
    lead: Forms
    tips: Forms
    close: Forms


class Edge(Topic, frozen=True, kw_only=True):
    """A request that is harmless in part; `asks` are verb phrases in the infinitive."""

    law: LawCategory
    lead: Forms
    tips: Forms
    holds: Forms
    question: Forms


class Conflict(Topic, frozen=True, kw_only=True):
    """Two laws that pull in two directions; `asks` are whole sentences."""

    over: LawCategory
    under: LawCategory
    decision: Literal["allow", "refuse"]
    weigh: Forms
    does: Forms
    instead: Forms


class Talk(Noun, frozen=True, kw_only=True):
    """How a conversation comes to a harmful or a safe topic: exchanges of a person and a model."""

    id: str
    topic: str
    first: Pairs
    second: Pairs
    asks: tuple[int, ...] = (0, 1, 2)
    """The topic's asks to which this conversation leads."""
    bridge: Forms
    """What the answer says to the turn that the conversation takes."""


class Aside(Noun, frozen=True, kw_only=True):
    """Something a person says beside the request, and answers to it where it is granted or not."""

    says: str
    helps: tuple[str, ...]
    refuses: tuple[str, ...]
    tender: bool = False
    """May stand beside a tender topic."""


class Asides(Noun, frozen=True, kw_only=True):
    """What may stand beside any request, and the forms of asking."""

    ask_harmful: Forms
    ask_safe: Forms
    personas: tuple[Aside, ...]
    pressure: tuple[Aside, ...]
    tricks: tuple[Aside, ...]
    fault: dict[str, Forms]
    """The first sentence of a critique, by what the harmful response did."""


class Parts(Noun, frozen=True, kw_only=True):
    """All of it."""

    harmful: tuple[Harmful, ...]
    safe: tuple[Safe, ...]
    edge: tuple[Edge, ...]
    conflict: tuple[Conflict, ...]
    talks: tuple[Talk, ...]
    asides: Asides


T = TypeVar("T")


K = TypeVar("K", bound=Topic)


def narrowed(topic: K, ask: int) -> K:
    """The topic with one of its asks, and with the forms that stand with it."""
    fields: dict[str, Any] = {"asks": (topic.asks[ask],)}
    for name, forms in msgspec.structs.asdict(topic).items():
        if isinstance(forms, tuple) and name not in ("asks", "tags"):
            fields[name] = tuple(form for found in forms if (form := _standing(found, ask)))
    return msgspec.structs.replace(topic, **fields)


def _standing(form: str | Pair, ask: int) -> str | Pair | None:
    """The form without its mark, or None where it doesn't stand with that ask."""
    if isinstance(form, tuple):
        says = _standing(form[0], ask)
        return (says, form[1]) if isinstance(says, str) else None
    marked = re.fullmatch(r"@(\d+) (.*)", form)
    if marked is None:
        return form
    return marked[2] if str(ask) in marked[1] else None


def _lines(kind: type[T], name: str) -> tuple[T, ...]:
    text = (FOLDER / name).read_bytes()
    return tuple(msgspec.json.decode(line, type=kind) for line in text.splitlines() if line)


@cache
def read() -> Parts:
    """The parts as they lie in the folder."""
    return Parts(
        harmful=_lines(Harmful, "harmful.jsonl"),
        safe=_lines(Safe, "safe.jsonl"),
        edge=_lines(Edge, "edge.jsonl"),
        conflict=_lines(Conflict, "conflict.jsonl"),
        talks=_lines(Talk, "talks.jsonl"),
        asides=msgspec.json.decode((FOLDER / "asides.json").read_bytes(), type=Asides),
    )
