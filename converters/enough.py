"""Whether a selection is enough to learn from, and which threshold stands in the way."""

from __future__ import annotations

import bisect

import msgspec

from converters.selection import Asked, Selection, select
from converters.split import SPLITS
from store.errors import NotEnoughData
from store.events import StoreReader


def require_enough(store: StoreReader, asked: Asked, selection: Selection) -> None:
    """Raises NotEnoughData, saying where the experiences went and which threshold is nearest."""
    funnel, least = selection.funnel, asked.policy.min_examples
    if funnel["selected"] >= least:
        if (selection.rows["side"] == SPLITS[0]).any():
            return
        raise NotEnoughData(
            f"All {funnel['selected']} that match are held out; none is left to train on.",
            hint="Post more conversations, or lower policy.holdout_share and policy.test_share.",
        )
    dropped_by = ", ".join(
        f"{count} {name.replace('_', ' ')}"
        for name, count in funnel.items()
        if count and name not in ("recorded", "selected")
    )
    found = "no experiences match" if not funnel["selected"] else f"{funnel['selected']} match"
    raise NotEnoughData(
        f"{found}, {least} are asked for: {funnel['recorded']} recorded"
        + (f", {dropped_by}." if dropped_by else "."),
        hint=_nearest(store, asked),
    )


def _nearest(store: StoreReader, asked: Asked) -> str:
    """The smallest change of one threshold that would admit enough, as `select` confirms."""
    policy, least = asked.policy, asked.policy.min_examples
    tries = {
        "max_harm": [n / 100 for n in range(int(policy.max_harm * 100) + 1, 101)],
        "min_weighted": [n / 100 for n in reversed(range(int(policy.min_weighted * 100) + 1))],
    }
    offers = []
    for name, values in tries.items():
        # Admitting more hardly ever selects fewer, so it is found by halving; what is offered was
        # itself tried, but for paraphrases.
        def enough(value: float, name: str = name) -> bool:
            tried = msgspec.structs.replace(policy, **{name: value})
            chosen = select(store, msgspec.structs.replace(asked, policy=tried))
            return chosen.funnel["selected"] >= least

        place = bisect.bisect_left(values, True, key=enough)
        if place < len(values):
            offers.append(f"policy.{name} = {values[place]:g}")
    if offers:
        return f"The nearest threshold that would admit {least} is {' or '.join(offers)}."
    return (
        f"No single threshold would admit {least}. Post more experiences with consent, or lower "
        "policy.min_examples."
    )
