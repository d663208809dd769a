"""Verbs on tags: tag, untag, tags."""

from __future__ import annotations

from typing import Annotated

import typer

from daemon.cli.app import AsJson, Reviewer, app, login, settings, show
from daemon.wiring import open_store
from store import tags as kept
from store.records import Tagging, new_id, now

ExperienceId = Annotated[str, typer.Argument(help="As `bhavana search` shows it.")]
TagName = Annotated[str, typer.Argument(help="One word.")]


@app.command()
def tag(
    experience_id: ExperienceId, tag: TagName, reviewer: Reviewer = None, as_json: AsJson = False
) -> None:
    """Put a tag on an experience; `bhavana search --tag` finds it."""
    _record(experience_id, tag, True, reviewer, as_json)


@app.command()
def untag(
    experience_id: ExperienceId, tag: TagName, reviewer: Reviewer = None, as_json: AsJson = False
) -> None:
    """Take a tag off an experience."""
    _record(experience_id, tag, False, reviewer, as_json)


@app.command()
def tags(as_json: AsJson = False) -> None:
    """Count how many experiences each tag is on."""
    with open_store(settings()) as store:
        found = kept.count(store)
    show(
        found,
        as_json,
        lambda: "\n".join(f"{name:24}{n:>9}" for name, n in found.items()) or "No tags yet.",
    )


def _record(experience_id: str, tag: str, on: bool, reviewer: str | None, as_json: bool) -> None:
    tagging = Tagging(
        id=new_id("tagging"),
        experience_id=experience_id,
        tag=tag,
        on=on,
        reviewer=reviewer or login(),
        tagged_at=now(),
    )
    with open_store(settings()) as store:
        appended = kept.record(store, tagging, actor="cli")
    position = None if appended is None else appended.position
    done = "was there already" if appended is None else "is on" if on else "is off"
    show(
        {"experience_id": experience_id, "tag": tag, "on": on, "position": position},
        as_json,
        lambda: f"{experience_id}: {tag} {done}.",
    )
