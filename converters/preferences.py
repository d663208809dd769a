"""What people say of answers, as pairs (better and worse, for DPO) and as marks (good or bad, KTO).

Who is believed, and in what:

- A reviewer's decision stands. What a reviewer rejected or corrected is never the better answer,
  and what one accepted or wrote never the worse, nor the same words under another id.
- Feedback is a stranger's, and a signal, never a proof. It may say that an answer is worse. That a
  *response* is better counts only where a reviewer accepted it or the panel's assessment admits it
  to training. That a *text of their own* is better counts only where a reviewer accepted or wrote
  the same words in the same conversation, or where it came with the key of a trusted source:
  nobody else ever judged it, and learning it would be learning whatever anybody sends.
- A thumb down on a refusal says nothing: people are displeased to be refused what they should be.

Consent, gate items, duplicates and caps are asked as for any training. Nothing is drawn at
random: the same store, position and policy give the same in the same order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np

from converters.aside import Aside
from converters.flood import beyond_the_burst
from converters.forbidden import Forbidden
from converters.formats.format import Format
from converters.reading import said as words_of
from converters.rows import ROW
from converters.steps import SURE_REFUSAL, route_of
from converters.words import Words, words
from store import experiences, reviews
from store.events import StoreReader
from store.experiences import Assessed, Heard
from store.records import Experience, Noun, Policy
from store.redaction import is_bare, is_withheld
from store.reviews import Decided
from store.sources import OURS

T = TypeVar("T")
Origin = Literal["review", "correction", "preference", "thumb"]
"""Whose word it is: a reviewer's, or feedback of a kind."""


class Pair(Noun, frozen=True, kw_only=True):
    """Two answers to the same prompt, one better than the other."""

    experience: Experience
    chosen: str
    rejected: str
    origin: Origin
    members: tuple[int, ...]
    """Positions of the events that it was made from: what erasure follows."""


class Mark(Noun, frozen=True, kw_only=True):
    """One answer, and whether it is desirable."""

    experience: Experience
    answer: str
    desirable: bool
    origin: Origin
    members: tuple[int, ...]
    """Positions of the events that it was made from: what erasure follows."""


class Gathered(NamedTuple, Generic[T]):
    """What was found, in the order in which it was said, and how many each step dropped."""

    found: tuple[T, ...]
    funnel: dict[str, int]


class Said(Noun, frozen=True, kw_only=True):
    """All that people said of answers up to a position, and the answers."""

    assessed: tuple[Assessed, ...]
    decided: tuple[Decided, ...]
    heard: tuple[Heard, ...]


class Preference(NamedTuple, Generic[T]):
    """A way to learn from what people say of answers: what is gathered, and how it is written."""

    gather: Callable[..., Gathered[T]]
    format: Format[T]


def said(store: StoreReader, panel: str, *, as_of: int, moment: datetime) -> Said:
    """What was known at a position; `moment` says which quarantines were over."""
    kinds = ("correction", "preference", "thumb")
    return Said(
        assessed=tuple(experiences.assessed(store, panel, as_of=as_of, moment=moment)),
        decided=tuple(reviews.decided(store, as_of=as_of)),
        heard=tuple(experiences.heard(store, kinds, as_of=as_of, moment=moment)),
    )


def beyond_bursts(store: StoreReader, said: Said, *, ends: Sequence[int], allowed: int) -> set[int]:
    """Positions of the answers that share sudden words with `allowed` others before them.

    `ends` are the positions of earlier datasets: what came after each is compared with before.
    """
    names = sorted({a.experience.source for a in said.assessed})
    rows = np.zeros(len(said.assessed), ROW)
    rows["position"] = [a.position for a in said.assessed]
    rows["source"] = [names.index(a.experience.source) for a in said.assessed]
    others = [place for place, name in enumerate(names) if name not in OURS]
    with Aside() as aside:
        read = np.zeros(len(rows), bool)
        for some in words_of(store, rows, {}):
            aside.put(some, rows["position"][some.places], np.ones(len(some.found), bool))
            read[some.places] = True
        rows = rows[read]  # what was erased meanwhile is nobody's burst
        beyond = beyond_the_burst(aside, rows, of=others, ends=ends, allowed=allowed)
    return set(rows["position"][beyond].tolist())


def pairs(
    said: Said,
    policy: Policy,
    *,
    forbidden: Collection[str] = (),
    sudden: Collection[int] = (),
) -> Gathered[Pair]:
    """Better and worse answers: reviewers' corrections, people's corrections and preferences.

    The funnel counts what was `said`, then each step's drops under its own name, then `selected`.
    `sudden` are the positions of the answers beyond a burst.
    """
    kept = _kept(said, _comparisons, policy, forbidden, sudden)
    found = (
        Pair(
            experience=s.a.experience,
            chosen=s.better,
            rejected=s.worse,
            origin=s.origin,
            members=(s.a.position, s.position),
        )
        for s in kept.found
        if s.better is not None and s.worse is not None
    )
    return Gathered(tuple(found), kept.funnel)


def marks(
    said: Said,
    policy: Policy,
    *,
    forbidden: Collection[str] = (),
    sudden: Collection[int] = (),
) -> Gathered[Mark]:
    """Desirable and undesirable answers: reviewers' decisions and people's thumbs.

    A correction says two things: its text is desirable, the response is not. The funnel is that
    of `pairs`.
    """
    kept = _kept(said, _opinions, policy, forbidden, sudden)
    found = (
        Mark(
            experience=s.a.experience,
            answer=answer,
            desirable=s.better is not None,
            origin=s.origin,
            members=(s.a.position, s.position),
        )
        for s in kept.found
        for answer in s.answers
    )
    return Gathered(tuple(found), kept.funnel)


# --- what was said ------------------------------------------------------------------------


class _Statement(NamedTuple):
    """What somebody says of the answers to one prompt."""

    a: Assessed
    position: int
    origin: Origin
    better: str | None
    worse: str | None
    heard: Heard | None = None
    """None: a reviewer says it."""

    @property
    def answers(self) -> list[str]:
        """Those that it is about."""
        return [text for text in (self.better, self.worse) if text is not None]


def _comparisons(a: Assessed, by: Decided | Heard) -> Iterator[_Statement]:
    """What compares two answers."""
    response = a.experience.response
    if isinstance(by, Decided):
        if by.review.decision == "correct":
            yield _Statement(a, by.position, "review", by.review.text, response)
    elif by.feedback.kind == "correction":
        yield _Statement(a, by.position, "correction", by.feedback.text, response, by)
    elif by.feedback.kind == "preference":
        answers = (response, by.feedback.text)
        better, worse = answers if by.feedback.value == 1 else answers[::-1]
        yield _Statement(a, by.position, "preference", better, worse, by)


def _opinions(a: Assessed, by: Decided | Heard) -> Iterator[_Statement]:
    """What says of one answer that it is good or bad."""
    response = a.experience.response
    if isinstance(by, Decided):
        good = {"accept": response, "correct": by.review.text}.get(by.review.decision)
        if good is not None:
            yield _Statement(a, by.position, "review", good, None)
        if by.review.decision != "accept":
            yield _Statement(a, by.position, "review", None, response)
    elif by.feedback.kind == "thumb":
        good = response if by.feedback.value == 1 else None
        bad = response if by.feedback.value == -1 else None
        yield _Statement(a, by.position, "thumb", good, bad, by)


# --- what of it is learned from -----------------------------------------------------------


def _kept(
    said: Said,
    read: Callable[[Assessed, Decided | Heard], Iterator[_Statement]],
    policy: Policy,
    forbidden: Collection[str],
    sudden: Collection[int],
) -> Gathered[_Statement]:
    by_id = {a.experience.id: a for a in said.assessed}
    # Reviewers first: of two who say the same, theirs is kept, and under a cap theirs counts.
    spoken: list[Decided | Heard] = [*said.decided, *said.heard]
    candidates = [
        statement
        for by in spoken
        if (a := by_id.get(_experience_id(by))) is not None
        for statement in read(a, by)
    ]
    funnel = {"said": len(candidates)}
    reviewed = _reviewed(said.decided, by_id)
    gate_items = Forbidden(forbidden)

    def admitted(s: _Statement) -> bool:
        if s.better != s.a.experience.response or reviewed.vouches_for(s):
            return True
        return route_of(s.a.assessment, policy) == "training"

    def from_somebody_believed(s: _Statement) -> bool:
        if s.better in (None, s.a.experience.response) or reviewed.vouches_for(s):
            return True
        return s.heard is not None and s.heard.tier == "trusted"

    steps: dict[str, Callable[[list[_Statement]], list[_Statement]]] = {
        "taken_back": _newest_of_each,
        "without_consent": _each(_consented),
        "withheld": _each(_has_words),
        "quarantined": _each(_not_in_quarantine),
        "burst": _each(lambda s: s.a.position not in sudden),
        "nothing_asked": _each(lambda s: s.a.experience.messages[-1].role == "user"),
        "no_difference": _each(lambda s: len(set(map(words, s.answers))) == len(s.answers)),
        "against_a_review": _each(lambda s: not reviewed.contradicts(s)),
        "contradicted": _uncontradicted,
        "not_admitted": _each(admitted),
        "unjudged_text": _each(from_somebody_believed),
        "disliked_refusal": _each(lambda s: not _dislikes_a_refusal(s)),
        "duplicate": _first_of_each,
        "gate_item": _each(lambda s: not gate_items.in_any(_texts(s))),
    }
    for name, step in steps.items():
        kept = step(candidates)
        funnel[name] = len(candidates) - len(kept)
        candidates = kept
    caps = {"over_person_cap": _persons, "over_source_cap": _untrusted_sources}
    funnel |= dict.fromkeys(caps, 0)
    before = -1
    while before != len(candidates):  # what one cap drops can put another one over its share
        before = len(candidates)
        for name, whose in caps.items():
            kept = _capped(candidates, whose, policy)
            funnel[name] += len(candidates) - len(kept)
            candidates = kept
    funnel["selected"] = len(candidates)
    return Gathered(tuple(sorted(candidates, key=lambda s: s.position)), funnel)


def _each(keeps: Callable[[_Statement], bool]) -> Callable[[list[_Statement]], list[_Statement]]:
    return lambda some: [s for s in some if keeps(s)]


def _experience_id(by: Decided | Heard) -> str:
    return by.review.experience_id if isinstance(by, Decided) else by.feedback.experience_id or ""


def _newest_of_each(some: list[_Statement]) -> list[_Statement]:
    """The last word of each person on one thing; who gave no name is somebody new each time."""

    def on_what(s: _Statement) -> tuple[object, ...]:
        if s.heard is None or s.heard.feedback.subject is None:
            return (s.position,)
        other = words(s.heard.feedback.text or "") if s.origin == "preference" else ()
        return (s.origin, s.a.position, s.heard.source, s.heard.feedback.subject, other)

    newest = {on_what(s): s.position for s in some}
    return [s for s in some if newest[on_what(s)] == s.position]


def _consented(s: _Statement) -> bool:
    """As it stands; another person's text needs their own consent. A thumb holds no words."""
    if s.heard is None or s.heard.feedback.text is None:
        return s.a.consented
    of_another = s.heard.feedback.subject not in (None, s.a.experience.subject)
    return s.a.consented and (s.heard.consented or not of_another)


def _has_words(s: _Statement) -> bool:
    return not is_withheld(s.a.experience) and not any(map(is_bare, s.answers))


def _not_in_quarantine(s: _Statement) -> bool:
    return "quarantined" not in (s.a.tier, s.heard and s.heard.tier)


def _dislikes_a_refusal(s: _Statement) -> bool:
    refuses = (s.a.assessment.refusal or 0.0) >= SURE_REFUSAL
    return s.origin == "thumb" and s.worse is not None and refuses


def _texts(s: _Statement) -> list[str]:
    return [*(m.content for m in s.a.experience.messages), *s.answers]


class _Claim(NamedTuple):
    """What a statement says, in words: the same may be said of another id."""

    prompt: Words
    better: Words | None
    worse: Words | None

    @property
    def turned(self) -> _Claim:
        """The opposite."""
        return _Claim(self.prompt, self.worse, self.better)


def _claim(s: _Statement) -> _Claim:
    better, worse = (None if text is None else words(text) for text in (s.better, s.worse))
    return _Claim(words(s.a.experience.last_user_turn), better, worse)


def _uncontradicted(some: list[_Statement]) -> list[_Statement]:
    """All but those of which somebody says the opposite: neither is believed."""
    claims = {_claim(s) for s in some}
    return [s for s in some if _claim(s).turned not in claims]


def _first_of_each(some: list[_Statement]) -> list[_Statement]:
    first: dict[_Claim, _Statement] = {}
    for s in some:
        first.setdefault(_claim(s), s)
    return list(first.values())


class _Reviewed(NamedTuple):
    """Which answers reviewers found good and bad, by the words of what was asked last."""

    good: set[tuple[Words, Words]]
    bad: set[tuple[Words, Words]]
    here: set[tuple[tuple[Words, ...], Words]]
    """The good ones by the whole conversation: what is good in one may not be in another."""

    def contradicts(self, s: _Statement) -> bool:
        """Whether a reviewer says the opposite, or half of it."""
        claim = _claim(s)
        return (claim.prompt, claim.better) in self.bad or (claim.prompt, claim.worse) in self.good

    def vouches_for(self, s: _Statement) -> bool:
        """Whether a reviewer accepted or wrote the better answer, in this conversation."""
        return s.better is not None and (_conversation(s.a), words(s.better)) in self.here


def _reviewed(decided: Iterable[Decided], by_id: Mapping[str, Assessed]) -> _Reviewed:
    found = _Reviewed(set(), set(), set())
    for review, _ in decided:
        a = by_id.get(review.experience_id)
        if a is None:
            continue
        asked, response = words(a.experience.last_user_turn), words(a.experience.response)
        if review.decision != "accept":
            found.bad.add((asked, response))
        if review.decision != "reject":
            good = response if review.text is None else words(review.text)
            found.good.add((asked, good))
            found.here.add((_conversation(a), good))
    return found


def _conversation(a: Assessed) -> tuple[Words, ...]:
    return tuple(words(f"{m.role} {m.content}") for m in a.experience.messages)


# --- caps ---------------------------------------------------------------------------------


def _persons(s: _Statement) -> set[str]:
    """Who spoke, of those who are not the house itself."""
    e, heard = s.a.experience, s.heard
    found = set() if e.source in OURS or e.subject is None else {f"{e.source}/{e.subject}"}
    if heard is not None and heard.feedback.subject is not None:
        found.add(f"{heard.source}/{heard.feedback.subject}")
    return found


def _untrusted_sources(s: _Statement) -> set[str]:
    found = set() if s.a.tier == "trusted" else {s.a.experience.source}
    if s.heard is not None and s.heard.tier != "trusted":
        found.add(s.heard.source)
    return found


def _capped(
    some: list[_Statement], whose: Callable[[_Statement], set[str]], policy: Policy
) -> list[_Statement]:
    """At most so many of each one, the first ones."""
    share = int(max(len(some), policy.min_examples) * policy.max_single_share)
    allowed = min(policy.max_per_source, max(1, share))
    taken: Counter[str] = Counter()
    kept = []
    for s in some:
        names = whose(s)
        if all(taken[name] < allowed for name in names):
            taken.update(names)
            kept.append(s)
    return kept
