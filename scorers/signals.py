"""What the public sets alone can tell of an exchange: the ground that the principles stand on.

Heads fitted without any house row, so that the principles' own figures stay out of fold. Too
weak to speak as findings; together they say more than the embedding does.
"""

from __future__ import annotations

import numpy as np

from scorers import features
from scorers.features import Matrix
from scorers.heads import Heads

NAME = "signals"
RISKY_REQUEST = "risky_request"
SCALE = 1 / 3
"""Log-odds are about three times as wide as the other inputs."""
DECLINES = features.EMBEDDED + features.SURFACE.index("declines_at_opening")


def extend(inputs: Matrix, signals: Heads) -> Matrix:
    """The inputs with the signals appended, and whether it was a risky request that was declined.

    The product is what tells a refusal that protects from one that only leaves alone.
    """
    outputs = signals.outputs(inputs) * SCALE
    names = [dimension.name for dimension in signals.card.dimensions]
    declined = outputs[:, names.index(RISKY_REQUEST)] * inputs[:, DECLINES]
    return np.concatenate([inputs, outputs, declined[:, None]], axis=1)
