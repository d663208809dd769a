"""Which experiences may be learned from: a pipeline of named steps, each counting what it drops.

Consent is asked here, whatever was said at the door. Nothing is drawn at random: the same
assessments and the same policy select the same experiences in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from store.errors import NotEnoughData
from store.experiences import Assessed
from store.records import Noun, Policy

Format = Callable[[Assessed], dict[str, Any]]

SELF_GENERATED = "practice"
"""The source of what the model said to itself."""
REFUSAL = "refusal"
"""The dimension in which the anti-judge says whether a response declines."""
GRAM_WORDS = 8
"""Two texts that share this many words in a row are taken for the same item."""


class Selection(Noun, kw_only=True):
    """What was chosen, in order of recording, and how many each step dropped."""

    chosen: tuple[Assessed, ...]
    funnel: dict[str, int]


def select(
    assessed: Iterable[Assessed], policy: Policy, *, forbidden: Collection[str] = ()
) -> Selection:
    """Experiences that the policy admits and that hold none of the forbidden texts.

    The funnel counts `recorded`, then each step's drops under its own name, then `selected`.
    """
    candidates = list(assessed)
    funnel = {"recorded": len(candidates)}
    grams = _grams_of(forbidden)
    exact = {_words(text) for text in forbidden}
    seen: set[tuple[str, ...]] = set()

    def unseen(a: Assessed) -> bool:
        text = (*_words(a.experience.last_user_turn), "\0", *_words(a.experience.response))
        new = text not in seen
        seen.add(text)
        return new

    def not_a_gate_item(a: Assessed) -> bool:
        words = _words(a.experience.last_user_turn)
        return words not in exact and grams.isdisjoint(_grams(words))

    steps: dict[str, Callable[[Assessed], bool]] = {
        "without_consent": lambda a: a.experience.consent.training,
        "abstained": lambda a: not a.assessment.abstained and a.assessment.label is not None,
        "over_max_harm": lambda a: (a.assessment.actual_harm or 0.0) < policy.max_harm,
        "under_min_weighted": lambda a: (a.assessment.weighted or 0.0) >= policy.min_weighted,
        "label_not_admitted": lambda a: a.assessment.label in policy.labels,
        "duplicate": unseen,
        "gate_item": not_a_gate_item,
    }
    for name, keeps in steps.items():
        kept = [a for a in candidates if keeps(a)]
        funnel[name] = len(candidates) - len(kept)
        candidates = kept
    caps: dict[str, tuple[Callable[[Assessed], bool], float]] = {
        "over_self_share": (_self_generated, policy.max_self_share),
        "over_refusal_share": (_refuses, policy.max_refusal_share),
    }
    for name, (belongs, share) in caps.items():
        kept = _capped(candidates, belongs, share)
        funnel[name] = len(candidates) - len(kept)
        candidates = kept
    funnel["selected"] = len(candidates)
    return Selection(chosen=tuple(candidates), funnel=funnel)


def require_enough(selection: Selection, policy: Policy, assessed: Iterable[Assessed]) -> None:
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
        hint=_nearest(list(assessed), policy),
    )


def _nearest(assessed: Sequence[Assessed], policy: Policy) -> str:
    """The smallest change of one threshold that would admit enough, or what is missing else."""
    wanted = policy.min_examples
    judged = [
        (a.assessment.actual_harm or 0.0, a.assessment.weighted or 0.0)
        for a in assessed
        if a.experience.consent.training and a.assessment.label and not a.assessment.abstained
    ]
    by_weight = sorted((w for h, w in judged if h < policy.max_harm), reverse=True)
    by_harm = sorted(h for h, w in judged if w >= policy.min_weighted)
    offers = []
    if len(by_weight) >= wanted:
        offers.append(f"policy.min_weighted = {int(by_weight[wanted - 1] * 100) / 100:g}")
    if len(by_harm) >= wanted:
        offers.append(f"policy.max_harm = {int(by_harm[wanted - 1] * 100 + 1) / 100:g}")
    if offers:
        return f"The nearest threshold that would admit {wanted} is {' or '.join(offers)}."
    return (
        f"No threshold would admit {wanted}: {len(judged)} have consent and a label. "
        "Post more experiences with consent, or lower policy.min_examples."
    )


def _self_generated(a: Assessed) -> bool:
    return a.experience.source == SELF_GENERATED


def _refuses(a: Assessed) -> bool:
    return any(f.dimension == REFUSAL and (f.value or 0.0) >= 0.5 for f in a.assessment.findings)


def _capped(
    candidates: list[Assessed], belongs: Callable[[Assessed], bool], share: float
) -> list[Assessed]:
    """All that do not belong, and the best of those that do, up to the share of the whole."""
    inside = [a for a in candidates if belongs(a)]
    outside = len(candidates) - len(inside)
    allowed = len(inside) if share >= 1 else int(outside * share / (1 - share))
    if len(inside) <= allowed:
        return candidates
    ranked = sorted(inside, key=lambda a: (-(a.assessment.weighted or 0.0), a.experience.id))
    dropped = {a.experience.id for a in ranked[allowed:]}
    return [a for a in candidates if a.experience.id not in dropped]


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.lower()))


def _grams(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    return {words[i : i + GRAM_WORDS] for i in range(len(words) - GRAM_WORDS + 1)}


def _grams_of(texts: Iterable[str]) -> set[tuple[str, ...]]:
    grams: set[tuple[str, ...]] = set()
    for text in texts:
        grams |= _grams(_words(text))
    return grams
