"""The numbers by which a server counts as the trained model, on made-up next tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.jobs import Position
from trainer.targets.agreement import Agreement, by_text, compare, is_told

TEXTS = [f" word{n}" for n in range(20)]


def top(logits: np.ndarray) -> dict[str, float]:
    """The logarithms of probabilities that these logits give the texts."""
    return dict(zip(TEXTS, (logits - np.logaddexp.reduce(logits)).tolist(), strict=True))


def places(
    strength: float = 1.0, *, noise: float = 0.0, effect: float = 1.0, count: int = 150
) -> tuple[list[Position], list[dict[str, float]]]:
    """Random places, and a server with so much of the adapter's effect and so much rounding."""
    chance = np.random.default_rng(3)
    positions, served = [], []
    for n in range(count):
        base, added, rounding = chance.normal(size=(3, len(TEXTS)))
        base *= 2
        positions.append(
            Position(question=str(n), text="", trained=top(base + effect * added), base=top(base))
        )
        served.append(top(base + strength * effect * added + noise * rounding))
    return positions, served


def test_the_trained_model_itself_agrees() -> None:
    """Without rounding the numbers are what they mean."""
    found = compare(*places())
    assert found.faults() == ()
    assert (found.positions, found.silent, found.greedy) == (150, 0, 1.0)
    assert found.kl == pytest.approx(0, abs=1e-12)
    assert found.strength == pytest.approx(1)
    assert found.kl_base > 0.1


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.8, 1.2, 2.0])
def test_the_strength_is_how_much_of_the_adapter_is_served(strength: float) -> None:
    """Told to a hundredth, and a fault."""
    found = compare(*places(strength, noise=0.05))
    assert found.strength == pytest.approx(strength, abs=0.02)
    assert any("of its strength" in fault for fault in found.faults())


@pytest.mark.parametrize(("strength", "holds"), [(1.0, True), (0.5, False), (0.0, False)])
def test_rounding_does_not_hide_a_weak_adapter(strength: float, holds: bool) -> None:
    """Where base, server and trained model are all within the limit of KL of one another."""
    found = compare(*places(strength, noise=0.08, effect=0.08))
    assert found.kl < 0.01
    assert found.kl_base < 0.01
    assert found.holds == holds


def test_an_adapter_without_an_effect_is_not_shown_to_be_served() -> None:
    """What cannot be told apart from the base is not taken for good."""
    (fault,) = compare(*places(noise=0.05, effect=0.0)).faults()
    assert "changes too little" in fault


def test_each_limit_has_its_own_fault() -> None:
    """Few places, silence, another first token, distance."""
    assert "only 20 places" in compare(*places(count=20)).faults()[0]
    positions, served = places()
    assert "nothing at 10 of 150" in compare(positions, [*served[:-10], *[{}] * 10]).faults()[0]
    assert compare(positions, [*served[:-3], *[{}] * 3]).silent == 3
    other = [dict(zip(TEXTS, reversed(s.values()), strict=True)) for s in served]
    said = " ".join(compare(positions, other).faults())
    assert "its first token" in said
    assert "mean KL" in said


def test_what_a_server_does_not_tell_counts_as_its_least() -> None:
    """A server with other tokens in its list is far, not near for want of common ones."""
    positions, served = places()
    strange = [{f"x{text}": logprob for text, logprob in s.items()} for s in served]
    found = compare(positions, strange)
    assert found.kl > 1
    assert found.greedy == 0
    assert (found.largest, found.uncertainty) == (0.0, 1.0)


def test_tokens_without_a_text_of_their_own_are_one() -> None:
    """Special tokens and parts of characters, as bytes or as a server's replacement mark."""
    third = math.log(1 / 3)
    tokens = [(b"", third), (b"\xf0\x9f", third), (" a", third)]
    assert by_text(tokens) == pytest.approx({"": math.log(2 / 3), " a": third})
    assert by_text([("\ufffd", third), ("é".encode(), third)]) == {"": third, "é": third}


def test_places_of_which_servers_tell_nothing() -> None:
    """Where the first or the second token has no text."""
    assert is_told({" a": -0.1, " b": -3.0, "": -4.0})
    assert not is_told({" a": -0.1, "": -3.0, " b": -4.0})
    assert not is_told({"": -0.1})


def test_a_number_that_is_none_is_not_agreement() -> None:
    """A broken model's server."""
    positions, served = places()
    broken = [dict.fromkeys(s, math.nan) for s in served]
    assert not compare(positions, broken).holds


def test_agreements_can_be_kept() -> None:
    """As JSON and back, whatever the numbers."""
    import msgspec

    for made in (places(), places(effect=0.0), ([], [])):
        found = compare(*made)
        assert msgspec.json.decode(msgspec.json.encode(found), type=Agreement) == found
