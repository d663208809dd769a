"""Parts become examples: the same seed, count and parts give the same examples.

No two examples have the same prompt, and no two answers differ in an aside alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from converters.constitution import parts as read_parts
from converters.constitution.deal import DIFFICULTIES, LAWS, SAFE_LAWS, TYPES, deck, shares
from converters.constitution.examples import (
    GIST,
    Decision,
    Difficulty,
    Example,
    ExampleType,
    LawCategory,
)
from converters.constitution.parts import (
    Aside,
    Conflict,
    Edge,
    Harmful,
    Parts,
    Safe,
    Talk,
    Topic,
    narrowed,
)
from store.errors import BhavanaError
from store.records import Message

TRIES = 400
"""Draws of one topic before it counts as used up."""

T = TypeVar("T", bound=Topic)


class UsedUpError(BhavanaError):
    """The parts cannot make so many different examples."""


class Draft(NamedTuple):
    """An example before it is known to be a new one."""

    topic: Topic
    law: LawCategory
    decision: Decision
    says: Sequence[str]
    core: Sequence[str]
    """The sentences of the answer that are about the request."""
    asides: Sequence[str]
    """Those about what was said beside it."""
    fault: str
    about: str
    """The second sentence of the critique."""
    principle: str
    conversation: tuple[Message, ...] = ()


class Circumstance(NamedTuple):
    """What a person says around a request, and the answers to it."""

    context: tuple[str, str] | None
    persona: tuple[str, str] | None
    twist: tuple[str, str] | None

    @property
    def said(self) -> list[str]:
        """What the person says, in order."""
        return [pair[0] for pair in (self.persona, self.context, self.twist) if pair]


def examples(count: int, seed: int, parts: Parts | None = None) -> list[Example]:
    """`count` different examples in the seed's shares. Raises UsedUpError when there are fewer."""
    return _Composer(seed, parts or read_parts.read()).compose(count)


class _Composer:
    def __init__(self, seed: int, parts: Parts) -> None:
        self._draw = random.Random(seed)  # noqa: S311  # an order, not a secret
        self._parts = parts
        self._by_id: dict[str, Harmful | Safe] = {t.id: t for t in parts.harmful}
        self._by_id |= {t.id: t for t in parts.safe}
        self._used: Counter[str] = Counter()
        self._prompts: set[str] = set()
        self._answers: set[str] = set()

    def compose(self, count: int) -> list[Example]:
        drafts: list[tuple[ExampleType, Difficulty, Draft]] = []
        for kind, n in shares(count, TYPES).items():
            difficulties = deck(n, DIFFICULTIES, self._draw)
            for difficulty, wanted in zip(difficulties, self._wanted(kind, n), strict=True):
                drafts.append((kind, difficulty, self._new(kind, difficulty, wanted)))
        self._draw.shuffle(drafts)
        return [self._example(i, *draft) for i, draft in enumerate(drafts, start=1)]

    def _wanted(self, kind: ExampleType, n: int) -> Sequence[LawCategory | Decision]:
        """What each example of a kind must have: its law, or where it ends."""
        if kind is ExampleType.HARMFUL_BLOCKED or kind is ExampleType.EDGE_CASE:
            return deck(n, LAWS, self._draw)
        if kind is ExampleType.SAFE_REQUEST:
            return deck(n, SAFE_LAWS, self._draw)
        return deck(n, {Decision.ALLOW: 1, Decision.REFUSE: 1}, self._draw)

    def _new(
        self, kind: ExampleType, difficulty: Difficulty, wanted: LawCategory | Decision
    ) -> Draft:
        """A draft whose prompt and answer are new, from the least used topic that has one left."""
        for id, make in self._makers(kind, difficulty, wanted):
            for _ in range(TRIES):
                draft = make()
                prompt, answer = " ".join(draft.says), " ".join(draft.core)
                if prompt not in self._prompts and answer not in self._answers:
                    self._prompts.add(prompt)
                    self._answers.add(answer)
                    self._used[id] += 1
                    return draft
        raise UsedUpError(
            f"The parts make no more examples: {kind.value}, {difficulty.value}, {wanted}.",
            hint="Ask for fewer, or write more parts.",
        )

    def _makers(
        self, kind: ExampleType, difficulty: Difficulty, wanted: LawCategory | Decision
    ) -> list[tuple[str, Callable[[], Draft]]]:
        parts = self._parts
        makers: list[tuple[str, Callable[[], Draft]]]
        if kind is ExampleType.HARMFUL_BLOCKED:
            makers = [
                (t.id, lambda t=t: self._harmful(t, difficulty))  # type: ignore[misc]
                for t in parts.harmful
                if t.law == wanted and _fits(t, difficulty)
            ]
        elif kind is ExampleType.SAFE_REQUEST:
            makers = [
                (t.id, lambda t=t: self._safe(t, difficulty))  # type: ignore[misc]
                for t in parts.safe
                if t.law == wanted and _fits(t, difficulty)
            ]
        elif kind is ExampleType.EDGE_CASE:
            makers = [
                (t.id, lambda t=t: self._edge(t, difficulty))  # type: ignore[misc]
                for t in parts.edge
                if t.law == wanted and _fits(t, difficulty)
            ]
        elif kind is ExampleType.LAW_CONFLICT:
            makers = [
                (t.id, lambda t=t: self._conflict(t, difficulty))  # type: ignore[misc]
                for t in parts.conflict
                if t.decision == wanted and _fits(t, difficulty)
            ]
        else:
            makers = [
                (t.id, lambda t=t: self._talk(t, difficulty))  # type: ignore[misc]
                for t in parts.talks
                if _ends(self._by_id[t.topic]) is wanted and _fits(self._by_id[t.topic], difficulty)
            ]
        return sorted(makers, key=lambda maker: self._used[maker[0]])  # stable: ties as written

    # --- one kind each ------------------------------------------------------------------------

    def _harmful(self, t: Harmful, difficulty: Difficulty, which: int | None = None) -> Draft:
        t = self._asked(t, which)
        around = self._around(t, difficulty, granted=False)
        ask = self._draw.choice(self._parts.asides.ask_harmful).format(ask=t.asks[0])
        harm = self._draw.choice(t.harm)
        return Draft(
            topic=t,
            law=t.law,
            decision=Decision.REFUSE,
            says=[*around.said, ask],
            core=[
                *_replies(around.context),
                self._draw.choice(t.refuse),
                *_replies(around.twist),
                harm,
                *self._instead(t, 2),
            ],
            asides=[] if t.urgent else _replies(around.persona),
            fault="eager",
            about=harm,
            principle=_principle(t.law, t.principle),
        )

    def _safe(self, t: Safe, difficulty: Difficulty, which: int | None = None) -> Draft:
        t = self._asked(t, which)
        around = self._around(t, difficulty, granted=True)
        ask = self._draw.choice(self._parts.asides.ask_safe).format(ask=t.asks[0])
        return Draft(
            topic=t,
            law=t.law,
            decision=Decision.ALLOW,
            says=[*around.said, ask],
            core=[
                *_replies(around.twist),
                *_replies(around.context),
                self._draw.choice(t.lead),
                *self._some(t.tips, 3),
                self._draw.choice(t.close),
            ],
            asides=[] if t.urgent else _replies(around.persona),
            fault="closed",
            about=self._draw.choice(t.misses),
            principle=_principle(t.law, t.principle),
        )

    def _edge(self, t: Edge, difficulty: Difficulty) -> Draft:
        t = self._asked(t)
        around = self._around(t, difficulty, granted=True)
        ask = self._draw.choice(self._parts.asides.ask_safe).format(ask=t.asks[0])
        holds = self._draw.choice(t.holds)
        return Draft(
            topic=t,
            law=t.law,
            decision=Decision.CLARIFY,
            says=[*around.said, ask],
            core=[
                *_replies(around.twist),
                *_replies(around.context),
                self._draw.choice(t.lead),
                *self._some(t.tips, 2),
                holds,
                self._draw.choice(t.question),
            ],
            asides=[] if t.urgent else _replies(around.persona),
            fault="eager",
            about=self._draw.choice(t.misses),
            principle=_principle(t.law, t.principle),
        )

    def _conflict(self, t: Conflict, difficulty: Difficulty) -> Draft:
        t = self._asked(t)
        decision = Decision(t.decision)
        around = self._around(t, difficulty, granted=decision is Decision.ALLOW)
        return Draft(
            topic=t,
            law=t.over,
            decision=decision,
            says=[*around.said, t.asks[0]],
            core=[
                *_replies(around.twist),
                *_replies(around.context),
                self._precedence(t.over, t.under),
                self._draw.choice(t.weigh),
                self._draw.choice(t.does),
                *self._instead(t, 1),
            ],
            asides=[] if t.urgent else _replies(around.persona),
            fault="order",
            about=self._draw.choice(t.misses),
            principle=f"Law {t.over} goes before Law {t.under}: {t.principle}",
        )

    def _talk(self, talk: Talk, difficulty: Difficulty) -> Draft:
        """A topic that a conversation came to; the turn it took is answered first."""
        topic = self._by_id[talk.topic]
        if isinstance(topic, Harmful):
            draft = self._harmful(topic, difficulty, self._draw.choice(talk.asks))
        else:
            draft = self._safe(topic, difficulty, self._draw.choice(talk.asks))
        turns = [self._draw.choice(talk.first), self._draw.choice(talk.second)]
        return draft._replace(
            core=[self._draw.choice(talk.bridge), *draft.core],
            fault="turn" if isinstance(topic, Harmful) else "deaf",
            conversation=tuple(
                message
                for person, model in turns
                for message in (
                    Message(role="user", content=person),
                    Message(role="assistant", content=model),
                )
            ),
        )

    # --- pieces -------------------------------------------------------------------------------

    def _around(self, t: Topic, difficulty: Difficulty, *, granted: bool) -> Circumstance:
        """Circumstances as many and as hard as the difficulty says."""
        asides = self._parts.asides
        twists = {Difficulty.HARD: asides.pressure, Difficulty.ADVERSARIAL: asides.tricks}
        if not isinstance(t, Harmful):  # some tricks and pressures suit a harmful request alone
            tricks = tuple(a for a in asides.tricks if a.helps and a.refuses)
            twists[Difficulty.ADVERSARIAL] = tricks
        context: tuple[str, str] | None = self._draw.choice(t.contexts)
        persona = self._aside([a for a in asides.personas if a.tender or not t.tender], granted)
        twist = self._aside(twists[difficulty], granted) if difficulty in twists else None
        if difficulty is Difficulty.EASY or (twist and self._draw.random() < 0.6):
            # not everything at once: such an answer would be long, and mostly beside the point
            if t.tender or self._draw.random() < 0.7:
                persona = None
            else:
                context = None
        return Circumstance(context, persona, twist)

    def _aside(self, asides: Sequence[Aside], granted: bool) -> tuple[str, str] | None:
        usable = [a for a in asides if (a.helps if granted else a.refuses)]
        aside = self._draw.choice(usable)
        return aside.says, self._draw.choice(aside.helps if granted else aside.refuses)

    def _asked(self, t: T, which: int | None = None) -> T:
        return narrowed(t, self._draw.randrange(len(t.asks)) if which is None else which)

    def _instead(self, t: Harmful | Conflict, n: int) -> list[str]:
        """`n` alternatives; in distress the first that is written and `n` others."""
        if t.tender:
            return [t.instead[0], *self._some(t.instead[1:], n)]
        return self._some(t.instead, n)

    def _some(self, forms: Sequence[str], n: int) -> list[str]:
        """`n` of them, in the order in which they are written."""
        chosen = self._draw.sample(range(len(forms)), n)
        return [forms[i] for i in sorted(chosen)]

    def _precedence(self, over: LawCategory, under: LawCategory) -> str:
        high, low = GIST[over], GIST[under]
        return self._draw.choice(
            (
                f"Two laws pull here, and Law {over} ({high}) goes before Law {under} ({low}).",
                f"Law {under} says: {low}. Law {over} says: {high}, and it goes first.",
                f"This sets Law {over} ({high}) against Law {under} ({low}); the first decides.",
                f"Where Law {over} and Law {under} disagree, Law {over} wins: {high}.",
            )
        )

    def _example(
        self, number: int, kind: ExampleType, difficulty: Difficulty, draft: Draft
    ) -> Example:
        fault = self._draw.choice(self._parts.asides.fault[draft.fault])
        misses = self._draw.choice(draft.topic.misses)
        critique = [fault, draft.about] if draft.about == misses else [fault, draft.about, misses]
        if draft.fault in ("closed", "deaf", "order") or kind is ExampleType.EDGE_CASE:
            critique = critique[:2]  # the second is what was missed already
        return Example(
            example_id=f"eth_{number:06d}",
            example_type=kind,
            law_category=draft.law,
            prompt=" ".join(draft.says),
            response_harmful=self._draw.choice(draft.topic.bad),
            response_ethical=" ".join([*draft.core, *draft.asides]),
            critique=" ".join(critique),
            principle=draft.principle,
            conversation=draft.conversation,
            difficulty=difficulty,
            tags=(draft.decision.value, draft.topic.id, *draft.topic.tags),
        )


def _fits(t: Topic, difficulty: Difficulty) -> bool:
    return not t.tender or difficulty in (Difficulty.EASY, Difficulty.MEDIUM)


def _ends(topic: Harmful | Safe) -> Decision:
    return Decision.REFUSE if isinstance(topic, Harmful) else Decision.ALLOW


def _replies(pair: tuple[str, str] | None) -> list[str]:
    return [pair[1]] if pair else []


def _principle(law: LawCategory, principle: str) -> str:
    if law is LawCategory.NONE:
        return principle[0].upper() + principle[1:]
    return f"Law {law} ({GIST[law]}): {principle}"
