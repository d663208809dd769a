"""The untouched base against itself: how often the gates see a difference where there is none.

Each time its answers are drawn anew, at a temperature and with another seed, and judged against
those of the first seed, as if they were a candidate's and an incumbent's. What is read or chosen
comes out the same each time; so these gates cannot fail here, and say nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from store.records import Noun, Outcome, Verdict
from tests.trial.judging import RULES
from tests.trial.making import Workshop
from trainer.gates import GATES, tasks
from trainer.gates.gate import Rule
from trainer.job import write_record
from trainer.jobs import EvaluateJob, Observation, gates_hash, read_observations
from trainer.launch import run_job

TEMPERATURE = 0.7

Observed = Mapping[str, Sequence[Observation]]
"""By task."""


class AgainstItself(Noun, frozen=True, kw_only=True):
    """Verdicts on the base as its own candidate."""

    seeds: int
    fails: int
    """Evaluations with a failing gate."""
    by_gate: dict[str, dict[str, int]]
    """How often each gate gave each verdict."""
    reasons: tuple[str, ...]
    """Of every failure."""


def run(shop: Workshop, seeds: int) -> tuple[bool, list[str]]:
    """Whether no seed failed, and what to print; kept in base.json, too."""
    first = _observed(shop, 0)
    verdicts = [_verdicts(first, _observed(shop, seed)) for seed in range(1, seeds + 1)]
    found = told(verdicts)
    write_record(shop.folder / "base.json", found)
    lines = [
        f"{name:28}" + ", ".join(f"{outcome} {n}" for outcome, n in sorted(counts.items()))
        for name, counts in found.by_gate.items()
    ]
    lines += ["", *found.reasons, f"{found.fails} of {found.seeds} evaluations failed"]
    return found.fails == 0, lines


def told(verdicts: Sequence[Sequence[Verdict]]) -> AgainstItself:
    """Counts."""
    failed = [[v for v in of_seed if v.outcome is Outcome.FAIL] for of_seed in verdicts]
    by_gate: dict[str, Counter[str]] = {}
    for verdict in (v for of_seed in verdicts for v in of_seed):
        by_gate.setdefault(verdict.gate, Counter())[verdict.outcome.value] += 1
    return AgainstItself(
        seeds=len(verdicts),
        fails=sum(map(bool, failed)),
        by_gate={name: dict(counts) for name, counts in by_gate.items()},
        reasons=tuple(
            f"seed {seed}, {v.gate}: {v.reason}"
            for seed, of_seed in enumerate(failed, start=1)
            for v in of_seed
        ),
    )


def as_incumbent(rule: Rule) -> Rule:
    """The rule for a model that is not asked to have learned anything."""
    return replace(rule, least_gain_over_base=rule.least_gain_over_incumbent, floor=None)


def _verdicts(first: Observed, other: Observed) -> list[Verdict]:
    from trainer.evaluate import judge

    observed = {"base": first, "candidate": other}
    return [
        judge(name, gate, as_incumbent(RULES[name]), observed, is_adapted=False)
        for name, gate in GATES.items()
    ]


def _observed(shop: Workshop, seed: int) -> dict[str, list[Observation]]:
    """What the base did with this seed, by task."""
    job = EvaluateJob(
        base=shop.base,
        candidate=None,
        candidate_hash="",
        incumbent=None,
        rules={name: as_incumbent(rule) for name, rule in RULES.items()},
        cache=str(shop.cache),
    )
    job = replace(job, sampling=replace(job.sampling, temperature=TEMPERATURE, seed=seed))
    folder = shop.folder / "against-itself" / f"{seed}-{gates_hash(job.rules, job.sampling)[:12]}"
    run_job("trainer.evaluate", folder, job, stop=shop.stop, watch=shop.beats(f"seed {seed}"))
    return {task.name: read_observations(folder, "base", task) for task in tasks()}
