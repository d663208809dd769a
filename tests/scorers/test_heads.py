"""Weights and cards: what is loaded is what was fitted, or nothing is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from scorers import features, heads
from scorers.heads import Card, Dimension, Heads
from store.errors import IntegrityError, Misconfigured

SHIPPED = ("signals", "acts", "harm", "principles")


def a_card(**changes: object) -> Card:
    """A card for two heads on three inputs."""
    fields: dict[str, object] = {
        "name": "tiny",
        "purpose": "A test.",
        "not_for": (),
        "feature_version": features.FEATURE_VERSION,
        "encoder_sha256": "e",
        "weights_sha256": "",
        "inputs": 3,
        "settings": {},
        "dimensions": tuple(
            Dimension(name=name, speaks=True, confidence=0.9, figures={}) for name in "ab"
        ),
        "sources": (),
    }
    return Card(**{**fields, **changes})  # type: ignore[arg-type]


def tiny(card: Card) -> Heads:
    """The heads of such a card."""
    # Transposed, so that the memory does not lie in the order of the rows.
    coefficients = np.arange(6, dtype=np.float32).reshape(3, 2).T
    ones = np.ones(2, dtype=np.float32)
    return Heads(card, coefficients, 0 * ones, ones, 0 * ones)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    """Outputs survive the file, whatever the memory layout of the arrays."""
    inputs = np.array([[1.0, 2.0, 3.0]])
    saved = heads.save(tiny(a_card()), tmp_path)
    assert heads.load("tiny", tmp_path).outputs(inputs).tolist() == saved.outputs(inputs).tolist()
    assert saved.outputs(inputs).tolist() == [[16.0, 22.0]]


def test_saving_again_gives_the_same_version(tmp_path: Path) -> None:
    """The version follows the bytes, and the bytes follow the heads."""
    heads.save(tiny(a_card()), tmp_path / "one")
    heads.save(tiny(a_card()), tmp_path / "two")
    assert heads.version("tiny", tmp_path / "one") == heads.version("tiny", tmp_path / "two")


def test_a_card_edited_by_hand_is_another_version(tmp_path: Path) -> None:
    """A dimension that was made to speak must not pass for the one that was silent."""
    heads.save(tiny(a_card()), tmp_path)
    before = heads.version("tiny", tmp_path)
    heads.save(tiny(a_card(purpose="Another.")), tmp_path)
    assert heads.version("tiny", tmp_path) != before


def test_refuses_other_bytes(tmp_path: Path) -> None:
    """Weights that were touched after the fit are not loaded."""
    heads.save(tiny(a_card()), tmp_path)
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(IntegrityError, match="card"):
        heads.load("tiny", tmp_path)


@pytest.mark.parametrize("change", [{"feature_version": "0"}, {"inputs": 4}])
def test_refuses_other_features(tmp_path: Path, change: dict[str, object]) -> None:
    """Weights for other inputs are not loaded."""
    heads.save(tiny(a_card(**change)), tmp_path)
    with pytest.raises(IntegrityError):
        heads.load("tiny", tmp_path)


def test_refuses_another_encoder_and_other_signals() -> None:
    """Heads stand on the encoder and the signals that they were fitted on."""
    loaded = tiny(a_card(built_on={"signals": "s"}))
    heads.require(loaded, "e", {"signals": "s"})
    with pytest.raises(IntegrityError):
        heads.require(loaded, "another", {"signals": "s"})
    with pytest.raises(IntegrityError):
        heads.require(loaded, "e", {"signals": "t"})


def test_missing_weights_say_how_to_make_them(tmp_path: Path) -> None:
    """The error names the file and the command."""
    with pytest.raises(Misconfigured, match=r"tiny.*scorers\.fit"):
        heads.load("tiny", tmp_path)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_cards_are_honest(name: str) -> None:
    """Every shipped card has figures, licences, input hashes, and what it is not for."""
    card = heads.load(name).card
    assert card.not_for
    assert card.sources
    assert all(len(source.sha256) == 64 and source.licence for source in card.sources)
    assert not any("NC" in source.licence for source in card.sources)
    assert all(dimension.figures for dimension in card.dimensions)
    assert all(dimension.speaks or dimension.reason for dimension in card.dimensions)


def test_a_weak_harm_dimension_is_silent() -> None:
    """No harm speaks whose worst out-of-fold AUROC is below .70."""
    for dimension in heads.load("harm").card.dimensions:
        worst = min(v for k, v in dimension.figures.items() if k.startswith("auroc:"))
        assert dimension.speaks == (worst >= 0.70)


def test_weights_are_small() -> None:
    """All weights together stay below two megabytes."""
    assert sum(path.stat().st_size for path in heads.WEIGHTS.iterdir()) < 2_000_000


def test_cards_are_readable_json() -> None:
    """A person can open a card."""
    for name in SHIPPED:
        raw = (heads.WEIGHTS / f"{name}.json").read_bytes()
        assert raw.count(b"\n") > 20
        msgspec.json.decode(raw, type=Card)


def test_words_are_heard_as_a_unit_vector(tmp_path: Path) -> None:
    """Only by the dimensions that hear; a text of twice the words is not heard louder."""
    hearing = tuple(
        Dimension(name=name, speaks=True, confidence=0.9, figures={}, hears=name == "b")
        for name in "ab"
    )
    words = np.zeros((1, 4), dtype=np.float32)
    words[0, :2] = 1.0
    hears = tiny(a_card(dimensions=hearing, hashes=4))._replace(
        rarity=np.ones(4, dtype=np.float32), word_coefficients=words
    )
    saved = heads.save(hears, tmp_path)
    loaded = heads.load("tiny", tmp_path)
    inputs = np.array([[1.0, 2.0, 3.0]] * 3)
    said = [np.array([0]), np.array([0, 1]), np.array([], dtype=np.int64)]
    outputs = loaded.outputs(inputs, said)
    assert outputs.tolist() == saved.outputs(inputs, said).tolist()
    assert outputs[:, 0].tolist() == [16.0, 16.0, 16.0]
    assert np.round(outputs[:, 1], 4).tolist() == [23.0, 23.4142, 22.0]
