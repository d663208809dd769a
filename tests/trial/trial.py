"""The trial: the candidates made and judged, one after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from store.errors import BhavanaError, Unavailable
from tests.trial.candidates import FIRST, RIGHT, WRONG, Right, Wrong
from tests.trial.judging import Judged, judge, offer
from tests.trial.making import Made, Workshop
from tests.trial.result import Outcome, Result, Tried, result, told
from trainer.job import write_record


def run(shop: Workshop, names: Collection[str], kept: Path) -> Result:
    """Makes and judges the named candidates, and keeps the result so far after each of them.

    The first right one is judged in any case. Raises Unavailable when it was stopped.
    """
    tried: list[Tried] = []
    inherited = tuple(_try(shop, FIRST, RIGHT[FIRST]).held_by)
    for name, candidate in all_of(names):
        shop.say(f"{name}: {candidate.about}")
        tried.append(_try(shop, name, candidate, inherited))
        shop.say(f"{name}: {told(tried[-1])}")
        write_record(kept, result(tried))
    return result(tried)


def make(shop: Workshop, names: Collection[str]) -> None:
    """Makes the named candidates and judges none."""
    for name, candidate in all_of(names):
        shop.say(f"{name}: {candidate.about}")
        made = _made(shop, name, candidate)
        shop.say(f"{name}: {made.adapter} {made.hash[:12]} {made.halted}")


def all_of(names: Collection[str]) -> Iterator[tuple[str, Right | Wrong]]:
    """The named candidates, or all: the first right one, the wrong ones, the other right ones."""
    for name, candidate in ({FIRST: RIGHT[FIRST]} | WRONG | RIGHT).items():
        if not names or name in names:
            yield name, candidate


def _made(shop: Workshop, name: str, candidate: Right | Wrong) -> Made:
    if isinstance(candidate, Right):
        return candidate.make(name, shop)
    return candidate.make(name, shop, RIGHT[FIRST].make(FIRST, shop))


def _try(
    shop: Workshop, name: str, candidate: Right | Wrong, inherited: tuple[str, ...] = ()
) -> Tried:
    """A candidate made and judged, against the base and, but for the first one, the incumbent."""

    def tried(outcome: Outcome, held_by: dict[str, str], **more: Any) -> Tried:
        is_right = isinstance(candidate, Right)
        return Tried(
            name=name,
            kind="right" if is_right else "wrong",
            about=candidate.about,
            outcome=outcome,
            held_by=held_by,
            inherited=() if is_right else inherited,
            meant=() if is_right else candidate.gates,
            **more,
        )

    try:
        made = _made(shop, name, candidate)
        if isinstance(candidate, Right) and made.halted:
            return tried("held back", {"watch": made.halted})
        judged = _judged(shop, name, candidate, made)
    except Unavailable:
        raise
    except BhavanaError as error:
        return tried("not judged", {"making": " ".join(str(error).split())})
    broke = bool(judged.refused) and not _may_be_refused(candidate)
    outcome: Outcome = "promoted" if judged.passed else "not judged" if broke else "held back"
    return tried(outcome, judged.held_by, halted=made.halted, seconds=judged.seconds)


def _judged(shop: Workshop, name: str, candidate: Right | Wrong, made: Made) -> Judged:
    if name == FIRST:
        return judge(name, shop, made, None)
    first = RIGHT[FIRST].make(FIRST, shop)
    if isinstance(candidate, Wrong) and "binding" in candidate.gates:
        return offer(shop, made, first, judge(FIRST, shop, first, None).verdicts)
    return judge(name, shop, made, first)


def _may_be_refused(candidate: Right | Wrong) -> bool:
    """Whether refusing to judge it is right; else an evaluation that breaks proves nothing."""
    return isinstance(candidate, Wrong) and bool({"error", "binding"} & set(candidate.gates))
