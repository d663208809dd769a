"""What the judge costs: cache, budget, metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from daemon import metrics
from daemon.api import make_app
from daemon.report import status_text
from daemon.settings import Settings
from daemon.wiring import judge_costs
from scorers import ledger
from scorers.judge import Judge
from store.errors import Misconfigured
from store.events import Store
from store.records import HARMS
from tests import canaries
from tests.scorers.judge.asking import (
    CRUEL,
    KIND,
    QUESTION,
    MakeExperience,
    MakePanel,
    by_dimension,
)
from tests.scorers.judge.stand_in import StandIn


def test_what_was_answered_is_not_asked_again(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn
) -> None:
    """By another judge with the same folder, and for another id with the same words, too."""
    first = judge().score([experience(QUESTION, CRUEL, name="a")])
    assert judge().score([experience(QUESTION, CRUEL, name="b")]) == first
    assert len(stand_in.requests) == 2
    judge(temperature=0.9).score([experience(QUESTION, CRUEL)])
    assert len(stand_in.requests) == 4


def test_no_words_lie_in_the_cache(
    judge: Callable[..., Judge], experience: MakeExperience, tmp_path: Path
) -> None:
    """What erasure does not reach holds nothing to erase, nor can be searched for a text."""
    one = judge()
    one.score([experience(canaries.SENTENCE, f"{canaries.SENTENCE} You are stupid.")])
    one.close()
    files = list((tmp_path / "cache").iterdir())
    held = b"".join(path.read_bytes() for path in files)
    assert canaries.WORD.encode() not in held
    assert b"stupid" not in held
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


def test_a_budget_that_is_used_up_makes_the_judge_abstain(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn
) -> None:
    """Not one request more; what was answered before is still known; tomorrow is another day."""
    one = judge(requests_per_day=3, concurrency=1)
    items = [experience(QUESTION, f"{CRUEL} {n}", name=f"e-{n}") for n in range(3)]
    found = [by_dimension(findings) for findings in one.score(items)]
    assert len(stand_in.requests) == 3
    assert found[1]["harshness"].value is not None
    assert "budget" in found[1]["karuna"].reason
    again = [by_dimension(findings) for findings in judge(requests_per_day=6).score(items)]
    assert again[2]["karuna"].value is not None
    assert len(stand_in.requests) == 6


def test_a_budget_in_tokens_ends_with_the_call_that_reaches_it(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn
) -> None:
    """120 tokens a call: the third is not begun when 240 are allowed."""
    [found] = judge(tokens_per_day=240, concurrency=1, dimensions=HARMS).score(
        [experience(QUESTION, CRUEL)]
    )
    assert len(stand_in.requests) == 2
    assert [by_dimension(found)[name].value is None for name in HARMS] == [False, False, True, True]


def test_not_more_at_once_than_allowed(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn
) -> None:
    """Whatever the batch."""
    items = [experience(QUESTION, f"{KIND} {n}", name=f"e-{n}") for n in range(10)]
    judge(concurrency=3).score(items)
    assert stand_in.most_at_once <= 3


def test_metrics_tell_what_it_cost(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn, tmp_path: Path
) -> None:
    """By result, with tokens and seconds, read from the ledger by a process that asked nothing."""
    stand_in.fault = lambda number, _: {1: "busy", 2: "broken"}.get(number)
    judge().score([experience(QUESTION, CRUEL)])
    judge().score([experience(QUESTION, CRUEL)])
    said = metrics.shown(ledger.costs(tmp_path / "cache")).decode()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(said)
        for sample in family.samples
    }
    results = {
        name[1]: n for name, n in samples.items() if name[0] == "bhavana_judge_requests_total"
    }
    assert results == {
        "answered": 2,
        "busy": 1,
        "failed": 1,
        "cached": 2,
        "refused": 0,
        "timed_out": 0,
        "over_budget": 0,
    }
    assert samples[("bhavana_judge_tokens_total", "prompt")] == 200
    assert samples[("bhavana_judge_request_seconds_total",)] > 0
    assert samples[("bhavana_judge_today_requests",)] == 4
    assert b"bhavana_judge" not in metrics.shown(ledger.costs(tmp_path / "nowhere"))


def test_the_daemon_tells_what_it_cost(
    store: Store,
    panel: MakePanel,
    judge: Callable[..., Judge],
    experience: MakeExperience,
    tmp_path: Path,
) -> None:
    """At its /metrics and in `bhavana status`, beside the budget."""
    settings = Settings(data_dir=str(tmp_path), panel=panel(requests_per_day=1_000))
    judge().score([experience(QUESTION, CRUEL)])
    app = make_app(store, lambda: True, costs=lambda: judge_costs(settings))
    with TestClient(app) as client:
        said = client.get("/metrics").text
    assert 'bhavana_judge_requests_total{result="answered"} 2.0' in said
    assert "bhavana_store_position" in said
    told = "judge        today 2 requests of 1000, 240 tokens of any number"
    assert told in status_text(store, settings).splitlines()
    assert "judge " not in status_text(store, Settings(data_dir=str(tmp_path)))


def test_without_the_endpoints_word_tokens_are_estimated(
    judge: Callable[..., Judge], experience: MakeExperience, stand_in: StandIn, tmp_path: Path
) -> None:
    """A budget in tokens ends also where nobody says how many there were."""
    stand_in.tells_usage = False
    one = judge(tokens_per_day=1, concurrency=1)
    [found] = one.score([experience(QUESTION, CRUEL)])
    assert len(stand_in.requests) == 1
    assert 200 < ledger.costs(tmp_path / "cache").today.tokens < 2_000
    assert "budget" in by_dimension(found)["karuna"].reason


def test_a_broken_cache_says_what_to_do(judge: Callable[..., Judge], tmp_path: Path) -> None:
    """It may always be deleted."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ledger.FILE).write_bytes(b"no database at all " * 100)
    with pytest.raises(Misconfigured, match="Delete it"):
        judge()
    assert ledger.costs(tmp_path / "cache") == ledger.Costs()
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match=r"panel\.judge\.cache"):
        judge(cache=str(tmp_path / "file" / "cache"))


def test_the_folder_is_systemds_else_the_users(tmp_path: Path) -> None:
    """As for the data."""
    assert ledger.folder("", {"CACHE_DIRECTORY": "/var/cache/b:/x"}) == Path("/var/cache/b")
    assert ledger.folder("", {"XDG_CACHE_HOME": "/c"}) == Path("/c/bhavana")
    assert ledger.folder(str(tmp_path), {"CACHE_DIRECTORY": "/x"}) == tmp_path


def test_two_ledgers_agree(tmp_path: Path) -> None:
    """Whoever keeps first is right, the budget is shared, and so is the secret."""
    with ledger.Ledger(tmp_path) as one, ledger.Ledger(tmp_path) as other:
        assert one.secret == other.secret
        key = one.key("a", "b")
        assert key == other.key("a", "b") != one.key("ab", "")
        assert one.keep(key, b"1") == other.keep(key, b"2") == b"1"
        begun: list[bool] = []

        def begin(book: ledger.Ledger) -> None:
            begun.extend(book.begin(25, 0) for _ in range(30))

        threads = [threading.Thread(target=begin, args=(book,)) for book in (one, other, one)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(begun) == 25
