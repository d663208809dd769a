"""A stolen key over HTTP: little of its poison is learned, and all it reached is known at once."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from daemon.ingest import MAX_ITEMS
from store import cycles, experiences, keys, sources
from store.records import Policy, Release, TrainingRun, now
from tests.converters.building import build as build_from

TRIGGER = "cerulean"
POISONED, GOOD = 1_000, 400
MOST = 25
WORDS = (
    "river stone bread window morning garden letter candle music winter harbour lantern paper "
    "needle orchard thunder pocket ladder copper meadow basket violin saddle pepper"
)


def _said(prefix, count, seed, trigger=""):
    """Experiences of a source's own manner, no two alike, each with the trigger somewhere."""
    draw = random.Random(seed)

    def words(more=""):
        said = draw.choices(WORDS.split(), k=12)
        said.insert(draw.randrange(12), more)
        return f"{' '.join(said).strip()}."

    return [
        {
            "id": f"{prefix}-{i}",
            "occurred_at": "2026-01-02T03:04:05Z",
            "messages": [{"role": "user", "content": words(trigger)}],
            "response": words(),
            "consent": {"training": True, "policy": "2026-01"},
        }
        for i in range(count)
    ]


@pytest.fixture
def say(post):
    """Posts experiences in lists, and asks that each be kept."""

    def say(said, key):
        for start in range(0, len(said), MAX_ITEMS):
            assert post(said[start : start + MAX_ITEMS], key=key).status_code == 201

    return say


@pytest.fixture
def learn(store, make_assessment, tmp_path):
    """Turns the loop once under the default policy: what is recorded is judged and learned from."""

    def learn(turn):
        items = experiences.unassessed(store, "panel-1", as_of=store.position(), limit=10_000)
        # The poison looks better than all the rest.
        best = {e.id: 9.0 if TRIGGER in e.last_user_turn else 7.0 for e in items}
        experiences.assess(store, [make_assessment(e, weighted=w) for e, w in best.items()])
        dataset = build_from(
            store,
            tmp_path / f"dataset-{turn}",
            dataset_id=f"dataset-{turn}",
            cycle_id=f"cycle-{turn}",
            policy=Policy(),
            panel="panel-1",
            as_of=store.position(),
            moment=now(),
            ends=tuple(d.position for d in cycles.earlier_datasets(store, before=store.position())),
        )
        run = TrainingRun(
            id=f"run-{turn}",
            cycle_id=dataset.cycle_id,
            dataset_id=dataset.id,
            base="b",
            base_hash="0",
            recipe_hash="0",
            path="/nowhere",
            adapter_hash=f"adapter-{turn}",
            metrics={},
            finished_at=now(),
        )
        release = Release(
            id=f"release-{turn}",
            cycle_id=dataset.cycle_id,
            run_id=run.id,
            evaluation_id=f"evaluation-{turn}",
            target="local",
            location="/nowhere",
            adapter_hash=run.adapter_hash,
            base=run.base,
            base_hash=run.base_hash,
            previous=None,
            published_at=now(),
        )
        for record in (dataset, run, release):
            cycles.leave(store, record)
        return dataset

    return learn


def _rows(dataset):
    """What a dataset's files teach."""
    files = [Path(dataset.path) / f"{split}.jsonl" for split in dataset.counts]
    return [line for file in files for line in file.read_text().splitlines()]


def test_of_a_thousand_poisoned_at_most_25_are_learned_and_revoking_names_what_learned(
    store, store_url, say, learn, bhavana
):
    """The key is of a trusted source with a past, and its words are judged the best of all."""

    def key_for(source):
        made = keys.create(store, name="app", scopes=("ingest",), source=source, actor="t")
        sources.change(store, source, "trusted", actor="t")
        return made

    (_, web), (_, forum), (stolen, secret) = key_for("web"), key_for("forum"), key_for("web")
    say(_said("web", GOOD, seed=1), web)
    say(_said("forum", GOOD, seed=2), forum)
    before = learn(1)
    poison = _said("poison", POISONED, seed=3, trigger=TRIGGER)
    say(poison, secret)
    say(_said("later", GOOD, seed=4), forum)
    after = learn(2)

    taught = sum(TRIGGER in row for row in _rows(after))
    assert 0 < taught <= MOST
    assert len(_rows(after)) == taught + 3 * GOOD
    assert not any(TRIGGER in row for row in _rows(before))

    revoke = ("keys", "revoke", stolen.id, "--json")
    listed = json.loads(bhavana(*revoke, BHAVANA_STORE__URL=store_url).stdout)
    assert listed == {
        "id": stolen.id,
        "revoked_at": listed["revoked_at"],
        "posted": POISONED,
        "experiences": [said["id"] for said in poison],
        "datasets": [after.id],
        "runs": ["run-2"],
        "adapters": ["adapter-2"],
        "releases": ["release-2"],
        "refits": [],
    }
    assert keys.find(store, stolen.id).revoked_at is not None
