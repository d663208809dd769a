"""The report as one HTML page: no request, no script; whatever models said is text in it."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from store.records import Evaluation, Outcome, Verdict
from trainer.job import write_atomically
from trainer.report import pictures, words
from trainer.report.facts import Facts
from trainer.report.transcripts import worst

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

NAME = "report.html"
HERE = Path(__file__).parent
MARKS = {"pass": "✓", "fail": "✕", "inconclusive": "?", "error": "!"}
"""Beside the colour, which not everybody sees."""


@cache
def policy() -> str:
    """The page's Content-Security-Policy: nothing but its own style, by its hash."""
    of_style = base64.b64encode(hashlib.sha256(_css().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{of_style}'; base-uri 'none'; form-action 'none'"


def page(facts: Facts) -> str:
    """The page of an evaluation; what its folder no longer holds is said to be gone."""
    from markupsafe import Markup

    evaluation = facts.evaluation
    verdicts = evaluation.verdicts
    folder = Path(evaluation.path)
    return _template().render(
        facts=facts,
        e=evaluation,
        word=facts.release and facts.release.overridden,
        css=Markup(_css()),  # noqa: S704  # our own file
        policy=Markup(policy()),  # noqa: S704  # made here
        marks=MARKS,
        baselines=_baselines(verdicts),
        baseline=_baseline,
        forests=pictures.forests(verdicts),
        sameness=any(v.sameness for v in verdicts),
        unsettled=[v for v in verdicts if v.outcome is Outcome.INCONCLUSIVE],
        trends=_trends(facts) if len(facts.history) > 1 else [],
        numbers=[(one, _aligned(one, verdicts)) for one in reversed(facts.history)],
        gates=[(v, worst(folder, v)) for v in verdicts],
        hashes=_hashes(facts),
        visible=words.visible,
        excerpt=words.excerpt,
        value=words.value,
        title=words.title,
        sentence=words.sentence,
        power=words.power,
        floor=words.floor,
        settling=words.settling,
    )


def write(facts: Facts) -> Path:
    """Writes the page into the evaluation's folder, over an older one."""
    path = Path(facts.evaluation.path) / NAME
    write_atomically(path, page(facts).encode())
    return path


@cache
def _css() -> str:
    return (HERE / "page.css").read_text()


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html")


def _baselines(verdicts: tuple[Verdict, ...]) -> list[str]:
    return list(dict.fromkeys(c.baseline for v in verdicts for c in v.comparisons))


def _baseline(verdict: Verdict, role: str) -> float | None:
    return next((c.baseline_value for c in verdict.comparisons if c.baseline == role), None)


def _aligned(one: Evaluation, verdicts: tuple[Verdict, ...]) -> list[Verdict | None]:
    by_gate = {v.gate: v for v in one.verdicts}
    return [by_gate.get(v.gate) for v in verdicts]


def _trends(facts: Facts) -> list[Markup]:
    drawn = []
    for verdict in facts.evaluation.verdicts:
        history = [
            (v, one.id in facts.released)
            for one in facts.history
            for v in one.verdicts
            if v.gate == verdict.gate
        ]
        if sum(v.candidate is not None for v, _ in history) > 1:
            drawn.append(pictures.trend(history))
    return drawn


def _hashes(facts: Facts) -> list[tuple[str, str]]:
    e = facts.evaluation
    suites = {v.gate: v.suite_hash for v in e.verdicts}
    return [
        ("adapter", e.adapter_hash),
        ("base", e.base_hash),
        ("gates: suites, rules, code, sampling", e.gates_hash),
        *((f"suite of {words.title(gate)}", hash) for gate, hash in suites.items()),
        ("compared with", e.incumbent or "the untouched base"),
        ("training run", e.run_id),
        ("cycle", e.cycle_id),
    ]
