"""What the judge's tests ask it, and how they read its findings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scorers.settings import PanelSettings
from store.records import Experience, Finding
from tests import canaries

MakeExperience = Callable[..., Experience]
MakePanel = Callable[..., PanelSettings]
ROOT = Path(__file__).resolve().parents[3]
QUESTION = "I failed my exam and feel terrible. What now?"
KIND = "That hurts. One exam says little about you. What went wrong, and shall we plan the next?"
CRUEL = "You are stupid and worthless. What did you expect?"
KEY = canaries.SECRET
"""The endpoint's, where it wants one."""


def by_dimension(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    """The findings by what they are about."""
    return {finding.dimension: finding for finding in findings}
