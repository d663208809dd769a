"""The judge's version, and its key, which nobody sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.cli.service import _tree
from scorers import versions
from scorers.forms import version as judge_version
from scorers.panel import panel_id
from store.records import to_json
from tests.scorers.judge.asking import KEY, MakePanel


def test_the_version_is_what_can_change_the_findings(panel: MakePanel) -> None:
    """Another model is another panel; another key, budget or address is not."""
    base = panel()
    for same in (
        {"api_key": KEY},
        {"url": "http://elsewhere/v1"},
        {"timeout_seconds": 5.0},
        {"concurrency": 9},
        {"retries": 0},
        {"requests_per_day": 1},
        {"cache": "/elsewhere"},
    ):
        assert panel_id(panel(**same)) == panel_id(base), same
    for other in (
        {"model": "judge-2"},
        {"form": "reward"},
        {"dimensions": ("karuna",)},
        {"output": "plain"},
        {"samples": 3},
        {"temperature": 0.2},
        {"log_probabilities": False},
        {"most_characters": 999},
        {"extra": {"top_p": 0.5}},
        {"protocol": "ollama"},
    ):
        assert panel_id(panel(**other)) != panel_id(base), other
    assert versions(base)["judge"] == judge_version(base.judge)


def test_the_version_knows_the_rubrics(
    panel: MakePanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One word in one of them is another judge."""
    before = judge_version(panel().judge)
    monkeypatch.setattr("scorers.forms.RUBRICS", tmp_path)
    (tmp_path / "karuna.md").write_text("How kind?")
    assert judge_version(panel().judge) != before


def test_the_key_is_shown_nowhere(panel: MakePanel) -> None:
    """Not by repr, which ends up in tracebacks, and not by `bhavana config`."""
    settings = panel(api_key=KEY)
    assert KEY not in repr(settings)
    shown = to_json(_tree(settings)).decode()
    assert KEY not in shown
    assert "[secret]" in shown
