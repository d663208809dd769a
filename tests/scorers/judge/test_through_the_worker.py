"""The judge as the worker asks it, on a store."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from scorers import ledger
from scorers.assess import assess_pending
from scorers.endpoint import MOST_BYTES
from scorers.forms import questions
from scorers.judge import Judge
from scorers.panel import panel_id
from scorers.settings import Cascade, JudgeSettings, PanelSettings
from store import experiences as recorded
from store.errors import ChildFailed, Unavailable
from store.events import Store
from store.records import Message, now, to_json
from tests import canaries
from tests.scorers.judge.asking import CRUEL, KEY, KIND, QUESTION, ROOT, MakeExperience, MakePanel
from tests.scorers.judge.stand_in import StandIn


@pytest.fixture
def store(tmp_path: Path, experience: MakeExperience) -> Iterator[Store]:
    """A store with three batches of a judge's size, one answer cruel."""
    with Store(f"sqlite:///{tmp_path / 'bhavana.db'}") as opened:
        items = [experience(QUESTION, f"{KIND} {n}", name=f"e-{n:02}") for n in range(19)]
        recorded.record(opened, [*items, experience(QUESTION, CRUEL, name="e-19")])
        yield opened


def kept(store: Store, settings: PanelSettings) -> dict[str, int]:
    """How many assessments each experience has of this panel."""
    counts: dict[str, int] = {}
    found = recorded.assessed(store, panel_id(settings), as_of=store.position(), moment=now())
    for item in found:
        name = item.assessment.experience_id
        counts[name] = counts.get(name, 0) + 1
    return counts


def test_an_outage_loses_nothing(store: Store, panel: MakePanel, stand_in: StandIn) -> None:
    """The endpoint goes away amid the work and comes back: all are assessed, exactly once.

    What was answered before the outage is not paid for twice.
    """
    settings = panel(concurrency=2)
    stand_in.fault = lambda number, _: "reset" if number > 21 else None
    with pytest.raises(Unavailable, match="cannot be reached"):
        assess_pending(store, settings, store.position())
    before = kept(store, settings)
    assert len(before) == 8
    stand_in.fault = lambda *_: None
    already = len(stand_in.requests)
    assert assess_pending(store, settings, store.position()) == 20 - len(before)
    assert kept(store, settings) == {f"e-{n:02}": 1 for n in range(20)}
    assert len(stand_in.requests) - already == 40 - 21
    assert ledger.costs(Path(settings.judge.cache)).counters[("calls", "answered")] == 40


def test_a_worker_that_is_killed_is_followed_by_another(
    store: Store, panel: MakePanel, stand_in: StandIn
) -> None:
    """What it was told before it died is in the ledger, and the store has each once."""
    settings = panel(concurrency=1)
    stop = threading.Event()

    def then_stop(number: int, _: str) -> str | None:
        if number == 10:
            stop.set()
            return "hang"
        return None

    stand_in.fault = then_stop
    with pytest.raises(Unavailable, match="Stopping"):
        assess_pending(store, settings, store.position(), stop=stop)
    stand_in.fault = lambda *_: None
    assert assess_pending(store, settings, store.position()) == 20
    assert kept(store, settings) == {f"e-{n:02}": 1 for n in range(20)}
    assert len(stand_in.requests) == 41


def test_two_workers_share_budget_and_cache(
    store: Store, panel: MakePanel, stand_in: StandIn
) -> None:
    """At the same time, on one store: each experience once, and not one request too many."""
    settings = panel(requests_per_day=30)
    done: list[int] = []

    def work() -> None:
        done.append(assess_pending(store, settings, store.position()))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == 20
    assert kept(store, settings) == {f"e-{n:02}": 1 for n in range(20)}
    assert len(stand_in.requests) == 30


def test_a_wrong_key_stops_the_worker_and_is_not_told(
    store: Store, panel: MakePanel, stand_in: StandIn
) -> None:
    """The cycle fails with the server's words; the key went over stdin, and comes back nowhere."""
    stand_in.key = "another"
    settings = panel(api_key=KEY)
    with pytest.raises(ChildFailed, match=r"Misconfigured.*Incorrect API key.*\[secret\]") as told:
        assess_pending(store, settings, store.position())
    canaries.assert_unspoken(str(told.value))
    assert kept(store, settings) == {}
    assert KEY in to_json(settings).decode()


def test_the_worker_tells_nothing_of_what_was_said(
    panel: MakePanel, experience: MakeExperience, stand_in: StandIn
) -> None:
    """Its stderr, which ends up in logs, names no words, also where everything goes wrong."""
    stand_in.fault = lambda *_: "broken"
    item = experience(canaries.SENTENCE, f"{canaries.SENTENCE} Indeed.")
    ended = subprocess.run(
        [sys.executable, "-m", "scorers.worker"],
        input=b"\n".join([to_json(panel(api_key=KEY)), to_json(item), b""]),
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 75
    assert b"HTTP 500" in ended.stderr
    canaries.assert_unspoken(ended.stderr.decode())


def test_only_what_matters_is_asked(
    panel: MakePanel, experience: MakeExperience, stand_in: StandIn
) -> None:
    """The cascade of the panel spares the judge what nobody will learn from and nobody fears."""
    settings = msgspec.structs.replace(
        panel(),
        cascade=Cascade(harm_from=0.99, weighted_from=10.0),
        scorers=("harm", "principles", "judge"),
    )
    from scorers.worker import Panel

    items = [experience("What is the capital of Peru?", "The capital of Peru is Lima.")]
    [found] = Panel(settings).assess(items)
    assert stand_in.requests == []
    assert found.weighted is not None
    assert all(f.scorer != "judge" for f in found.findings)


def test_earlier_turns_and_context_are_shown(
    judge: Callable[..., Judge], stand_in: StandIn, experience: MakeExperience
) -> None:
    """Omission is judged by what the frontend knows that has to be told."""
    plain = experience(QUESTION, KIND, vulnerability="high")
    item = msgspec.structs.replace(
        plain,
        messages=(
            Message(role="user", content="Hi"),
            Message(role="assistant", content="Hello"),
            *plain.messages,
        ),
        context=msgspec.structs.replace(plain.context, critical_info=("The retake is on Monday.",)),
    )
    judge(dimensions=("omission",)).score([item])
    [said] = stand_in.asked
    document = json.loads(said.splitlines()[1])
    assert [turn["content"] for turn in document["earlier"]] == ["Hi", "Hello"]
    assert document["should_be_told"] == "The retake is on Monday."
    assert document["person"] == {"vulnerability": "high"}
    assert list(document)[-1] == "answer"


def test_a_reply_may_be_as_long_as_its_log_probabilities() -> None:
    """The limit on replies leaves room for the longest form with all alternatives."""
    token = {"token": "xxxxxxxx", "logprob": -12.345678901234567, "bytes": [120] * 8}
    whole = json.dumps(token | {"top_logprobs": [token] * 20})
    longest = max(
        q.most_tokens
        for form in ("rubric", "curation", "reward")
        for q in questions(JudgeSettings(form=form))  # type: ignore[arg-type]
    )
    assert len(whole) * longest < MOST_BYTES * 3
