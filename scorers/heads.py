"""Linear heads on fixed inputs: load, check, apply. Arrays in safetensors, the rest in a card.

Some heads also hear the words of the response, hashed: 2^16 coefficients more.

Pure numpy. A card says what a head was fitted on, how well it did out of fold, and when it must
keep silent. It does not know how heads are fitted (scorers/fit.py does), nor any text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import field
from numpy.typing import NDArray
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from scorers.features import FEATURE_VERSION, Hashed, Matrix
from scorers.settings import WEIGHTS
from store.errors import IntegrityError, Misconfigured
from store.records import Finding, Noun, to_json

JUDGEABLE = Path(__file__).with_name("judgeable.py")


class Source(Noun, frozen=True, kw_only=True):
    """A file that a head was fitted on."""

    name: str
    licence: str
    rows: int
    sha256: str


class Dimension(Noun, frozen=True, kw_only=True):
    """One output of the heads: what it was fitted on, how well it does, whether it may speak."""

    name: str
    speaks: bool
    reason: str = ""
    """Why it keeps silent, when it does."""
    confidence: float
    """Out-of-fold AUROC or Spearman: what a finding of this dimension is worth."""
    figures: dict[str, float]
    """Out of fold, grouped by prompt; the key says the measure and on what."""
    hears: bool = False
    """Whether the words of the response are heard, too."""


class Card(Noun, frozen=True, kw_only=True):
    """Everything about a weights file that is not a number to multiply with."""

    name: str
    purpose: str
    not_for: tuple[str, ...]
    feature_version: str
    encoder_sha256: str
    weights_sha256: str
    built_on: dict[str, str] = field(default_factory=dict)
    """Other weights whose outputs are inputs here, by name, with their SHA-256."""
    inputs: int
    hashes: int = 0
    """How many hashed words the heads know besides the inputs, a divisor of HASHES; 0: none."""
    settings: dict[str, float]
    dimensions: tuple[Dimension, ...]
    sources: tuple[Source, ...]


class Heads(NamedTuple):
    """The heads of one weights file; `coefficients` has a row per dimension of the card."""

    card: Card
    coefficients: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    slopes: NDArray[np.float32]
    """With `offsets`: the calibration, fitted on out-of-fold outputs."""
    offsets: NDArray[np.float32]
    rarity: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
    """Inverse document frequency of every hash, where words are heard."""
    word_coefficients: NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)
    """A row for each of the dimensions that hear."""

    def outputs(self, inputs: Matrix, words: Sequence[Hashed] = ()) -> Matrix:
        """Calibrated outputs: log-odds of harm, or principle scores; one row per input row.

        `words` are of the responses, and needed where the card has hashes.
        """
        raw = inputs.astype(np.float64) @ self.coefficients.T.astype(np.float64) + self.intercepts
        if self.card.hashes:
            hearing = [at for at, one in enumerate(self.card.dimensions) if one.hears]
            raw[:, hearing] += np.array([self._heard(one) for one in words], ndmin=2)
        return np.asarray(raw * self.slopes + self.offsets)

    def probabilities(self, inputs: Matrix, words: Sequence[Hashed] = ()) -> Matrix:
        """The outputs as probabilities."""
        outputs = np.clip(self.outputs(inputs, words), -50.0, 50.0)
        return np.asarray(1.0 / (1.0 + np.exp(-outputs)))

    def _heard(self, words: Hashed) -> Matrix:
        """What the words add, their rarities as a unit vector: length does not speak."""
        words = np.unique(words % self.card.hashes)
        rarity = self.rarity[words].astype(np.float64)
        length = float(np.sqrt((rarity**2).sum())) or 1.0
        return np.asarray(self.word_coefficients[:, words].astype(np.float64) @ (rarity / length))


def version(name: str, folder: Path = WEIGHTS) -> str:
    """A prefix of the digest of the weights, their card, and when they abstain; needs no torch."""
    content = hashlib.sha256()
    for path in (*_paths(name, folder), JUDGEABLE):
        content.update(hashlib.sha256(_read(path)).digest())
    return content.hexdigest()[:12]


def load(name: str, folder: Path = WEIGHTS) -> Heads:
    """The heads of that name.

    Raises IntegrityError when the bytes, the features or the shapes are not those of the card.
    """
    weights_path, card_path = _paths(name, folder)
    card = msgspec.json.decode(_read(card_path), type=Card)
    raw = _read(weights_path)
    if hashlib.sha256(raw).hexdigest() != card.weights_sha256:
        raise IntegrityError(f"{weights_path.name} is not the file that its card describes.")
    if card.feature_version != FEATURE_VERSION:
        raise IntegrityError(
            f"{name} was fitted on features {card.feature_version}, here are {FEATURE_VERSION}.",
            hint="Fit again: python -m scorers.fit",
        )
    arrays = load_arrays(raw)
    heads = Heads(card, **{name: arrays[name] for name in _arrays_of(card)})
    shape = (len(card.dimensions), card.inputs)
    words = (sum(one.hears for one in card.dimensions), card.hashes)
    if heads.coefficients.shape != shape or heads.word_coefficients.shape != words:
        raise IntegrityError(f"{weights_path.name} does not have the shape that its card says.")
    return heads


def require(heads: Heads, encoder_sha256: str, built_on: dict[str, str] | None = None) -> None:
    """Raises IntegrityError unless these are the encoder and weights that the heads stand on."""
    if heads.card.encoder_sha256 != encoder_sha256:
        raise IntegrityError(
            f"{heads.card.name} was fitted on another sentence encoder.",
            hint="Install the encoder of the card, or fit again: python -m scorers.fit",
        )
    if heads.card.built_on != (built_on or {}):
        raise IntegrityError(
            f"{heads.card.name} was fitted on other signals.",
            hint="Fit again: python -m scorers.fit",
        )


def finding(
    scorer: str, version: str, dimension: Dimension, value: float, objection: str | None
) -> Finding:
    """The finding of one dimension: its value, or an abstention with the reason."""
    silence = objection or ("" if dimension.speaks else dimension.reason)
    return Finding(
        scorer=scorer,
        version=version,
        dimension=dimension.name,
        # Four decimals: beyond them batches of other widths round differently.
        value=None if silence else round(value, 4),
        confidence=0.0 if silence else dimension.confidence,
        reason=silence,
    )


def save(heads: Heads, folder: Path = WEIGHTS) -> Heads:
    """Writes weights, then the card that vouches for them; the same heads give the same bytes."""
    # Contiguous: safetensors writes the memory as it lies, whatever the strides say.
    arrays = {name: np.ascontiguousarray(getattr(heads, name)) for name in _arrays_of(heads.card)}
    raw = save_arrays(arrays)
    signed = heads._replace(
        card=msgspec.structs.replace(heads.card, weights_sha256=hashlib.sha256(raw).hexdigest())
    )
    folder.mkdir(parents=True, exist_ok=True)
    weights_path, card_path = _paths(heads.card.name, folder)
    weights_path.write_bytes(raw)
    card_path.write_bytes(msgspec.json.format(to_json(signed.card), indent=2) + b"\n")
    return signed


def _arrays_of(card: Card) -> tuple[str, ...]:
    return Heads._fields[1:] if card.hashes else Heads._fields[1:5]


def _paths(name: str, folder: Path) -> tuple[Path, Path]:
    return folder / f"{name}.safetensors", folder / f"{name}.json"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Misconfigured(
            f"{path.name} is missing from {path.parent}.",
            hint="Fit it: python -m scorers.fit; of a refit: copy the folder, or `bhavana heads "
            "reset`.",
        ) from error
