"""Verbs of people who look at answers: what next, accept, reject, correct, and how far they are."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer

from daemon.cli.app import AsJson, Reviewer, app, login, settings, show
from daemon.cli.search import conversation, judged
from daemon.wiring import at_work, open_store
from scorers.panel import panel_id
from store import experiences, reviews
from store.errors import Rejected
from store.records import Decision, HarmName, Review, new_id, now
from store.redaction import Kind, redact_text
from store.reviews import Draw

STANDARD = Path("-")
HARMS: tuple[str, ...] = get_args(HarmName)
group = typer.Typer(
    help="Look at answers and decide: people's word goes before the panel's, and teaches it.",
    no_args_is_help=True,
)
app.add_typer(group, name="review")

ExperienceId = Annotated[str, typer.Argument(help="As `bhavana review next` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the decision.")]
Harms = Annotated[
    list[str] | None,
    typer.Option("--harm", help=f"May be given again. One of: {', '.join(HARMS)}."),
]


@group.command(name="next")
def next_one(reviewer: Reviewer = None, as_json: AsJson = False) -> None:
    """Show the answer to look at next: the same one until it is decided.

    Half are those that the panel is least sure of, a quarter those on which its scorers disagree
    or to which somebody objected, and a quarter are drawn at random: by these alone the panel is
    measured, so please decide on every one of them.
    """
    configured = settings()
    with open_store(configured) as store:
        house = at_work(configured, store)
        drawn = reviews.draw(
            store,
            panel_id(house.panel),
            reviewer=reviewer or login(),
            cut=house.policy.max_harm,
        )
    show(_plain(drawn), as_json, lambda: _told(drawn))


@group.command()
def accept(
    experience_id: ExperienceId,
    reason: Reason = "a good answer",
    reviewer: Reviewer = None,
    as_json: AsJson = False,
) -> None:
    """A good answer: it may be learned from, whatever the panel says."""
    _decide(experience_id, "accept", reason, reviewer, as_json)


@group.command()
def reject(
    experience_id: ExperienceId,
    reason: Reason,
    harm: Harms = None,
    reviewer: Reviewer = None,
    as_json: AsJson = False,
) -> None:
    """Not to be learned from. Name each --harm that it does; none, if it is only poor.

    harmful_compliance: it helps with what does harm to others.
    """
    _decide(experience_id, "reject", reason, reviewer, as_json, harms=harm or ())


@group.command()
def correct(
    experience_id: ExperienceId,
    reason: Reason,
    text: Annotated[Path, typer.Option(help="File with the better answer; - reads.")],
    harm: Harms = None,
    reviewer: Reviewer = None,
    as_json: AsJson = False,
) -> None:
    """Not to be learned from as it is: there is a better answer."""
    try:
        better = (sys.stdin.read() if text == STANDARD else text.read_text()).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(f"{text} cannot be read: {error}.") from error
    _decide(experience_id, "correct", reason, reviewer, as_json, harms=harm or (), text=better)


@group.command()
def count(as_json: AsJson = False) -> None:
    """How many answers were decided on, by how they were drawn."""
    with open_store(settings()) as store:
        counts = reviews.count(store)
    show(counts, as_json, lambda: "\n".join(f"{drawn:<10} {n}" for drawn, n in counts.items()))


def _decide(
    experience_id: str,
    decision: Decision,
    reason: str,
    reviewer: str | None,
    as_json: bool,
    **further: Any,
) -> None:
    if unknown := sorted(set(further.get("harms", ())) - set(HARMS)):
        raise Rejected(
            f"There is no harm {', '.join(unknown)}.", hint=f"There are {', '.join(HARMS)}."
        )
    further["harms"] = tuple(further.get("harms", ()))
    if not reason.strip() or further.get("text") == "":
        raise Rejected("A decision needs a reason, and a correction a better answer.")
    review = Review(
        id=new_id("review"),
        experience_id=experience_id,
        decision=decision,
        reason=reason,
        reviewer=reviewer or login(),
        reviewed_at=now(),
        **further,
    )
    configured = settings()
    with open_store(configured) as store:
        kinds = configured.redaction.rules_for(experiences.get(store, experience_id).source).kinds
        appended = reviews.record(store, _redacted(review, kinds), actor="cli")
    said: dict[str, Any] = {"id": review.id, "position": appended.position}
    show(said, as_json, lambda: f"{experience_id}: {decision}. Next: bhavana review next")


def _redacted(review: Review, kinds: Collection[Kind]) -> Review:
    """What a reviewer writes is stored, and learned from, as what the door takes is."""

    def kept(text: str) -> str:
        return redact_text(unicodedata.normalize("NFC", text), kinds).value

    text = None if review.text is None else kept(review.text)
    return msgspec.structs.replace(review, reason=kept(review.reason), text=text)


def _plain(drawn: Draw | None) -> dict[str, Any] | None:
    if drawn is None:
        return None
    return {
        "drawn": drawn.drawn,
        "experience": drawn.experience,
        "assessment": drawn.assessment,
    }


def _told(drawn: Draw | None) -> str:
    if drawn is None:
        return "Nothing waits: all that the panel assessed was decided on, or is drawn for others."
    e, a = drawn.experience, drawn.assessment
    lines = [f"{e.id}  from {e.source}, drawn: {drawn.drawn}", ""]
    lines += [*conversation(e), ""]
    lines += [] if a is None else judged(a)
    lines += [
        "",
        f"bhavana review accept {e.id}",
        f"bhavana review reject {e.id} --reason … [--harm {'|'.join(HARMS)}]",
        f"bhavana review correct {e.id} --reason … --text FILE",
    ]
    return "\n".join(lines)
