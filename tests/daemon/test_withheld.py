"""A source whose words are not stored: they are judged, and then they are gone."""

from __future__ import annotations

import sys

import pytest
from starlette.testclient import TestClient

from converters.selection import Asked, select
from daemon.api import make_app
from scorers.panel import panel_id
from scorers.settings import PanelSettings
from scorers.standing import StandingWorker
from store import experiences, keys
from store.errors import Unavailable
from store.events import Store
from store.records import Policy, now
from store.redaction import WITHHELD, RedactionSettings

CANARY = "the heron stood in the reeds"
SAID = {
    "occurred_at": "2026-01-02T03:04:05Z",
    "consent": {"training": True},
    "messages": [{"role": "user", "content": f"I feel alone, as {CANARY}. What can I do?"}],
    "response": f"I am sorry that you feel alone. I think of how {CANARY}. Is there a friend "
    "whom you could call today? I am here to listen, too.",
}


@pytest.fixture
def key(store) -> str:
    """The text of a key that may post."""
    return keys.create(store, name="t", scopes=("ingest",), source="web", actor="t")[1]


def _posting(store, key, judge):
    app = make_app(
        store, lambda: True, redaction=RedactionSettings(content="withhold"), judge=judge
    )
    return TestClient(app, headers={"Authorization": f"Bearer {key}"})


def test_the_daemon_keeps_scores_of_words_that_it_does_not_keep(serving, data):
    """One item and a list, by the real panel; no file of the data folder holds the words."""
    data.mkdir()
    url = f"sqlite:///{data / 'bhavana.db'}"
    with Store(url) as store:
        _, key = keys.create(store, name="t", scopes=("ingest",), source="web", actor="t")
    with serving(data, BHAVANA_REDACTION__CONTENT="withhold") as daemon:
        assert daemon.post("/v1/experiences", key, SAID | {"id": "one"}).status_code == 201
        many = [SAID | {"id": f"many-{n}"} for n in range(3)]
        assert daemon.post("/v1/experiences", key, many).status_code == 201
        held = {path.name for path in data.iterdir() if CANARY.encode() in path.read_bytes()}
    assert held == set()
    with Store(url) as store:
        found = list(
            experiences.assessed(
                store, panel_id(PanelSettings()), as_of=store.position(), moment=now()
            )
        )
        assert len(found) == 4
        for a in found:
            assert a.experience.response == WITHHELD
            assert a.experience.metadata["response_chars"] == len(SAID["response"])
            assert a.assessment.label is not None
            assert a.assessment.actual_harm is not None
        assert experiences.unassessed(store, panel_id(PanelSettings()), as_of=99, limit=9) == []
        asked = Asked(
            policy=Policy(min_weighted=0),
            panel=panel_id(PanelSettings()),
            as_of=store.position(),
            moment=now(),
        )
        assert select(store, asked).funnel["withheld"] == 4
        before = store.projections_digest()
        store.rebuild()
        assert store.projections_digest() == before


def test_where_nobody_can_judge_nothing_is_kept(store, key):
    """503 with the next step, and the log is as long as before."""
    before = store.position()
    with StandingWorker(PanelSettings, command=(sys.executable, "-c", "")) as worker:
        answer = _posting(store, key, worker.assess).post("/v1/experiences", json=SAID)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert CANARY not in answer.text
    assert store.position() == before


def test_a_refused_resend_leaves_no_assessment(store, key, make_assessment):
    """Other words under a known id are not kept, and neither is what was found in them."""
    panels = iter(("panel-1", "panel-2"))

    def judge(items):
        panel = next(panels)
        return [make_assessment(item.id, panel=panel) for item in items]

    client = _posting(store, key, judge)
    assert client.post("/v1/experiences", json=SAID | {"id": "w"}).status_code == 201
    other = SAID | {"id": "w", "response": "Something else."}
    assert client.post("/v1/experiences", json=other).status_code == 409
    assert len(list(store.follow(types=["experience.assessed"]))) == 1


@pytest.mark.slow
def test_more_than_a_pipe_holds_is_judged(make_experience):
    """The worker answers before it has read everything."""
    many = [make_experience(f"e-{n}", response="I am here. " * 2_000) for n in range(150)]
    with StandingWorker(PanelSettings) as worker:
        assert [a.experience_id for a in worker.assess(many)] == [e.id for e in many]


def test_a_standing_worker_that_died_is_followed_by_another(make_experience, tmp_path):
    """The question in between is refused, the next one is answered; closed, it refuses."""
    broken = tmp_path / "broken"
    broken.touch()
    script = (
        f"import os, sys; os.path.exists({str(broken)!r}) and sys.exit(3);"
        "from scorers.worker import main; sys.exit(main())"
    )
    with StandingWorker(PanelSettings, command=(sys.executable, "-c", script)) as worker:
        with pytest.raises(Unavailable):
            worker.assess([make_experience()])
        broken.unlink()
        for _ in range(2):
            assert worker.assess([make_experience()])[0].experience_id == make_experience().id
    with pytest.raises(Unavailable):
        worker.assess([make_experience()])
