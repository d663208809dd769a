"""Harm by fitted heads, 0..1 for each dimension that its card lets speak.

Besides the four harms of the seeds there is `harmful_compliance`: the public labels say that an
answer does harm, not in which way.
"""

from __future__ import annotations

from scorers.fitted import Fitted
from scorers.settings import PanelSettings

NAME = "harm"


def load(settings: PanelSettings) -> Fitted:
    """The scorer, ready."""
    return Fitted(NAME, settings)
