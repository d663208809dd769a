"""How the panel does by people's word, and the alarm that halts training. Reads the store only."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.wiring import Parts
from scorers.oversight import Health, OversightSettings, Said, Scores, look
from scorers.panel import panel_id
from scorers.settings import PanelSettings
from store import refits, reviews
from store.errors import Untrusted
from store.events import StoreReader
from store.experiences import count_by_label
from store.reviews import Beside


def health(store: StoreReader, panel: PanelSettings, on: OversightSettings) -> Health:
    """How the panel does on this deployment's own answers, those that taught it left out."""
    name = panel_id(panel)
    random = reviews.at_random(store, name)
    left_out = taught(store, panel)
    said = [
        Said(one.actual_harm, one.harmful)
        for one in random
        if one.actual_harm is not None and one.position not in left_out
    ][-on.window :]
    since = _settled(store, name, random, on)
    if since is None:  # there are not enough answers yet
        return look(said, (), (), on)
    before = reviews.harms_seen(store, name, until=since, limit=on.window)
    after = reviews.harms_seen(store, name, after=since, limit=on.window)
    then, lately = ([Scores(*one) for one in some] for some in (before, after))
    return look(said, then, lately, on)


def taught(store: StoreReader, panel: PanelSettings) -> set[int]:
    """Positions of the experiences whose reviews taught the heads at work."""
    serving = refits.serving(store) if panel.refitted_dir else None
    return set(serving.members) if serving else set()


def _settled(
    store: StoreReader, panel: str, random: Sequence[Beside], on: OversightSettings
) -> int | None:
    """Position from which on answers are new: up to it enough were reviewed, or else the first."""
    if sum(count_by_label(store, panel).values()) < 2 * on.window:
        return None  # nor is a million looked through for the few that this panel has judged
    if len(random) >= on.reviews_that_settle:
        return sorted(one.position for one in random)[-on.reviews_that_settle]
    return reviews.seen_first(store, panel, nth=on.window)


def require_health(parts: Parts) -> None:
    """Raises Untrusted when something alarms: by such a panel's word nothing may be learned."""
    found = health(parts.store, parts.settings.panel, parts.settings.oversight)
    if found.alarms:
        raise Untrusted(" ".join(found.alarms))
