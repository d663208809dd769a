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
"""Nats, on average over the places. The embedded base in its 4 bits is at 0.0025 by llama.cpp's
rounding alone."""
MOST_OFF = 0.05
"""How far the strength may be from 1, beyond twice its standard error. Measured on the embedded
base: served rightly 0.998 to 1.008, with the rows of q and k as PEFT has them 0.89 to 0.91."""
MOST_UNCERTAIN = 0.2
"""The standard error from which on half an adapter would pass for a whole one."""
LEAST_POSITIONS = 50
LEAST_REST = 1e-4
"""What all other tokens together have at least: the sums are only as exact as 32-bit numbers."""
MOST_SILENT = 0.02
"""Share of the places where the server may tell nothing, as at a first part of a character."""


class Agreement(Noun, frozen=True, kw_only=True):
    """How a server's next tokens are to the trained model's. KL is of the trained model's top."""

    positions: int
    silent: int
    """Of these, the places where the server told nothing; they count in no mean."""
    clear: int
    """Places where the trained model's first token is clear."""
    greedy: float
    """Share of those where the server's first token is the same; 0 where there are none."""
    kl: float
    """Mean over the places, from the trained model to the server."""
    kl_base: float
    """Mean over the places, from the trained model to the untouched base."""
    strength: float
    """How much of the adapter is served: 0 none of it, 1 all, 2 twice as much. The slope of what
    the server adds to the base's logarithms on what the trained model adds; rounding, which goes
    either way, moves it little."""
    uncertainty: float
    """Its standard error; 1 where trained model and base are the same."""
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
        if self.silent > MOST_SILENT * self.positions:
            yield f"it tells nothing at {self.silent} of {self.positions} places"
        if self.greedy < LEAST_GREEDY:
            yield (
                f"its first token is the trained model's at {self.greedy:.1%} of {self.clear} "
                f"clear places, less than {LEAST_GREEDY:.0%}"
            )
        if not self.kl <= MOST_KL:  # nor where it is no number
            yield f"its mean KL from the trained model is {self.kl:.4f} nats, above {MOST_KL}"
        if self.uncertainty > MOST_UNCERTAIN:
            yield (
                "the adapter changes too little at these places to show whether it is served: its "
                f"strength is {self.strength:.2f} with a standard error of {self.uncertainty:.2f}"
            )
        elif not abs(self.strength - 1) <= MOST_OFF + 2 * self.uncertainty:
            yield f"the adapter is served at {self.strength:.2f} of its strength"


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
    """How the server's next tokens are to the trained model's.

    `served` has a mapping for each position, an empty one where the server told nothing.
    """
    pairs = list(zip(positions, served, strict=True))
    told = [(p, top) for p, top in pairs if top]
    clear = [(p, top) for p, top in pairs if _lead(p.trained) > CLEAR_NATS]
    same = sum(_first(p.trained) == _first(top) for p, top in clear)
    differences = [
        abs(logprob - top[text])
        for p, top in told
        for text, logprob in p.trained.items()
        if text in top
    ]
    strength, uncertainty = _strength(told)
    return Agreement(
        positions=len(pairs),
        silent=len(pairs) - len(told),
        clear=len(clear),
        greedy=same / len(clear) if clear else 0.0,
        kl=_mean([_kl(p.trained, top) for p, top in told]),
        kl_base=_mean([_kl(p.trained, p.base) for p, _ in told]),
        strength=strength,
        uncertainty=uncertainty,
        largest=max(differences, default=0.0),
    )


def _first(top: Top) -> str | None:
    return max(top, key=lambda text: top[text], default=None)


def is_told(trained: Top) -> bool:
    """Whether servers tell what comes next: llama.cpp says nothing where it begins a character
    with its first part, and Ollama nothing at the end of an answer.
    """
    return "" not in sorted(trained, key=lambda text: trained[text], reverse=True)[:2]


def _lead(top: Top) -> float:
    first, second = [*sorted(top.values(), reverse=True), -math.inf, -math.inf][:2]
    return first - second


def _kl(trained: Top, other: Top) -> float:
    """KL over the trained model's top and all the rest together.

    What the other does not tell is at most as likely as the least of what it tells.
    """
    least = min(other.values())
    p = np.exp([*trained.values()])
    q = np.exp([other.get(text, least) for text in trained])
    p = np.append(p, max(1 - p.sum(), LEAST_REST))
    q = np.append(q, max(1 - q.sum(), LEAST_REST))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p * np.log(p / q)))


def _strength(told: Sequence[tuple[Position, Top]]) -> tuple[float, float]:
    """The slope through the origin, and its standard error from the differences of the places."""
    products, squares = [], []
    for position, top in told:
        common = [text for text in position.trained if text in position.base and text in top]
        base = np.array([position.base[text] for text in common])
        trained = np.array([position.trained[text] for text in common])
        weights = np.exp(trained) / np.exp(trained).sum()
        meant, added = trained - base, np.array([top[text] for text in common]) - base
        meant, added = meant - weights @ meant, added - weights @ added
        products.append(weights @ (meant * added))
        squares.append(weights @ meant**2)
    if (signal := math.fsum(squares)) == 0:
        return 0.0, 1.0
    slope = math.fsum(products) / signal
    errors = np.array(products) - slope * np.array(squares)
    return slope, min(1.0, math.sqrt(errors @ errors) / signal)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
