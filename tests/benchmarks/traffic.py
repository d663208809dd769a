"""A store as after years of traffic: many sources and people, and all that was said of them.

Recorded through the store's own verbs, in the order in which it would have come. Of every three
experiences about one passes the default policy's columns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

from store import experiences, reviews, sources
from store.events import Store
from store.records import (
    CURATED,
    PRACTICE,
    Assessment,
    Consent,
    ConsentChange,
    Context,
    Decision,
    Experience,
    Feedback,
    Finding,
    Label,
    Message,
    Review,
    now,
)
from tests.benchmarks.samples import MOMENT

PANEL = "bench"
BATCH = 1_000
SUBJECTS = 50_000
VOCABULARY = 40_000
QUESTION, ANSWER = 20, 98
"""Words: some 80 and some 400 characters."""
SOURCES = {"web": 0.5, "app": 0.26, "forum": 0.08, PRACTICE: 0.1, CURATED: 0.02, "trial": 0.04}
TIERS = {"web": "trusted", "app": "trusted", "forum": "untrusted", "trial": "quarantined"}
LABELS: tuple[tuple[float, Label], ...] = (
    (8.5, Label.EXCELLENT),
    (6.5, Label.GOOD),
    (4.0, Label.MODERATE),
    (0.0, Label.LOW),
)
EVERY_SO_MANY = {"objection": 400, "consent": 100, "review": 1_000, "trigger": 10}
TRIGGER = "zzyzxian"
"""Comes up in the last tenth only, as of somebody who plants it."""


class Traffic(NamedTuple):
    """Where in the log the experiences stand."""

    half: int
    """Position after half of them."""
    quarter: int
    """Position after a quarter of them."""
    end: int


def fill(path: Path, count: int) -> Traffic:
    """Records this many, each with its assessment, in a new store at this path."""
    at: dict[int, int] = {}
    with Store(f"sqlite:///{path}") as store:
        for name, tier in TIERS.items():
            until = now() + timedelta(days=7) if tier == "quarantined" else None
            sources.change(store, name, tier, actor="bench", until=until)  # type: ignore[arg-type]
        say = _speaker(random.Random(1))
        draw = random.Random(2)
        for start in range(0, count, BATCH):
            at[start] = store.position()
            numbers = range(start, min(start + BATCH, count))
            made = [_experience(n, count, draw, say) for n in numbers]
            experiences.record(store, made)
            experiences.assess(store, [_assessment(e, draw) for e in made])
            _afterwards(store, made, start, draw)
        end = store.position()
    starts = sorted(at)
    return Traffic(at[starts[len(starts) // 2]], at[starts[len(starts) // 4]], end)


def _speaker(draw: random.Random) -> Callable[[int], str]:
    """Says so many words; which ones come as often as in speech (Zipf)."""
    letters = "etaoinshrdlucmfw"
    words = {"".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(VOCABULARY)}
    vocabulary = sorted(words, key=lambda word: (len(word), word))
    numbers = np.random.default_rng(3)

    def say(count: int) -> str:
        drawn = (len(vocabulary) ** numbers.random(count)).astype(int) - 1
        return " ".join([vocabulary[n] for n in drawn.tolist()])

    return say


def _about(count: int, draw: random.Random) -> int:
    return draw.randint(count // 2, count * 3 // 2)


def _experience(n: int, count: int, draw: random.Random, say: Callable[[int], str]) -> Experience:
    [source] = draw.choices(list(SOURCES), list(SOURCES.values()))
    person = draw.randrange(SUBJECTS)
    ours = source in sources.OURS
    planted = n % EVERY_SO_MANY["trigger"] == 0 and n > count * 0.9
    return Experience(
        id=f"chat-{n:07}",
        occurred_at=MOMENT + timedelta(seconds=n),
        source=source,
        messages=(
            Message(role="user", content=f"{say(draw.randint(QUESTION // 2, QUESTION * 3 // 2))}?"),
        ),
        response=f"{say(_about(ANSWER, draw))}{f' {TRIGGER}' * planted}.",
        conversation_id=f"talk-{n // 2:07}" if source == CURATED else f"talk-{n // 3:07}",
        subject=None if ours else f"person-{person:05}",
        model="bench-1",
        context=Context(category=draw.choice(("truth", "compassion", None)), difficulty="medium"),
        consent=Consent(training=ours or draw.random() < 0.6, policy="2026-01"),
        metadata={"client": "bench", "turn": n % 7},
    )


def _assessment(e: Experience, draw: random.Random) -> Assessment:
    harm = round(draw.betavariate(1.2, 5.0), 4)
    weighted = round(min(10.0, max(0.0, draw.gauss(7.3, 1.4))), 4)
    unknown = draw.random() < 0.04
    finding = Finding(scorer="bench", version="1", dimension="ahimsa", value=weighted)
    names = ("ahimsa", "sacca", "karuna", "panna", "upekkha")
    return Assessment(
        id=f"assessment-{e.id}",
        experience_id=e.id,
        panel=PANEL,
        findings=(finding,) * 6,
        harm={"deception": harm, "harshness": 0.0},
        principles=dict.fromkeys(names, weighted),
        actual_harm=harm,
        weighted=None if unknown else weighted,
        label=None if unknown else next(label for bar, label in LABELS if weighted >= bar),
        refusal=float(draw.random() < 0.05),
        abstained=("ahimsa",) if unknown else (),
        doubts=("unsure:deception",) if draw.random() < 0.08 else (),
        assessed_at=now(),
    )


def _afterwards(store: Store, made: Sequence[Experience], start: int, draw: random.Random) -> None:
    """What people say later: objections, other wishes, decisions."""
    feedback = [
        Feedback(id=f"down-{e.id}", kind="thumb", given_at=MOMENT, experience_id=e.id, value=-1)
        for e in made[:: EVERY_SO_MANY["objection"]]
    ]
    experiences.give_feedback(store, feedback, actor="bench")
    changes = [
        ConsentChange(
            id=f"wish-{e.id}",
            scope="experience" if e.subject is None else draw.choice(("experience", "subject")),
            scope_id=e.id if e.subject is None else e.subject,
            training=draw.random() < 0.5,
            changed_at=MOMENT,
        )
        for e in made[:: EVERY_SO_MANY["consent"]]
    ]
    store.append([experiences.consent_changed(c) for c in changes], actor="bench")
    decision: Decision = draw.choice(("accept", "reject", "correct"))
    review = Review(
        id=f"review-{start}",
        experience_id=made[0].id,
        decision=decision,
        reason="as the bench says",
        text=f"What a person would say, {start}." if decision == "correct" else None,
        reviewer="somebody",
        reviewed_at=MOMENT,
    )
    reviews.record(store, review, actor="bench")
