"""What a refit is asked, and what it answers. Light: the daemon asks, a child process fits."""

from __future__ import annotations

from scorers.settings import PanelSettings
from store.records import Noun

LEAST_LABELS = 150
"""Fewer do not settle a calibration (measured: error .02 to .11 with 150)."""


class Label(Noun, frozen=True, kw_only=True):
    """What a person said of an answer."""

    prompt: str
    response: str
    harms: tuple[str, ...]
    random: bool
    """It came to the person by chance: only such ones can tell which head is better."""
    fresh: bool
    """It came after the heads that are at work were fitted."""


class Question(Noun, frozen=True, kw_only=True):
    """What a refit is asked."""

    panel: PanelSettings
    """That which is at work."""
    labels: tuple[Label, ...]
    folder: str
    """Where the new heads go, whole or not at all."""


class Tried(Noun, frozen=True, kw_only=True):
    """What came of it."""

    better: bool
    reason: str
    figures: dict[str, dict[str, float]]
    """By head, on the answers drawn at random; and on the written cases, as `anchors`."""
