"""Where the candidate did worst, with what all three said: read from the evaluation's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from store.errors import IntegrityError
from store.records import Message, Outcome, Verdict
from trainer.gates import GATES
from trainer.gates.gate import Gate
from trainer.gates.sample import Sample, read_suite, suite_hash
from trainer.gates.task import Task
from trainer.jobs import Observation, Scores, observations_path, read_scores

MOST_SHOWN = 3
MOST_OF_A_FAMILY = 3
ROLES = ("base", "incumbent", "candidate")
UNSCORED = "What could not be scored"
LOST = "Where it lost most"
WEAKEST = "Nothing was lost; what it did worst"
BROKEN = "Nothing was scored; the reason stands above."
GONE = "The evaluation's folder no longer holds what the models said."
CHANGED = "The suite has changed since, so the questions are no longer known."


class Reply(Struct, frozen=True):
    """What one model did with a sample: words, or a number for each text or option."""

    role: str
    value: float | None
    answer: str | None = None
    numbers: Mapping[str, float] = {}


class Transcript(Struct, frozen=True):
    """One sample, and what each model did with it, side by side."""

    sample: Sample
    replies: tuple[Reply, ...]
    texts: Mapping[str, str] = {}
    """Those that the models read, by the names that their losses have."""

    @property
    def turns(self) -> tuple[Message, ...]:
        """What the reply follows."""
        return (*self.sample.earlier, Message(role="user", content=self.sample.prompt))


class Worst(Struct, frozen=True):
    """Transcripts of one gate, or why there are none."""

    why: str
    transcripts: tuple[Transcript, ...] = ()


def worst(folder: Path, verdict: Verdict) -> Worst:
    """The samples in which a gate's candidate did worst against base and incumbent."""
    gate = GATES.get(verdict.gate)
    if gate is None:
        return Worst("There is no such gate any more.")
    try:
        if verdict.suite_hash not in ("", suite_hash(gate.task.suite)):
            return Worst(CHANGED)
        samples = read_suite(gate.task.suite)
        scores = read_scores(folder).get(verdict.gate, {})
        seen = {role: _seen(folder, role, gate.task) for role in ROLES if role in scores}
    except IntegrityError:
        return Worst(CHANGED)
    except (OSError, msgspec.MsgspecError):
        return Worst(GONE)
    if not seen:
        return Worst(BROKEN if verdict.outcome is Outcome.ERROR else GONE)
    why, chosen = _chosen(verdict, gate, samples, scores)
    return Worst(
        why,
        tuple(_transcript(gate, s, scores, seen) for group in chosen for s in group),
    )


def _seen(folder: Path, role: str, task: Task) -> dict[str, Observation]:
    """What a role did with each sample, of several epochs the first; what cannot be read is left
    out: a loss that is no number is none in JSON either.
    """
    seen: dict[str, Observation] = {}
    for line in observations_path(folder, role, task).read_bytes().splitlines():
        with suppress(msgspec.MsgspecError):
            observation = msgspec.json.decode(line, type=Observation)
            seen.setdefault(observation.id, observation)
    return seen


def _chosen(
    verdict: Verdict, gate: Gate, samples: Sequence[Sample], scores: Scores
) -> tuple[str, list[list[Sample]]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.family if gate.by_family else sample.id, []).append(sample)
    values = {
        role: {name: _value(gate, [of.get(s.id) for s in some]) for name, some in groups.items()}
        for role, of in scores.items()
    }
    if verdict.outcome is Outcome.ERROR:
        silent = [n for n in groups if any(of[n] is None for of in values.values())]
        return UNSCORED, [groups[name][:MOST_OF_A_FAMILY] for name in silent[:MOST_SHOWN]]
    sign = 1 if gate.higher_is_better else -1
    gains: dict[str, float] = {}
    for name in groups:
        candidate = values["candidate"][name]
        others = [of[name] for role, of in values.items() if role != "candidate"]
        moved = [sign * (candidate - o) for o in others if o is not None and candidate is not None]
        gains[name] = min((-abs(m) for m in moved) if gate.sameness else moved, default=0.0)

    def standing(name: str) -> tuple[float, float]:
        own = values["candidate"][name]
        return gains[name], sign * (own or 0.0)

    order = sorted(groups, key=standing)
    lost = [name for name in order if gains[name] < 0]
    if not lost:
        order.sort(key=lambda name: standing(name)[1])
    shown = (lost or order)[:MOST_SHOWN]
    return LOST if lost else WEAKEST, [groups[name][:MOST_OF_A_FAMILY] for name in shown]


def _value(gate: Gate, values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return gate.by_family(known) if gate.by_family else known[0]


def _transcript(
    gate: Gate,
    sample: Sample,
    scores: Scores,
    seen: Mapping[str, Mapping[str, Observation]],
) -> Transcript:
    replies = []
    for role, of in seen.items():
        o = of.get(sample.id)
        replies.append(
            Reply(
                role=role,
                value=scores[role].get(sample.id),
                answer=None if o is None or o.answer is None else o.answer.response,
                numbers=_numbers(o),
            )
        )
    texts = gate.task.texts(sample) if gate.task.solver == "read" else {}
    return Transcript(sample=sample, replies=tuple(replies), texts=texts)


def _numbers(o: Observation | None) -> dict[str, float]:
    """Losses or probabilities that are numbers."""
    told = {} if o is None else o.losses or o.probabilities or {}
    return {name: value for name, value in told.items() if value is not None}
