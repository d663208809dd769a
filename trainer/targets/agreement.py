"""Whether a server says what the trained model would: next tokens compared at fixed places.

A server that ignores the adapter, scales it wrongly or adds it to the wrong rows answers fluently
all the same; only numbers beside the trained model's and the base's show it. Loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from store.records import Noun
from trainer.jobs import Position

Top = Mapping[str, float]
"""Natural logarithms of probabilities by text, of a model's likeliest next tokens."""

TOP = 20
"""So many tokens are compared at each place: as many as Ollama tells."""
LEAST_GREEDY = 0.98
"""Share of the places with a clear first token where the server's first token is the same."""
CLEAR_NATS = 0.5
"""A first token is clear that leads the second by as much; rounding turns closer ones around."""
MOST_KL = 0.01
"""Nats, on average over the places."""
MOST_OF_THE_WAY = 0.1
"""How far the server may be from the trained model, by KL, in parts of how far the base is. KL
grows with the square of what is missing: an adapter at 2/3 of its strength is at 0.1."""
LEAST_POSITIONS = 50


class Agreement(Noun, frozen=True, kw_only=True):
    """How a server's next tokens are to the trained model's. KL is of the trained model's top."""

    positions: int
    clear: int
    """Places where the trained model's first token is clear."""
    greedy: float
    """Share of those where the server's first token is the same; 0 where there are none."""
    kl: float
    """Mean over the places, from the trained model to the server."""
    kl_base: float
    """Mean over the places, from the trained model to the untouched base."""
    largest: float
    """The largest difference of a logarithm, of tokens that both tell."""

    def faults(self) -> tuple[str, ...]:
        """All that speaks against the server's being the trained model; none where it holds."""
        return tuple(self._faults())

    @property
    def holds(self) -> bool:
        """Whether the server says what was trained."""
        return not self.faults()

    def _faults(self) -> Iterator[str]:
        if self.positions < LEAST_POSITIONS or not self.clear:
            yield f"only {self.positions} places were compared, {self.clear} of them clear"
        if self.greedy < LEAST_GREEDY:
            yield (
                f"its first token is the trained model's at {self.greedy:.1%} of {self.clear} "
                f"clear places, less than {LEAST_GREEDY:.0%}"
            )
        if not self.kl <= MOST_KL:
            yield f"its mean KL from the trained model is {self.kl:.4f} nats, above {MOST_KL}"
        if not self.kl <= MOST_OF_THE_WAY * self.kl_base:
            yield (
                f"it is at a KL of {self.kl:.4f} from the trained model, the untouched base at "
                f"{self.kl_base:.4f}: that does not show that the adapter is served whole"
            )


def by_text(tokens: Iterable[tuple[bytes | str, float]]) -> dict[str, float]:
    """Logarithms of probabilities by text.

    Tokens without a text of their own, special ones and parts of a character, become one, "":
    servers tell them apart in different ways, or not at all.
    """
    texts: dict[str, float] = {}
    for token, logprob in tokens:
        text = token if isinstance(token, str) else token.decode(errors="replace")
        text = "" if "\ufffd" in text else text
        texts[text] = float(np.logaddexp(texts.get(text, -math.inf), logprob))
    return texts


def compare(positions: Sequence[Position], served: Sequence[Top]) -> Agreement:
    """How the server's next tokens, one mapping for each position, are to the trained model's."""
    pairs = list(zip(positions, served, strict=True))
    clear = [(p, top) for p, top in pairs if _lead(p.trained) > CLEAR_NATS]
    same = sum(_first(p.trained) == _first(top) for p, top in clear)
    differences = [
        abs(logprob - top[text])
        for p, top in pairs
        for text, logprob in p.trained.items()
        if text in top
    ]
    return Agreement(
        positions=len(pairs),
        clear=len(clear),
        greedy=same / len(clear) if clear else 0.0,
        kl=_mean([_kl(p.trained, top) for p, top in pairs]),
        kl_base=_mean([_kl(p.trained, p.base) for p, _ in pairs]),
        largest=max(differences, default=math.inf),
    )


def _first(top: Top) -> str | None:
    return max(top, key=lambda text: top[text], default=None)


def _lead(top: Top) -> float:
    first, second = [*sorted(top.values(), reverse=True), -math.inf, -math.inf][:2]
    return first - second


def _kl(trained: Top, other: Top) -> float:
    """KL over the trained model's top, where each side's shares sum to one.

    What the other does not tell is at most as likely as the least of what it tells.
    """
    if not other:
        return math.inf
    least = min(other.values())
    p = np.array(list(trained.values()))
    q = np.array([other.get(text, least) for text in trained])
    p, q = p - np.logaddexp.reduce(p), q - np.logaddexp.reduce(q)
    return float(np.sum(np.exp(p) * (p - q)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.inf
