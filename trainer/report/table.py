"""The report for a terminal: what each gate says, why, and what it stands on."""

from __future__ import annotations

from collections.abc import Iterator

from store.records import Outcome, Verdict
from trainer.report import words
from trainer.report.facts import Facts


def lines(facts: Facts) -> list[str]:
    """The report below its table of gates."""
    e, release = facts.evaluation, facts.release
    told = [f"{e.id}: {facts.summary}"]
    if release is not None:
        told.append(f"release      {release.id} at {release.target}")
        if (word := release.overridden) is not None:
            told.append(
                f"overridden   by {words.visible(word.actor)}: {words.visible(word.reason)}"
            )
    told += [
        f"compared     with {e.incumbent or 'the untouched base, which was in service'}",
        f"adapter      {e.adapter_hash[:16]}   base {e.base_hash[:16]}   gates {e.gates_hash[:16]}",
    ]
    for verdict in e.verdicts:
        told += ["", f"{verdict.gate}: {verdict.outcome.value}"]
        told += [f"  {line}" for line in _of(verdict)]
    return told


def _of(v: Verdict) -> Iterator[str]:
    yield words.visible(f"{v.metric}: {v.reason}")
    if told := words.floor(v):
        yield told
    if told := words.power(v):
        yield told
    if v.outcome is Outcome.INCONCLUSIVE:
        yield words.settling(v)
    for r in v.readings:
        same = "" if r.agreement is None else f", says the same of {r.agreement:.0%}"
        worse = f"; worse than the {r.worse}" if r.worse else ""
        yield (
            f"{words.visible(r.instrument)}: base {words.value(v, r.base)}, candidate "
            f"{words.value(v, r.candidate)} (n = {r.n}){same}{worse}"
        )
    for name, of in sorted(v.slices.items()) if len(v.slices) > 1 else ():
        roles = ", ".join(f"{k} {words.value(v, x)}" for k, x in of.items() if k != "n")
        yield f"{words.visible(name)} (n = {of['n']:.0f}): {roles}"
