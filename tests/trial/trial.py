"""The trial: every candidate made and judged, and what it comes to."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal

from store.errors import BhavanaError, Unavailable
from store.records import Noun, now
from tests.trial.candidates import FIRST, RIGHT, WRONG, Right, Wrong
from tests.trial.judging import Judged, judge, offer
from tests.trial.making import Made, Workshop
from trainer.job import write_record

MOST_RIGHT_HELD_BACK = 1

Outcome = Literal["promoted", "held back", "not judged"]
"""not judged: the training or the evaluation broke where nothing was to be refused. That proves
nothing either way."""


class Tried(Noun, frozen=True, kw_only=True):
    """One candidate's row of the result."""

    name: str
    kind: Literal["right", "wrong"]
    about: str
    outcome: Outcome
    held_by: dict[str, str]
    """By gate that held it back: fail, inconclusive or error; `refused` with the reason."""
    meant: tuple[str, ...] = ()
    """The gates that were meant to hold a wrong one back."""
    halted: str = ""
    """What the watch said, where it halted the training; the gates judged what was there."""
    seconds: float = 0.0
    """Of the evaluation."""

    @property
    def as_meant(self) -> bool:
        """One of the gates that were meant for the fault held it back, in the way meant."""
        if "binding" in self.meant:
            return "refused" in self.held_by
        was_error = "refused" in self.held_by or "error" in self.held_by.values()
        return bool(set(self.meant) & set(self.held_by)) or ("error" in self.meant and was_error)

    @property
    def is_mistake(self) -> bool:
        """A wrong one let through, a right one held back, or one that was not judged."""
        return self.outcome != ("promoted" if self.kind == "right" else "held back")


class Result(Noun, frozen=True, kw_only=True):
    """The figure: wrong let through, right held back."""

    wrong: int
    wrong_let_through: int
    right: int
    right_held_back: int
    not_judged: int
    tried: tuple[Tried, ...]
    at: str

    @property
    def held(self) -> bool:
        """No wrong one was let through, one right one at most was held back, all were judged."""
        return (
            self.wrong_let_through == 0
            and self.right_held_back <= MOST_RIGHT_HELD_BACK
            and self.not_judged == 0
        )


def run(shop: Workshop, names: Collection[str], kept: Path) -> Result:
    """Makes and judges the named candidates, and keeps the result so far after each of them.

    Raises Unavailable when it was stopped.
    """
    tried: list[Tried] = []
    for name, candidate in all_of(names):
        shop.say(f"{name}: {candidate.about}")
        tried.append(_try(shop, name, candidate))
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


def _try(shop: Workshop, name: str, candidate: Right | Wrong) -> Tried:
    """A candidate made and judged, against the base and, but for the first one, the incumbent."""
    try:
        made = _made(shop, name, candidate)
        if isinstance(candidate, Right) and made.halted:
            return _row(name, candidate, "held back", {"watch": made.halted})
        judged = _judged(shop, name, candidate, made)
    except Unavailable:
        raise
    except BhavanaError as error:
        return _row(name, candidate, "not judged", {"making": " ".join(str(error).split())})
    broke = bool(judged.refused) and not may_be_refused(candidate)
    outcome: Outcome = "promoted" if judged.passed else "not judged" if broke else "held back"
    return _row(name, candidate, outcome, judged.held_by, made.halted, judged.seconds)


def _judged(shop: Workshop, name: str, candidate: Right | Wrong, made: Made) -> Judged:
    if name == FIRST:
        return judge(name, shop, made, None)
    first = RIGHT[FIRST].make(FIRST, shop)
    if isinstance(candidate, Wrong) and "binding" in candidate.gates:
        return offer(shop, made, first, judge(FIRST, shop, first, None).verdicts)
    return judge(name, shop, made, first)


def may_be_refused(candidate: Right | Wrong) -> bool:
    """Whether refusing to judge it is right; else an evaluation that breaks proves nothing."""
    return isinstance(candidate, Wrong) and bool({"error", "binding"} & set(candidate.gates))


def _row(
    name: str,
    candidate: Right | Wrong,
    outcome: Outcome,
    held_by: dict[str, str],
    halted: str = "",
    seconds: float = 0.0,
) -> Tried:
    return Tried(
        name=name,
        kind="right" if isinstance(candidate, Right) else "wrong",
        about=candidate.about,
        outcome=outcome,
        held_by=held_by,
        meant=candidate.gates if isinstance(candidate, Wrong) else (),
        halted=halted,
        seconds=seconds,
    )


def result(tried: Sequence[Tried]) -> Result:
    """Counts."""
    wrong = [one for one in tried if one.kind == "wrong"]
    right = [one for one in tried if one.kind == "right"]
    return Result(
        wrong=len(wrong),
        wrong_let_through=sum(one.outcome == "promoted" for one in wrong),
        right=len(right),
        right_held_back=sum(one.outcome == "held back" for one in right),
        not_judged=sum(one.outcome == "not judged" for one in tried),
        tried=tuple(tried),
        at=now().isoformat(),
    )


def told(one: Tried) -> str:
    """A candidate's outcome in a line."""
    by = ", ".join(f"{gate} {outcome}" for gate, outcome in one.held_by.items())
    how = ""
    if one.kind == "wrong" and one.outcome == "held back":
        how = " (as meant)" if one.as_meant else f" (by others than {', '.join(one.meant)})"
    watch = "; the watch halted its training" if one.halted else ""
    return f"{one.outcome}{' by ' + by if by else ''}{how}{watch}"


def table(found: Result) -> list[str]:
    """The result for a terminal."""
    width = max(len(one.name) for one in found.tried) + 2
    lines = []
    for one in found.tried:
        mark = "!" if one.is_mistake else " "
        lines.append(f"{mark} {one.kind:6} {one.name:{width}}{told(one)}")
    lines.append("")
    lines.append(
        f"{found.wrong_let_through} of {found.wrong} wrong let through, "
        f"{found.right_held_back} of {found.right} right held back, "
        f"{found.not_judged} not judged"
    )
    return lines
