"""Which experiences may be learned from: a pipeline of named steps, each counting what it drops.

Consent is asked here, whatever was said at the door. Nothing is drawn at random: the same
assessments and the same policy select the same experiences in the same order.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from converters.flood import beyond_the_burst
from converters.words import Forbidden, Words, words
from store.errors import NotEnoughData
from store.experiences import Assessed
from store.records import CURATED, PRACTICE, Assessment, Noun, Policy
from store.redaction import is_withheld
from store.sources import OURS

SURE_REFUSAL = 0.5
"""From this probability a response counts as a refusal."""


class Selection(Noun, frozen=True, kw_only=True):
    """What was chosen, in order of recording, and how many each step dropped."""

    chosen: tuple[Assessed, ...]
    funnel: dict[str, int]


def select(
    assessed: Iterable[Assessed],
    policy: Policy,
    *,
    forbidden: Collection[str] = (),
    ends: Sequence[int] = (),
) -> Selection:
    """Experiences that the policy admits and that hold none of the forbidden texts.

    `ends` are the positions of earlier datasets: what came after each is compared with before.

    The funnel counts `recorded`, then each step's drops under its own name, then `selected`.
    """
    candidates = assessed = list(assessed)
    funnel = {"recorded": len(candidates)}
    gate_items = Forbidden(forbidden)
    seen: set[Words] = set()

    def text_of(a: Assessed) -> Words:
        return (*words(a.experience.last_user_turn), "\0", *words(a.experience.response))

    # By their words: the same answer may be there under another id.
    rejected = {text_of(a) for a in assessed if a.decision in ("reject", "correct")}

    def unseen(a: Assessed) -> bool:
        text = text_of(a)
        new = text not in seen
        seen.add(text)
        return new

    def not_a_gate_item(a: Assessed) -> bool:
        said = [*(m.content for m in a.experience.messages), a.experience.response]
        return not gate_items.in_any(said)

    burst = beyond_the_burst(assessed, ends=ends, allowed=policy.max_per_source, ours=OURS)

    def unless_accepted(keeps: Callable[[Assessed], bool]) -> Callable[[Assessed], bool]:
        """A step of the panel's word, which a person's goes before."""
        return lambda a: a.decision == "accept" or keeps(a)

    of_the_panel: dict[str, Callable[[Assessed], bool]] = {
        "abstained": _judged,
        "doubted": lambda a: _curated(a) or not a.assessment.doubts,
        "over_max_harm": lambda a: _harm(a) < _bars(a, policy).harm,
        "under_min_weighted": lambda a: _weighted(a) >= _bars(a, policy).weighted,
        "label_not_admitted": lambda a: _curated(a) or a.assessment.label in policy.labels,
    }
    steps: dict[str, Callable[[Assessed], bool]] = {
        "without_consent": lambda a: a.consented,
        "withheld": lambda a: not is_withheld(a.experience),
        "quarantined": lambda a: a.tier != "quarantined",
        "burst": lambda a: a.position not in burst,
        "rejected": lambda a: text_of(a) not in rejected,
        **{name: unless_accepted(keeps) for name, keeps in of_the_panel.items()},
        "own_refusal": lambda a: not (_self_generated(a) and _refuses(a)),
        "duplicate": unseen,
        "gate_item": not_a_gate_item,
    }
    for name, keeps in steps.items():
        kept = [a for a in candidates if keeps(a)]
        funnel[name] = len(candidates) - len(kept)
        candidates = kept
    kept = _whole_pairs(candidates, assessed)
    funnel["half_a_pair"] = len(candidates) - len(kept)
    candidates = kept
    caps: dict[str, Callable[[list[Assessed]], list[Assessed]]] = {
        "over_person_cap": lambda some: _capped_each(some, _person, policy),
        "over_source_cap": lambda some: _capped_each(some, _untrusted_source, policy),
        "over_self_share": lambda some: _capped(some, _self_generated, policy.max_self_share),
        "over_refusal_share": lambda some: _capped(some, _refuses, policy.max_refusal_share),
    }
    funnel |= dict.fromkeys(caps, 0)
    before = -1
    while before != len(candidates):  # what one cap drops can put another one over its share
        before = len(candidates)
        for name, cap in caps.items():
            kept = cap(candidates)
            funnel[name] += len(candidates) - len(kept)
            candidates = kept
    funnel["selected"] = len(candidates)
    return Selection(chosen=tuple(candidates), funnel=funnel)


def require_enough(
    selection: Selection,
    policy: Policy,
    assessed: Sequence[Assessed],
    *,
    forbidden: Collection[str] = (),
    ends: Sequence[int] = (),
) -> None:
    """Raises NotEnoughData, saying where the experiences went and which threshold is nearest."""
    funnel = selection.funnel
    if funnel["selected"] >= policy.min_examples:
        return
    dropped = ", ".join(
        f"{count} {name.replace('_', ' ')}"
        for name, count in funnel.items()
        if count and name not in ("recorded", "selected")
    )
    found = "no experiences match" if not funnel["selected"] else f"{funnel['selected']} match"
    raise NotEnoughData(
        f"{found}, {policy.min_examples} are asked for: {funnel['recorded']} recorded"
        + (f", {dropped}." if dropped else "."),
        hint=_nearest(assessed, policy, forbidden, ends),
    )


def _nearest(
    assessed: Sequence[Assessed], policy: Policy, forbidden: Collection[str], ends: Sequence[int]
) -> str:
    """The smallest change of one threshold that would admit enough, as `select` confirms."""
    judged = [a for a in assessed if _judged(a) and not _curated(a)]
    tries = {
        "max_harm": sorted(
            {min(1.0, (math.floor(_harm(a) * 100 + 1e-9) + 1) / 100) for a in judged}
        ),
        "min_weighted": sorted({math.floor(_weighted(a) * 100) / 100 for a in judged})[::-1],
    }
    offers = []
    for name, values in tries.items():
        # Admitting more never selects fewer, so the nearest value is found by halving.
        def enough(value: float, name: str = name) -> bool:
            tried = msgspec.structs.replace(policy, **{name: value})
            chosen = select(assessed, tried, forbidden=forbidden, ends=ends).funnel["selected"]
            return chosen >= policy.min_examples

        place = bisect.bisect_left(values, True, key=enough)
        if place < len(values):
            offers.append(f"policy.{name} = {values[place]:g}")
    if offers:
        return (
            f"The nearest threshold that would admit {policy.min_examples} is "
            f"{' or '.join(offers)}."
        )
    consented = sum(a.consented for a in assessed if _judged(a))
    return (
        f"No single threshold would admit {policy.min_examples}: {consented} have consent and a "
        "label. Post more experiences with consent, or lower policy.min_examples."
    )


Route = Literal["training", "review", "none"]


def route_of(assessment: Assessment, policy: Policy) -> Route:
    """Where an answer that somebody gave goes by its assessment alone: to training, to a person
    who looks at what the panel could not say, or nowhere.
    """
    if assessment.doubts or not _complete(assessment):
        return "review"
    admitted = (
        (assessment.actual_harm or 0.0) < policy.max_harm
        and (assessment.weighted or 0.0) >= policy.min_weighted
        and assessment.label in policy.labels
    )
    return "training" if admitted else "none"


def _judged(a: Assessed) -> bool:
    return _complete(a.assessment)


def _complete(assessment: Assessment) -> bool:
    """Whether everything that the policy asks for is known: unknown harm is not no harm."""
    known = (assessment.label, assessment.actual_harm, assessment.weighted)
    return not assessment.abstained and None not in known


class Bars(NamedTuple):
    """What an experience must stay under and reach."""

    harm: float
    weighted: float


def _bars(a: Assessed, policy: Policy) -> Bars:
    if _curated(a):
        return Bars(policy.curated_max_harm, policy.curated_min_weighted)
    return Bars(policy.max_harm, policy.min_weighted)


def _harm(a: Assessed) -> float:
    return a.assessment.actual_harm or 0.0


def _weighted(a: Assessed) -> float:
    return a.assessment.weighted or 0.0


def _curated(a: Assessed) -> bool:
    return a.experience.source == CURATED


def _self_generated(a: Assessed) -> bool:
    return a.experience.source == PRACTICE


def _refuses(a: Assessed) -> bool:
    return (a.assessment.refusal or 0.0) >= SURE_REFUSAL


def _whole_pairs(candidates: list[Assessed], recorded: list[Assessed]) -> list[Assessed]:
    """All but the curated exemplars whose conversation lost another of its exemplars.

    The halves of a contrast pair share their words and differ in what they ask for. A half that
    is learned from alone teaches the words: a refusal whose harmless twin was dropped teaches to
    refuse both.
    """

    def exemplars(items: list[Assessed]) -> Counter[str]:
        return Counter(a.experience.conversation for a in items if _curated(a))

    written, left = exemplars(recorded), exemplars(candidates)
    return [
        a
        for a in candidates
        if not _curated(a) or left[a.experience.conversation] == written[a.experience.conversation]
    ]


def _capped(
    candidates: list[Assessed], belongs: Callable[[Assessed], bool], share: float
) -> list[Assessed]:
    """All that do not belong, and the best of those that do, up to the share of the whole."""
    inside = [a for a in candidates if belongs(a)]
    outside = len(candidates) - len(inside)
    allowed = len(inside) if share >= 1 else int(outside * share / (1 - share))
    if len(inside) <= allowed:
        return candidates
    ranked = sorted(inside, key=lambda a: (-_weighted(a), a.experience.id))
    dropped = {a.experience.id for a in ranked[allowed:]}
    return [a for a in candidates if a.experience.id not in dropped]


def _person(a: Assessed) -> str | None:
    """Who spoke, of those who are not the house itself."""
    e = a.experience
    return None if e.source in OURS or e.subject is None else f"{e.source}/{e.subject}"


def _untrusted_source(a: Assessed) -> str | None:
    return None if a.tier == "trusted" else a.experience.source


def _capped_each(
    candidates: list[Assessed], of: Callable[[Assessed], str | None], policy: Policy
) -> list[Assessed]:
    """At most so many of each one, the best first; those that are nobody's are all kept."""
    share = int(max(len(candidates), policy.min_examples) * policy.max_single_share)
    allowed = min(policy.max_per_source, max(1, share))
    ranked = sorted(candidates, key=lambda a: (-_weighted(a), a.experience.id))
    taken: Counter[str] = Counter()
    dropped = set()
    for a in ranked:
        whose = of(a)
        if whose is None:
            continue
        taken[whose] += 1
        if taken[whose] > allowed:
            dropped.add(a.experience.id)
    return [a for a in candidates if a.experience.id not in dropped]
