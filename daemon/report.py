"""What happened, in words and in numbers: for `bhavana status` and the demo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import to_builtins

from daemon.oversight import health
from daemon.service import running_daemon
from daemon.settings import Settings
from daemon.training import under_way
from daemon.wiring import at_work, judge_costs
from scorers.panel import panel_id
from store import canaries, cycles, experiences, reviews, schedule, taints
from store.events import Store
from store.records import MAIN, Comparison, Cycle, Dataset, Evaluation, Verdict, now

_BUDGETS = ("requests", "tokens")


def status(store: Store, settings: Settings) -> dict[str, Any]:
    """Everything that a stranger wants to know, as plain data."""
    daemon = running_daemon(settings.data)
    last = cycles.last(store)
    release = cycles.current_release(store, settings.trainer.target)
    planned = schedule.schedule(store)
    settings = at_work(settings, store)
    labels = experiences.count_by_label(store, panel_id(settings.panel))
    training = under_way(settings.data)
    return {
        "daemon": None if daemon is None else to_builtins(daemon),
        "data_dir": str(settings.data),
        "store": {"url": store.url, "position": store.position()},
        "experiences": experiences.count_by_source(store),
        "feedback": experiences.count_feedback(store),
        "reviews": dict(reviews.count(store)),
        "panel": to_builtins(health(store, settings.panel, settings.oversight)),
        "labels": {"abstained" if k is None else k.value: n for k, n in labels.items()},
        "last_cycle": None if last is None else _cycle(store, last),
        "training": None if training is None else to_builtins(training),
        "current_release": None if release is None else to_builtins(release),
        "lines": {line: _line(store, settings, line) for line in settings.line_names},
        "judge_today": _judge_today(settings),
        "next_run_at": None if planned is None else planned.next_run_at.isoformat(),
    }


def _line(store: Store, settings: Settings, line: str) -> dict[str, Any]:
    release = cycles.current_release(store, settings.trainer.target, line)
    last = cycles.last(store, line)
    planned = schedule.schedule(store, schedule.of_line(line))
    canary = canaries.open_on(store, settings.trainer.target, line)
    marked = () if release is None else taints.every(store).get(release.id, ())
    return {
        "release": None if release is None else release.id,
        "canary": None if canary is None else to_builtins(canary),
        "taints": [to_builtins(taint) for taint in marked],
        "parent": None if release is None else release.parent,
        "last_cycle": None if last is None else {"id": last.id, "state": last.state},
        "next_run_at": None if planned is None else planned.next_run_at.isoformat(),
    }


def _judge_today(settings: Settings) -> dict[str, Any] | None:
    if "judge" not in settings.panel.scorers:
        return None
    judge = settings.panel.judge
    budget = {"requests_per_day": judge.requests_per_day, "tokens_per_day": judge.tokens_per_day}
    return judge_costs(settings).today._asdict() | budget


def _cycle(store: Store, cycle: Cycle) -> dict[str, Any]:
    dataset = cycles.of_cycle(store, Dataset, cycle.id)
    evaluation = cycles.of_cycle(store, Evaluation, cycle.id)
    return {
        "id": cycle.id,
        "line": cycle.line,
        "state": cycle.state,
        "detail": cycle.detail,
        "started_at": cycle.started_at.isoformat(),
        "finished_at": cycle.finished_at and cycle.finished_at.isoformat(),
        "dataset": None if dataset is None else {"id": dataset.id, "rows": dataset.counts},
        "gates": [] if evaluation is None else [to_builtins(v) for v in evaluation.verdicts],
    }


def status_text(store: Store, settings: Settings) -> str:
    """The same as lines for people."""
    s = status(store, settings)
    daemon, last, release = s["daemon"], s["last_cycle"], s["current_release"]

    def counts(of: dict[str, int]) -> str:
        return ", ".join(f"{n} {name}" for name, n in of.items()) or "none"

    at = "" if daemon is None else f"{daemon['url']} (pid {daemon['pid']})"
    total = sum(s["experiences"].values())
    lines = [
        f"daemon       {'not running' if daemon is None else at}",
        f"data         {s['data_dir']}",
        f"experiences  {total} ({counts(s['experiences'])}), feedback {s['feedback']}",
        f"labels       {counts(s['labels'])}",
    ]
    lines.append(f"reviews      {counts({k: n for k, n in s['reviews'].items() if n})}")
    lines += [f"alarm        {alarm}" for alarm in s["panel"]["alarms"]]
    if (judge := s["judge_today"]) is not None:
        used = (f"{judge[n]:,} {n} of {judge[f'{n}_per_day'] or 'any number'}" for n in _BUDGETS)
        lines.append(f"judge        today {', '.join(used)}")
    if last is None:
        lines.append("last cycle   none yet; `bhavana cycle` turns one")
    else:
        of = "" if last["line"] == MAIN else f" of the line {last['line']}"
        lines.append(f"last cycle   {last['id']}{of}: {last['state']} ({last['detail']})")
        if last["dataset"] is not None:
            lines.append(f"dataset      {last['dataset']['id']}: {counts(last['dataset']['rows'])}")
    if (training := under_way(settings.data)) is not None:
        lines.append(f"training     {training.job}: {training.line(now())}")
    serving = "the untouched base" if release is None else release["id"]
    lines.append(f"serving      {serving} at {settings.trainer.target}")
    if release is not None and release["overridden"] is not None:
        word = release["overridden"]
        lines.append(f"overridden   by {word['actor']}: {word['reason']}")
        lines.append(f"             {', '.join(word['verdicts'])} held it back")
    lines += _standing(s["lines"])
    lines.append(f"next cycle   {s['next_run_at'] or 'when the daemon runs'}")
    for name, line in s["lines"].items():
        if name != MAIN:
            of = f" (from {line['parent']})" if line["parent"] else ""
            due = line["next_run_at"] or "when the daemon runs"
            lines.append(f"line {name:<8}{line['release'] or 'the untouched base'}{of}, next {due}")
    evaluation = _last_evaluation(store) or serving_evaluation(store, settings.trainer.target)
    if evaluation is not None:
        lines += ["", f"gates of {evaluation.cycle_id}", *table(evaluation.verdicts)]
    return "\n".join(lines)


def _standing(lines: Mapping[str, Any]) -> Iterator[str]:
    """What is on trial, and what is tainted, on each line."""
    for name, line in lines.items():
        of = "" if name == MAIN else f" on {name}"
        if (canary := line["canary"]) is not None:
            share = f"{canary['share']:.0%} of the traffic"
            stands = f"{canary['state']}, {share}, until {canary['until']}"
            yield f"on trial     {canary['release']}{of}: {stands}"
            if canary["state"] == "asked":
                yield f"             {canary['detail']}: `bhavana canary show`, accept or rollback"
        for taint in line["taints"]:
            yield f"tainted      {taint['release']}{of}: {taint['cause']} ({taint['of']})"


def _last_evaluation(store: Store) -> Evaluation | None:
    last = cycles.last(store)
    return None if last is None else cycles.of_cycle(store, Evaluation, last.id)


def serving_evaluation(store: Store, target: str) -> Evaluation | None:
    """The evaluation that let the current release into service; None for the untouched base."""
    release = cycles.current_release(store, target)
    return None if release is None else cycles.of_cycle(store, Evaluation, release.cycle_id)


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """One line a gate: what it measured on base (and incumbent) and candidate, and its verdict."""
    baselines: list[str] = []
    for comparison in (c for v in verdicts for c in v.comparisons):
        if comparison.baseline not in baselines:
            baselines.append(comparison.baseline)
    head = ["gate", "n", *baselines, "candidate", *(f"vs {b} [95 %]" for b in baselines), "verdict"]
    rows = [head] + [_row(v, baselines) for v in verdicts]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _row(verdict: Verdict, baselines: list[str]) -> list[str]:
    by_name = {c.baseline: c for c in verdict.comparisons}
    found = [by_name.get(name) for name in baselines]  # type: ignore[call-overload]
    return [
        verdict.gate,
        str(verdict.n),
        *(_number(verdict, None if c is None else c.baseline_value) for c in found),
        _number(verdict, verdict.candidate),
        *(_difference(verdict, c) for c in found),
        verdict.outcome.value
        if verdict.outcome == "pass"
        else f"{verdict.outcome.value}: {verdict.reason}",
    ]


def _number(verdict: Verdict, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if verdict.unit == "share" else f"{value:.3f}"


def _difference(verdict: Verdict, c: Comparison | None) -> str:
    if c is None:
        return "-"
    if verdict.unit == "share":
        return f"{c.difference * 100:+.1f} pt [{c.lower * 100:+.1f}, {c.upper * 100:+.1f}]"
    return f"{c.difference:+.3f} [{c.lower:+.3f}, {c.upper:+.3f}]"
