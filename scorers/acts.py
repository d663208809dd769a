"""What was asked and what was done: whether the request is harmful, whether the response declines.

Neither is a harm of the response. They tell a refusal that protects from one that only leaves
alone, and let the selection see that not all of its rows are refusals.
"""

from __future__ import annotations

from scorers.fitted import Fitted
from scorers.settings import PanelSettings

NAME = "acts"


def load(settings: PanelSettings) -> Fitted:
    """The scorer, ready."""
    return Fitted(NAME, settings)
