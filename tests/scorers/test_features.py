"""The heads' inputs: numbers that must not move without a new feature version."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scorers import features

HASHES_OF_A_FIXED_TEXT = [6563, 8367, 17180, 30516, 37374, 42693, 50223]
ANSWER = "I'm sorry, but I can't help with that!\n1. You might ask a doctor.\n2. Never rush?"


def test_surface_of_a_fixed_text() -> None:
    """If these change, raise FEATURE_VERSION and fit again."""
    values = dict(
        zip(features.SURFACE, features.surface("Help with that", ANSWER).tolist(), strict=True)
    )
    assert features.FEATURE_VERSION == "2"
    assert values["declines_at_opening"] == 1.0
    assert values["apology"] == 1.0
    assert values["agrees_at_opening"] == 0.0
    assert round(values["questions"], 3) == 0.333
    assert round(values["exclamations"], 3) == 0.25
    assert round(values["steps"], 3) == 0.25
    assert round(values["safety"], 3) == 0.8
    assert round(values["hedges"], 3) == 0.8
    assert round(values["absolutes"], 3) == 1.0


def test_length_is_no_feature() -> None:
    """Twice the same text looks like once: padding must not pay."""
    once = "Warm the oil slowly. Add the garlic and stir. Salt it at the end of the cooking time. "
    once += "Serve with bread, lemon and a green salad from the market."
    assert np.allclose(
        features.surface("q", once), features.surface("q", f"{once} {once}"), atol=0.05
    )


def test_inputs_have_the_promised_width() -> None:
    """Two embeddings, their product, their distance, and the surface."""

    def embed(texts: Sequence[str]) -> features.Matrix:
        return np.ones((len(texts), 384), dtype=np.float32)

    assert features.inputs([("q", "a"), ("q", "")], embed).shape == (2, features.WIDTH)


def test_hashed_words_are_the_same_on_every_machine() -> None:
    """Words and pairs, whatever their case and apostrophes; twice is once."""
    once = features.hashed_words("Don't sign it today.")
    assert once.tolist() == features.hashed_words("don’t SIGN it, today!").tolist()
    assert len(once) == 7
    assert once.tolist() == HASHES_OF_A_FIXED_TEXT
    assert features.hashed_words("...").tolist() == []
