"""What the trial comes to: a row for each candidate, and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from store.records import Noun, now

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
    inherited: tuple[str, ...] = ()
    """The gates that hold back the right one, too, which a wrong one starts from."""
    meant: tuple[str, ...] = ()
    """The gates that were meant to hold a wrong one back."""
    halted: str = ""
    """What the watch said, where it halted the training; the gates judged what was there."""
    seconds: float = 0.0
    """Of the evaluation."""

    @property
    def held_for_fault(self) -> dict[str, str]:
        """What held it back for itself, and not for what it starts from."""
        return {
            gate: outcome
            for gate, outcome in self.held_by.items()
            if gate not in self.inherited or outcome == "error"
        }

    @property
    def as_meant(self) -> bool:
        """One of the gates that were meant for the fault held it back, in the way meant."""
        held = self.held_for_fault
        if "binding" in self.meant:
            return "refused" in held
        was_error = "refused" in held or "error" in held.values()
        return bool(set(self.meant) & set(held)) or ("error" in self.meant and was_error)

    @property
    def is_unproven(self) -> bool:
        """A wrong one that was held back, but for nothing of its own."""
        return self.kind == "wrong" and self.outcome == "held back" and not self.held_for_fault

    @property
    def is_mistake(self) -> bool:
        """A wrong one let through, a right one held back, or one that proves nothing."""
        expected = "promoted" if self.kind == "right" else "held back"
        return self.outcome != expected or self.is_unproven


class Result(Noun, frozen=True, kw_only=True):
    """The figure: wrong let through, right held back."""

    wrong: int
    wrong_let_through: int
    unproven: int
    """Wrong ones that were held back for nothing of their own."""
    right: int
    right_held_back: int
    not_judged: int
    tried: tuple[Tried, ...]
    at: str

    @property
    def held(self) -> bool:
        """No wrong one was let through, one right one at most was held back, all are proven."""
        return (
            self.wrong_let_through == self.unproven == self.not_judged == 0
            and self.right_held_back <= MOST_RIGHT_HELD_BACK
        )


def result(tried: Sequence[Tried]) -> Result:
    """Counts."""
    wrong = [one for one in tried if one.kind == "wrong"]
    right = [one for one in tried if one.kind == "right"]
    return Result(
        wrong=len(wrong),
        wrong_let_through=sum(one.outcome == "promoted" for one in wrong),
        unproven=sum(one.is_unproven for one in wrong),
        right=len(right),
        right_held_back=sum(one.outcome == "held back" for one in right),
        not_judged=sum(one.outcome == "not judged" for one in tried),
        tried=tuple(tried),
        at=now().isoformat(),
    )


def told(one: Tried) -> str:
    """A candidate's outcome in a line."""
    by = ", ".join(f"{gate} {outcome}" for gate, outcome in one.held_by.items())
    watch = "; the watch halted its training" if one.halted else ""
    return f"{one.outcome}{' by ' + by if by else ''}{_how(one)}{watch}"


def _how(one: Tried) -> str:
    if one.kind == "right" or one.outcome != "held back":
        return ""
    if one.is_unproven:
        return " (as what it starts from: this proves nothing)"
    return " (as meant)" if one.as_meant else f" (meant was {' or '.join(one.meant)})"


def table(found: Result) -> list[str]:
    """The result for a terminal; `!` marks what speaks against the gates."""
    width = max(len(one.name) for one in found.tried) + 2
    lines = [
        f"{'!' if one.is_mistake else ' '} {one.kind:6} {one.name:{width}}{told(one)}"
        for one in found.tried
    ]
    figure = (
        f"{found.wrong_let_through} of {found.wrong} wrong let through, "
        f"{found.right_held_back} of {found.right} right held back, "
        f"{found.unproven + found.not_judged} that prove nothing"
    )
    return [*lines, "", figure]
