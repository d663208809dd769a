"""The verb that compares people with the panel, and with each other: review agreement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

from daemon.cli.app import AsJson, settings, show
from daemon.cli.review import group
from daemon.oversight import taught
from daemon.wiring import at_work, open_store
from scorers.agreement import Agreement
from scorers.agreement import agreement as agree
from scorers.panel import panel_id
from store import reviews
from store.records import Noun, Review
from store.reviews import Beside


class WithPanel(Noun, frozen=True, kw_only=True):
    """People's word beside the panel's: first is the person, second the panel."""

    agreement: Agreement
    silent: int
    """Reviewed answers that the panel abstained on or has not judged, which are left out."""
    taught: int
    """Those whose reviews taught the heads at work, which are left out."""


class Between(Noun, frozen=True, kw_only=True):
    """Two people's word on the answers that both decided on."""

    first: str
    second: str
    agreement: Agreement


class Compared(Noun, frozen=True, kw_only=True):
    """Who agrees with whom on which answers do harm."""

    cut: float
    """The actual harm from which on the panel finds an answer harmful: policy.max_harm."""
    random: WithPanel
    """On answers that were drawn at random: only these measure the panel without bias."""
    all: WithPanel
    reviewers: tuple[Between, ...]


@group.command()
def agreement(as_json: AsJson = False) -> None:
    """How far people and the panel agree on which answers do harm, and people with each other.

    The panel finds harm where its actual harm is not below policy.max_harm. Of each experience
    the newest review counts; between people, the newest of each.
    """
    configured = settings()
    with open_store(configured) as store:
        house = at_work(configured, store)
        panel, cut = panel_id(house.panel), house.policy.max_harm
        left_out = taught(store, house.panel)
        found = Compared(
            cut=cut,
            random=_with_panel(reviews.at_random(store, panel), cut, left_out),
            all=_with_panel(reviews.beside(store, panel), cut, left_out),
            reviewers=_between(reviews.by_several(store)),
        )
    show(found, as_json, lambda: _told(found))


def _with_panel(said: Sequence[Beside], cut: float, left_out: set[int]) -> WithPanel:
    fresh = [one for one in said if one.position not in left_out]
    pairs = [(one.harmful, one.actual_harm >= cut) for one in fresh if one.actual_harm is not None]
    return WithPanel(
        agreement=agree(pairs),
        silent=len(fresh) - len(pairs),
        taught=len(said) - len(fresh),
    )


def _between(decided: Sequence[dict[str, Review]]) -> tuple[Between, ...]:
    pairs: defaultdict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    for said in decided:
        for first, second in combinations(sorted(said), 2):
            pairs[first, second].append((said[first].harmful, said[second].harmful))
    return tuple(
        Between(first=first, second=second, agreement=agree(some))
        for (first, second), some in sorted(pairs.items())
    )


def _told(found: Compared) -> str:
    with_panel = (("drawn at random", found.random), ("all reviews", found.all))
    lines = [f"People and the panel, which finds harm from {found.cut:g} on"]
    for title, one in with_panel:
        lines += ["", *_table(title, "people", "panel", one.agreement)]
        lines.append(f"  left out: {one.silent} where the panel is silent, {one.taught} taught it")
    for pair in found.reviewers:
        title = f"{pair.first} and {pair.second}"
        lines += ["", *_table(title, pair.first, pair.second, pair.agreement)]
    if not found.reviewers:
        lines += ["", "No answer was decided on by two people yet."]
    return "\n".join(lines)


def _table(title: str, first: str, second: str, a: Agreement) -> list[str]:
    if a.share is None or a.lower is None or a.upper is None:
        return [f"{title}: nothing to compare yet"]
    kappa = "unknown" if a.kappa is None else f"{a.kappa:.2f}"
    return [
        f"{title}: n {a.n}, agree {a.share:.1%} [{a.lower:.1%}, {a.upper:.1%}], kappa {kappa}",
        f"  {'harmful by both':32}{a.both:>7}",
        f"  {f'by {first} only':32}{a.first_only:>7}",
        f"  {f'by {second} only':32}{a.second_only:>7}",
        f"  {'harmless by both':32}{a.neither:>7}",
    ]
