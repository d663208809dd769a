"""The way into service: preflight, publish, probe, and only then the switch.

Only what passed, or is vouched for, comes this far. Nobody is served by a release before it was
probed; should the switch itself go wrong, what served before serves again. Each step is journalled
before and after, and each can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from store.errors import BhavanaError, IntegrityError, ProbeFailed
from store.records import Evaluation, Line, Noun, Override
from trainer.adapter import adapter_hash
from trainer.base import Base
from trainer.journal import StoreJournal
from trainer.targets.archive import Archive
from trainer.targets.target import Delivery, References, Target, Traffic


class Proven(Noun, frozen=True, kw_only=True):
    """A release that lies at its target and answers there as it was evaluated."""

    delivery: Delivery
    location: str
    figures: dict[str, float]
    """Of the probe."""


def require_admitted(
    evaluation: Evaluation, adapter: Path, base: Base, override: Override | None
) -> None:
    """Raises IntegrityError for what did not pass, nobody vouches for, or is not what was judged.

    `override`: by whose word what did not pass is served; an error nobody overrides.
    """
    proven = (evaluation.adapter_hash, evaluation.base_hash)
    admitted = evaluation.passed or (override is not None and evaluation.overridable)
    if not admitted or (adapter_hash(adapter), base.hash) != proven:
        raise IntegrityError(f"{adapter} is not what evaluation {evaluation.id} admits.")


def prove(
    target: Target,
    evaluation: Evaluation,
    *,
    release_id: str,
    line: Line,
    adapter: Path,
    base: Base,
    archive: Archive,
    references: References,
    journal: StoreJournal,
    override: Override | None = None,
) -> Proven:
    """Publishes the release and probes it, while people are served what they were before.

    Raises IntegrityError, ProbeFailed, and what the target's steps raise.
    """
    require_admitted(evaluation, adapter, base, override)
    delivery = Delivery(
        release=release_id,
        line=line,
        adapter=str(archive.keep(release_id, adapter, evaluation.adapter_hash)),
        adapter_hash=evaluation.adapter_hash,
        base=base,
    )
    with journal.taking(release_id, line, "preflight"):
        target.preflight(delivery)
    with journal.taking(release_id, line, "publish") as facts:
        location = facts["location"] = target.publish(delivery)
    with journal.taking(release_id, line, "probe") as facts:
        figures = dict(target.probe(delivery, references))
        facts |= {name: f"{figure:.6g}" for name, figure in figures.items()}
    return Proven(delivery=delivery, location=location, figures=figures)


def switch(
    target: Target,
    delivery: Delivery,
    traffic: Traffic,
    before: Traffic,
    *,
    journal: StoreJournal,
) -> None:
    """Lets the traffic go to a proven release and looks again that it does.

    Raises ProbeFailed where it does not, and what the target raises, after the traffic goes as
    `before`.
    """
    release, line = delivery.release, delivery.line
    try:
        with journal.taking(release, line, "activate"):
            target.activate(traffic, line)
            if target.active(line) != traffic:
                raise ProbeFailed(f"{target.name} does not serve {release} after the switch.")
    except BaseException:
        with journal.taking(release, line, "restore"):
            target.activate(before, line)
        raise


def told(
    target: Target, delivery: Delivery, traffic: Traffic, *, tell: Callable[[str], None]
) -> None:
    """A dry run of the same on a target that only tells; says where it can see no further."""
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("preflight", lambda: target.preflight(delivery)),
        ("publish", lambda: target.publish(delivery)),
        ("probe", lambda: tell("ask it a batch of the evaluation, and compare the answers")),
        ("activate", lambda: target.activate(traffic, delivery.line)),
    )
    for name, step in steps:
        tell(f"{name}:")
        try:
            step()
        except BhavanaError as fault:
            tell(f"this is as far as can be seen: {fault}")
            return
