"""The self-test: deliberately broken panels are caught, and who fails it assesses nothing."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from scorers import antijudge, rules, selftest
from scorers.fitted import Fitted
from scorers.panel import combine, panel_id
from scorers.scorer import Scorer
from scorers.selftest import Verdict, run, vouch
from scorers.settings import WEIGHTS, PanelSettings
from store.errors import ChildFailed, Unavailable, Untrusted
from store.records import PRINCIPLES, Assessment, Experience, Finding

SETTINGS = PanelSettings()
Panel = Callable[[Sequence[Experience]], list[Assessment]]


def panel(scorers: Sequence[Scorer], combined: Callable[..., Assessment] = combine) -> Panel:
    """A panel of these scorers, with this way to combine."""

    def assess(experiences: Sequence[Experience]) -> list[Assessment]:
        by_scorer = [scorer.score(experiences) for scorer in scorers]
        return [
            combined(experience, [one for some in found for one in some], SETTINGS, "panel")
            for experience, *found in zip(experiences, *by_scorer, strict=True)
        ]

    return assess


def test_the_shipped_panel_passes(scorers: dict[str, Scorer]) -> None:
    """Every expectation of every case."""
    verdict = run(panel(list(scorers.values())), "shipped")
    assert verdict.failures == ()
    assert verdict.cases >= 200


# --- broken on purpose --------------------------------------------------------------------


class Says:
    """A scorer that says what a function does to another one's findings."""

    def __init__(self, inner: Scorer, change: Callable[[Finding], Finding]) -> None:
        self.name, self.version = inner.name, inner.version
        self._inner, self._change = inner, change

    def score(self, experiences: Sequence[Experience]) -> list[tuple[Finding, ...]]:
        """The inner scorer's findings, changed."""
        return [tuple(map(self._change, found)) for found in self._inner.score(experiences)]


def with_other(scorers: dict[str, Scorer], name: str, other: Scorer) -> Panel:
    """The shipped panel with one scorer exchanged."""
    return panel([other if scorer.name == name else scorer for scorer in scorers.values()])


def test_rules_without_word_boundaries_are_caught(
    scorers: dict[str, Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the seeds, where "empathetic" was harsh."""

    def unbound(rule: rules.Rule) -> rules.Rule:
        return rule._replace(pattern=re.compile(rule.alternatives, re.IGNORECASE))

    for group, those in rules.RULES.items():
        monkeypatch.setitem(rules.RULES, group, tuple(map(unbound, those)))
    monkeypatch.setattr(antijudge, "OPENS", re.compile(f"(?={rules.ANY})"))
    assert not run(panel(list(scorers.values())), "unbound").passed


def test_the_mean_in_place_of_the_maximum_is_caught(scorers: dict[str, Scorer]) -> None:
    """As in the seeds, where a sales pitch to the desperate was excellent."""

    def by_mean(*given: object) -> Assessment:
        found = combine(*given)  # type: ignore[arg-type]
        mean = sum(found.harm.values()) / 4 if found.harm else None
        return msgspec.structs.replace(found, actual_harm=mean)

    assert not run(panel(list(scorers.values()), by_mean), "mean").passed


@pytest.mark.parametrize("value", [5.0, 10.0])
def test_a_constant_is_caught(scorers: dict[str, Scorer], value: float) -> None:
    """A judge that always says five, or ten."""

    def same(finding: Finding) -> Finding:
        return msgspec.structs.replace(finding, value=value, reason="")

    verdict = run(with_other(scorers, "principles", Says(scorers["principles"], same)), "constant")
    assert {one.expected for one in verdict.failures} >= {"a difference"}


def test_a_scorer_that_says_nothing_is_caught(scorers: dict[str, Scorer]) -> None:
    """A judge that answers prose abstains on everything, beside heads that do speak."""

    class Prose:
        name, version = "judge", "prose"

        def score(self, experiences: Sequence[Experience]) -> list[tuple[Finding, ...]]:
            """Nothing that could be parsed."""
            return [
                tuple(
                    Finding(
                        scorer="judge",
                        version="prose",
                        dimension=name,
                        value=None,
                        reason="The answer is no JSON.",
                    )
                    for name in PRINCIPLES
                )
                for _ in experiences
            ]

    verdict = run(panel([*scorers.values(), Prose()]), "prose")
    assert "judge" in {one.case for one in verdict.failures}


def test_a_crash_is_caught(scorers: dict[str, Scorer]) -> None:
    """Whatever a scorer throws."""

    def crash(_: Finding) -> Finding:
        raise ZeroDivisionError("kindness / 0")

    [failure] = run(with_other(scorers, "harm", Says(scorers["harm"], crash)), "crash").failures
    assert "ZeroDivisionError: kindness / 0" in failure.said


def test_heads_that_were_cut_to_zero_are_caught(scorers: dict[str, Scorer]) -> None:
    """Weights that load, and say the same of everything."""
    whole = scorers["harm"]
    assert isinstance(whole, Fitted)
    broken = Fitted("harm", SETTINGS)
    broken._heads = broken._heads._replace(  # broken on purpose
        coefficients=0 * broken._heads.coefficients,
        word_coefficients=0 * broken._heads.word_coefficients,
    )
    assert not run(with_other(scorers, "harm", broken), "zero").passed


# --- vouching -----------------------------------------------------------------------------


def test_truncated_weights_are_caught_and_told(tmp_path: Path) -> None:
    """By the process that the daemon starts, with the file's name."""
    for path in WEIGHTS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "harm.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1_000])
    settings = PanelSettings(weights_dir=str(tmp_path))
    with pytest.raises(Untrusted, match=r"harm\.safetensors"):
        vouch(settings, tmp_path / "verdicts")


def test_a_failed_panel_names_its_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of them, how many, and the next step. It is run again: what failed may pass."""
    failure = selftest.Failure(case="gold-001", expected="passes", said="weighted 2.0")
    verdict = Verdict(panel=panel_id(SETTINGS), cases=1, cases_sha256="", failures=(failure,) * 7)
    monkeypatch.setattr(selftest, "ask", lambda *_, **__: verdict)
    with pytest.raises(Untrusted, match="7 expectations") as told:
        vouch(SETTINGS, tmp_path)
    assert "gold-001: passes was expected" in str(told.value)
    assert "python -m scorers.selftest" in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_no_verdict_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A self-test that dies has not passed."""
    monkeypatch.setattr(selftest.sys, "executable", "/bin/false")
    with pytest.raises(ChildFailed, match="code 1 and no answer"):
        vouch(SETTINGS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_stopping_does_not_wait_for_the_self_test(tmp_path: Path) -> None:
    """The child is ended, and nothing is kept."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(Unavailable, match="Stopping"):
        vouch(SETTINGS, tmp_path, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_broken_verdict_file_is_run_again(tmp_path: Path, vouched: Path) -> None:
    """Half a file, as a full disk leaves it."""
    [kept] = (vouched / "bhavana" / "selftest").glob("*.json")
    (tmp_path / kept.name).write_bytes(kept.read_bytes()[:20])
    assert vouch(SETTINGS, tmp_path).passed
    assert (tmp_path / kept.name).read_bytes() == kept.read_bytes()
