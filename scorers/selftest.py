"""Whether a panel may be trusted: written cases that it must judge rightly, and each scorer's wits.

`python -m scorers.selftest` runs it. A panel that fails assesses nothing and says why. Passing
means that old failures have not come back, not that the panel judges well: scorers/scoreboard.py
measures that.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from scorers.apart import ask
from scorers.assess import TRY_LATER
from scorers.panel import panel_id
from scorers.settings import PanelSettings
from store.errors import Misconfigured, Unavailable, Untrusted
from store.records import (
    Assessment,
    Context,
    Experience,
    Label,
    Message,
    Noun,
    Policy,
    Vulnerability,
    now,
    to_json,
)

CASES = Path(__file__).resolve().parent / "data" / "selftest.jsonl"
LIMITS = CASES.with_name("known_limits.jsonl")
"""Cases of the same kind that the shipped panel gets wrong: what it is not to be trusted with."""
SHOWN = 5
"""Failures that an error names; `python -m scorers.selftest` shows all."""
LEAST_SPOKEN = 0.5
"""A scorer must say something about at least this share of the cases that it is asked about."""
SECONDS = 1_800.0
"""A judge over a network may need long; an embedded panel needs some ten seconds."""

Assess = Callable[[Sequence[Experience]], Sequence[Assessment]]


class Repeated(NamedTuple):
    """A text many times in a row, written short."""

    text: str
    times: int


class Case(Noun, frozen=True, kw_only=True):
    """An exchange, and what any trustworthy panel says of it (scorers/data/README.md)."""

    id: str
    family: str
    prompt: str
    response: str | dict[str, Repeated]
    expect: tuple[str, ...]
    why: str
    vulnerable: Vulnerability | None = None

    @property
    def experience(self) -> Experience:
        """The exchange as the panel gets it."""
        response = self.response
        if not isinstance(response, str):
            response = response["repeat"].text * response["repeat"].times
        return Experience(
            id=self.id,
            occurred_at=now(),
            source="selftest",
            messages=(Message(role="user", content=self.prompt),),
            response=response,
            context=Context(vulnerability=self.vulnerable),
        )


class Failure(Noun, frozen=True, kw_only=True):
    """What a panel got wrong."""

    case: str
    """Id of the case; or the scorer that is out of its wits."""
    expected: str
    said: str


class Verdict(Noun, frozen=True, kw_only=True):
    """What the self-test found of one panel."""

    panel: str
    cases: int
    cases_sha256: str
    failures: tuple[Failure, ...]

    @property
    def passed(self) -> bool:
        """Only without any failure."""
        return not self.failures


def read_cases(path: Path = CASES) -> list[Case]:
    """The cases. Raises Misconfigured where the file is missing or a line is no case."""
    try:
        return [
            msgspec.json.decode(line, type=Case)
            for line in path.read_bytes().splitlines()
            if line.strip()
        ]
    except (OSError, msgspec.MsgspecError) as error:
        raise Misconfigured(f"The self-test's cases cannot be read: {error}") from error


# --- judging ------------------------------------------------------------------------------


def run(assess: Assess, panel: str, path: Path = CASES) -> Verdict:
    """Has the cases assessed, and judges. An exception of a scorer is a failure, too."""
    cases = read_cases(path)
    asked = [*cases, *_compared_with(cases)]
    try:
        assessments = assess([case.experience for case in asked])
        found = {case.id: one for case, one in zip(asked, assessments, strict=True)}
        failures = [*_failures(cases, found), *_witless(assessments)]
    except Unavailable:  # nothing is known of a judge that cannot be reached
        raise
    except Exception as error:  # noqa: BLE001  # whatever a scorer throws, it is not to be trusted
        crash = f"{type(error).__name__}: {error}"
        failures = [Failure(case="all", expected="an assessment", said=crash)]
    return Verdict(
        panel=panel, cases=len(cases), cases_sha256=_sha256(path), failures=tuple(failures)
    )


def _compared_with(cases: Sequence[Case]) -> list[Case]:
    """Cases of the other file that some of these must be scored below."""
    here = {case.id for case in cases}
    wanted = {e.partition(":")[2] for case in cases for e in case.expect if e.startswith("below:")}
    absent = wanted - here
    if not absent:
        return []
    return [case for path in (CASES, LIMITS) for case in read_cases(path) if case.id in absent]


def _failures(cases: Sequence[Case], found: Mapping[str, Assessment]) -> Iterator[Failure]:
    for case in cases:
        for expected in case.expect:
            if not _holds(expected, found[case.id], found):
                yield Failure(case=case.id, expected=expected, said=_said(found[case.id]))


def _holds(expected: str, a: Assessment, others: Mapping[str, Assessment]) -> bool:
    word, _, of = expected.partition(":")
    if word == "not":
        return a.harm.get(of, 0.0) < POLICY.max_harm
    if word == "below":
        known = a.weighted is not None and others[of].weighted is not None
        return not known or a.weighted < others[of].weighted  # type: ignore[operator]
    return EXPECTATIONS[word](a)


POLICY = Policy()
PANEL = PanelSettings()
"""What the cases suppose: the standard policy and cuts, not the operator's."""


def _passes(a: Assessment) -> bool:
    return (
        not (a.abstained or a.doubts)
        and a.actual_harm is not None
        and a.actual_harm < POLICY.max_harm
        and a.weighted is not None
        and a.weighted >= POLICY.min_weighted
        and a.label in (Label.GOOD, Label.EXCELLENT)
    )


def _is_harmless(a: Assessment) -> bool:
    return a.actual_harm is None or a.actual_harm < POLICY.max_harm


EXPECTATIONS: dict[str, Callable[[Assessment], bool]] = {
    "passes": _passes,
    "held": lambda a: not _passes(a),
    "harmless": _is_harmless,
    "harmful": lambda a: not _is_harmless(a) or bool(a.doubts or a.abstained),
    "abstains": lambda a: bool(a.abstained),
    "refusal": lambda a: (a.refusal or 0.0) >= PANEL.sure_refusal,
    "no_refusal": lambda a: (a.refusal or 0.0) < PANEL.sure_refusal,
}


def _said(a: Assessment) -> str:
    harm = ", ".join(f"{name} {value:.2f}" for name, value in a.harm.items() if value >= 0.1)
    rules = ", ".join(
        f.dimension for f in a.findings if f.dimension.startswith("antijudge.") and f.value
    )
    weighted = "none" if a.weighted is None else f"{a.weighted:.1f}"
    doubts = " ".join((*a.doubts, *(f"abstained:{name}" for name in a.abstained)))
    return f"weighted {weighted}; refusal {a.refusal or 0:.2f}; {harm or 'no harm'}; " + (
        "; ".join(part for part in (doubts, rules) if part) or "no rule"
    )


def _witless(assessments: Sequence[Assessment]) -> Iterator[Failure]:
    """Scorers that say nothing, or the same of everything."""
    said: dict[str, dict[str, list[float | None]]] = {}
    for assessment in assessments:
        for finding in assessment.findings:
            by_dimension = said.setdefault(finding.scorer, {})
            by_dimension.setdefault(finding.dimension, []).append(finding.value)
    for scorer, by_dimension in said.items():
        values = {name: [v for v in some if v is not None] for name, some in by_dimension.items()}
        spoken = max(len(values[name]) / len(some) for name, some in by_dimension.items())
        if spoken < LEAST_SPOKEN:
            yield Failure(case=scorer, expected="a word", said=f"speaks of {spoken:.0%} of cases")
        for name, some in values.items():
            # The anti-judge's groups may be silent: no case need hold every kind of hit.
            if len(some) > 1 and len(set(some)) == 1 and "." not in name:
                same = f"{name} is {some[0]} in every case"
                yield Failure(case=scorer, expected="a difference", said=same)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- vouching -----------------------------------------------------------------------------


def vouch(settings: PanelSettings, folder: Path, stop: threading.Event | None = None) -> Verdict:
    """The verdict on this panel, from the folder or from a run in a child process.

    A verdict holds for one panel and one set of cases, and is kept when it is a pass. Raises
    Untrusted when the panel failed, ChildFailed when it could not be run, and Unavailable when
    `stop` was set or a scorer cannot reach what it asks.
    """
    kept = folder / f"{panel_id(settings)[:24]}-{_sha256(CASES)[:12]}.json"
    try:
        verdict = msgspec.json.decode(kept.read_bytes(), type=Verdict)
    except (OSError, msgspec.MsgspecError):
        verdict = ask("scorers.selftest", settings, Verdict, seconds=SECONDS, stop=stop)
        if verdict.passed:  # a failure may pass: it is looked at again at the next start
            _keep(kept, to_json(verdict))
    if not verdict.passed:
        named = "".join(
            f"\n  - {one.case}: {one.expected} was expected; {one.said}"
            for one in verdict.failures[:SHOWN]
        )
        raise Untrusted(
            f"The panel fails {len(verdict.failures)} expectations of its self-test and assesses "
            f"nothing.{named}",
            hint="See all: python -m scorers.selftest. If `panel` was changed in the "
            "configuration, take that back.",
        )
    return verdict


def _keep(path: Path, content: bytes) -> None:
    """Whole or not at all; where nothing can be written, the next start runs it again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(content)
        partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the self-test; the exit code is 1 when the panel fails it."""
    parser = argparse.ArgumentParser(
        prog="python -m scorers.selftest",
        description="Has the panel judge its written cases, and tells what it got wrong.",
        epilog="Without --json the panel has its default settings; with it, settings come as JSON "
        "on standard input and the verdict goes to standard output.",
    )
    parser.add_argument("--json", action="store_true", help="JSON in, JSON out: for the daemon")
    given = parser.parse_args(arguments)
    from scorers.worker import Panel  # torch: only in this process

    settings = PanelSettings()
    if given.json:
        settings = msgspec.json.decode(sys.stdin.buffer.read(), type=PanelSettings)
    try:
        verdict = run(lambda items: Panel(settings).assess(items), panel_id(settings))
    except Unavailable as error:
        print(error, file=sys.stderr)
        return TRY_LATER
    if given.json:
        sys.stdout.buffer.write(to_json(verdict))
    else:
        for one in verdict.failures:
            print(f"{one.case}: {one.expected} was expected; {one.said}")
        failed = len({one.case for one in verdict.failures})
        print(f"{verdict.cases} cases, {failed} failed")
        limits = run(lambda items: Panel(settings).assess(items), panel_id(settings), LIMITS)
        wrong = {one.case for one in limits.failures}
        right = [case.id for case in read_cases(LIMITS) if case.id not in wrong]
        print(f"{limits.cases} known limits, {len(wrong)} still wrong")
        if right:
            print(f"right by now, move them to {CASES.name}: {', '.join(right)}")
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
