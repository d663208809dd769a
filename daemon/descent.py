"""Where a candidate comes from and what it is measured by: base, parent, incumbent.

And whether what it came from learned from anything that nobody may learn from any more.
"""

from __future__ import annotations

from daemon.wiring import Parts
from store import cycles, taints
from store.errors import Halted, NotFound, Rejected
from store.privacy import erased_among
from store.records import MAIN, Cycle, Dataset, Evaluation, Release
from trainer.adapter import Parent, require_alike
from trainer.base import Base, locate


def base_of(parts: Parts) -> Base:
    """The base that the configuration names."""
    return locate(parts.settings.trainer.base)


def begins_with(parts: Parts, line: str) -> str | None:
    """The release, by id, that a cycle of this line begins with now; None: the untouched base."""
    settings = parts.settings.lines.get(line)
    if settings is None or not settings.parent:
        return None
    if settings.parent not in parts.settings.line_names:
        return settings.parent
    release = cycles.current_release(parts.store, parts.target.name, settings.parent)
    if release is None:
        return None
    if settings.parent == line:
        generations = len(list(cycles.lineage(parts.store, release.id)))
        if generations >= settings.rebase_every or not_to_be_learned(parts, release.id):
            return None
    return release.id


def parent_of(parts: Parts, cycle: Cycle) -> Parent | None:
    """What the cycle's training begins with; None: the untouched base.

    Raises Rejected where that release is not known, or belongs to another base or another recipe.
    """
    if cycle.parent is None:
        return None
    release = cycles.by_id(parts.store, Release, cycle.parent)
    if release is None:
        raise NotFound(
            f"There is no release {cycle.parent}, which lines.{cycle.line}.parent names."
        )
    _require_our_base(parts, release)
    folder = parts.archive.adapter(release.id)
    parent = Parent(release=release.id, adapter=str(folder), adapter_hash=release.adapter_hash)
    require_alike(parts.settings.trainer.recipe, parent)
    return parent


def incumbent_of(parts: Parts, line: str = MAIN) -> Release | None:
    """The release in service on a line. Raises Rejected when it belongs to another base."""
    release = cycles.current_release(parts.store, parts.target.name, line)
    if release is not None:
        _require_our_base(parts, release)
    return release


def rival_of(parts: Parts, cycle: Cycle) -> Release | None:
    """What the cycle's candidate is compared with besides the base: its own line's incumbent, or,
    while the line has none, the parent. Raises Rejected.
    """
    incumbent = incumbent_of(parts, cycle.line)
    if incumbent is not None or cycle.parent is None:
        return incumbent
    return cycles.by_id(parts.store, Release, cycle.parent)


def _require_our_base(parts: Parts, release: Release) -> None:
    base = base_of(parts)
    if release.base_hash == base.hash:
        return
    if release.base == base.name:
        raise Rejected(
            f"{base.name} is no longer what {release.id} was trained on: its bytes are "
            f"{base.hash[:12]} now and were {release.base_hash[:12]}.",
            hint="Put the old ones back (of a hub id, name the commit: org/name@commit), or "
            "give the new base a data_dir of its own.",
        )
    raise Rejected(
        f"{release.id} belongs to the base {release.base}, not to {parts.settings.trainer.base}.",
        hint="Set trainer.base back, or give the new base a data_dir of its own.",
    )


def require_compared_with(parts: Parts, cycle: Cycle, evaluation: Evaluation) -> str | None:
    """What serves on the cycle's line, by id. Raises Halted where the evaluation's candidate was
    not compared with it: the verdict is void.
    """
    rival, incumbent = rival_of(parts, cycle), incumbent_of(parts, cycle.line)
    serves = None if incumbent is None else incumbent.id
    if (None if rival is None else rival.id) != evaluation.incumbent:
        raise Halted(
            f"{serves or 'the base'} serves now, but the candidate "
            f"was compared with {evaluation.incumbent or 'the base'}; the verdict is void."
        )
    return serves


def require_unerased(parts: Parts, dataset: Dataset, parent: str | None = None) -> None:
    """Raises Halted when something was erased that the candidate or an ancestor learned from."""
    if erased_among(parts.store, dataset.members):
        raise Halted(
            f"Something in {dataset.id} was erased while it was learned from.",
            hint="The next cycle learns without it.",
        )
    if (taught := not_to_be_learned(parts, parent)) is not None:
        raise Halted(
            f"The parent {parent} learned from {taught}.",
            hint="Turn a cycle of the parent's line first, which learns without it.",
        )


def not_to_be_learned(parts: Parts, release_id: str | None) -> str | None:
    """What this release or an ancestor learned from and should not have: a dataset that has lost
    something since, or the cause of a taint. None, where nothing is known against it.
    """
    marked = taints.every(parts.store)
    for release in cycles.lineage(parts.store, release_id):
        taught = cycles.of_cycle(parts.store, Dataset, release.cycle_id)
        if taught is not None and erased_among(parts.store, taught.members):
            return f"{taught.id}, of which something was erased since"
        for taint in marked.get(release.id, ()):
            return f"what {taint.of} is about, {taint.cause}"
    return None
