"""How far a model prefers the better of two replies: the value of every gate over pairs.

Which of the two is preferred is a yes or no that turns on nothing where they are nearly equal, so
the margin is kept, and cut off where the preference is plain. Measured on four trainings of the
embedded base and 50 pairs: between two of them 1 to 4 yeses turn and their share moves by up to
.04; this value moves by .009 at most. A principle that loses .1 nats a token over ten pairs stands
out from that noise by 0.9 standard errors as a yes or no, and by 4.1 here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trainer.gates.sample import Sample

PLAIN_LOSS = 0.5
"""Nats per token by which one reply must be likelier than its twin to be preferred wholly: about
the standard deviation of the base's margins. No pair can outweigh another. At .25 more of what is
gained is noise (3.2 standard errors), at 1 little less is (4.4) and a collapse looks small."""
PLAIN_ODDS = 2.0
"""Nats of log odds, 7 to 1, from which a judge's choice is whole."""
MOST_ODDS = 30.0
"""More than float32 can tell from certainty; keeps a choice of probability 0 finite."""


def share(margin: float, plain: float) -> float:
    """.5 where neither is preferred; 1 where the better one is, by `plain` or more; 0 against."""
    return min(1.0, max(0.0, 0.5 + margin / (2 * plain)))


def twins(sample: Sample) -> dict[str, str]:
    """The two replies that are read."""
    return {"keeps": sample.keeps, "breaks": sample.breaks}


def of_reader(_: Sample, losses: Mapping[str, float]) -> float:
    """The share from the losses of the two replies, in nats per token: length plays no part."""
    return share(losses["breaks"] - losses["keeps"], PLAIN_LOSS)


def odds(sample: Sample, probabilities: Mapping[str, float]) -> float:
    """Log odds that a judge of two answers gives the right one, in nats."""
    right = probabilities[sample.target]
    least = math.exp(-MOST_ODDS)
    return math.log(max(right, least)) - math.log(max(1 - right, least))


def of_judge(both_orders: Sequence[float]) -> float:
    """The share from the log odds in both orders: a liking for A or for B cancels in their mean."""
    return share(sum(both_orders) / len(both_orders), PLAIN_ODDS)
