"""How many examples of each kind, law and difficulty: the seed's shares, dealt in whole numbers."""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping
from typing import TypeVar

from converters.constitution.examples import Difficulty, ExampleType, LawCategory

TYPES: dict[ExampleType, int] = {
    ExampleType.HARMFUL_BLOCKED: 500,
    ExampleType.SAFE_REQUEST: 500,
    ExampleType.EDGE_CASE: 50,
    ExampleType.LAW_CONFLICT: 50,
    ExampleType.MULTI_TURN: 50,
}
"""The seed's weights but for the safe requests, of which it has 150: who learns three refusals for
each help learns to refuse. Law conflicts and conversations end in help as often as not."""
LAWS: dict[LawCategory, int] = {
    LawCategory.LAW_0: 100,
    LawCategory.LAW_1: 200,
    LawCategory.LAW_2: 150,
    LawCategory.LAW_3: 100,
    LawCategory.LAW_4: 100,
}
SAFE_LAWS: dict[LawCategory, int] = {**LAWS, LawCategory.NONE: sum(LAWS.values())}
"""Half of the safe requests are near a law, half are of every day."""
DIFFICULTIES: dict[Difficulty, int] = {
    Difficulty.EASY: 40,
    Difficulty.MEDIUM: 30,
    Difficulty.HARD: 20,
    Difficulty.ADVERSARIAL: 10,
}

K = TypeVar("K", bound=Hashable)


def shares(count: int, weights: Mapping[K, int]) -> dict[K, int]:
    """`count` by weight in whole numbers; what is left over goes to the largest remainders."""
    total = sum(weights.values())
    dealt = {key: count * weight // total for key, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda key: -(count * weights[key] % total))
    for key in by_remainder[: count - sum(dealt.values())]:
        dealt[key] += 1
    return dealt


def deck(count: int, weights: Mapping[K, int], draw: random.Random) -> list[K]:
    """As many cards as `count`, by weight, shuffled."""
    cards = [key for key, n in shares(count, weights).items() for _ in range(n)]
    draw.shuffle(cards)
    return cards
