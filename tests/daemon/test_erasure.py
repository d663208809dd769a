"""Erasing everywhere: a hundred people's sentences are in no file afterwards."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import msgspec
import pytest

from converters import dataset as datasets
from converters.build_preferences import build_preferences
from converters.selection import Asked
from daemon.erasure import erase
from store import cycles, experiences, refits, reviews, rewrite, sources
from store.errors import IntegrityError
from store.events import Store
from store.records import ConsentChange, Feedback, Policy, Refit, Review, now
from tests.converters.building import ALIKE
from tests.converters.building import build as build_from

PEOPLE = 100
SENTENCE = "the heron of {} waits at the {}th weir"


@pytest.fixture
def data(tmp_path):
    """A data folder."""
    return tmp_path


@pytest.fixture
def kept(data, make_experience, make_assessment):
    """A store with a dataset of what a hundred people said, and of one who stays."""
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        people = [f"canary-{i:03}" for i in range(PEOPLE)] + ["stays"]
        items = [
            make_experience(
                f"of-{who}",
                SENTENCE.format(who, i),
                response=f"So it does: {SENTENCE.format(who, i)}.",
                subject=who,
                conversation_id=f"talk-{who}",
            )
            for i, who in enumerate(people)
        ]
        experiences.record(store, items)
        experiences.assess(store, [make_assessment(item.id) for item in items])
        given = [
            Feedback(
                id=f"f-{item.id}",
                kind="comment",
                experience_id=item.id,
                given_at=now(),
                text=item.response,
            )
            for item in items
        ]
        experiences.give_feedback(store, given, actor="test")
        for item in items:
            decided = Review(
                id=f"r-{item.id}",
                experience_id=item.id,
                decision="accept",
                reason=item.response,
                reviewer="anna",
                reviewed_at=now(),
            )
            reviews.record(store, decided, actor="test")
        sources.change(store, "web", "trusted", actor="test")
        dataset = _build(store, data, "dataset-1", store.position())
        yield store, cycles.leave(store, dataset)


def _build(store, data, name, as_of):
    """A dataset of everybody."""
    return build_from(
        store,
        data / "datasets" / name,
        dataset_id=name,
        cycle_id="cycle-1",
        policy=Policy(min_examples=1, **ALIKE),
        panel="panel-1",
        as_of=as_of,
        moment=now(),
    )


def _learned_from(dataset):
    """The ids of all rows of a dataset."""
    texts = (Path(dataset.path, f"{split}.jsonl").read_text() for split in dataset.counts)
    return [json.loads(line)["id"] for text in texts for line in text.splitlines()]


def _hits(data, words):
    """The files in which some of these words are."""
    return {
        path.name
        for path in data.rglob("*")
        if path.is_file() and any(word.encode() in path.read_bytes() for word in words)
    }


def _erase(store, who, **options):
    return erase(store, "subject", who, reason="asked", actor="test", **options)


def test_a_hundred_erasures_leave_no_byte(kept, data):
    """Not in the database, its write-ahead log, the datasets or anything else in the folder."""
    store, dataset = kept
    assert _hits(data, ["canary-007"]) >= {"train.jsonl", "bhavana.db-wal"}
    for i in range(PEOPLE):
        receipt = _erase(store, f"canary-{i:03}")
        assert receipt.write_ahead_log_emptied
        assert receipt.dataset_rows == {"dataset-1": 1}
    assert _hits(data, ["canary-", "of-canary"]) == set()
    assert _hits(data, ["of-stays"]) >= {"bhavana.db"}
    assert _learned_from(dataset) == ["of-stays"]


def test_the_next_dataset_lacks_who_was_erased_and_nobody_else(kept, data):
    """Also one that is built as of a position at which they still stood in the log."""
    store, dataset = kept
    before, all_of_them = store.position(), set(_learned_from(dataset))
    assert "of-canary-001" in all_of_them
    _erase(store, "canary-001")
    for name, as_of in (("as-of-then", before), ("as-of-now", store.position())):
        built = _build(store, data, name, as_of)
        assert set(_learned_from(built)) == all_of_them - {"of-canary-001"}
        datasets.verify(built)


def test_what_could_not_be_rewritten_is_said_and_done_when_repeated(kept, monkeypatch):
    """Another process writes all the time: no query finds the words, and files may hold some."""
    store, _ = kept
    times = itertools.count()
    with monkeypatch.context() as busy:
        busy.setattr(rewrite, "_version", lambda _: next(times))
        receipt = _erase(store, "canary-001")
    assert (receipt.experiences, receipt.write_ahead_log_emptied) == (1, False)
    assert any("Erase again" in left for left in receipt.remains)
    receipt = _erase(store, "canary-001")
    assert (receipt.experiences, receipt.write_ahead_log_emptied) == (0, True)
    assert not any("Erase again" in left for left in receipt.remains)


def test_a_dry_run_touches_nothing(kept, data):
    """It says what would go, and everything is still there."""
    store, dataset = kept
    end = store.position()
    receipt = _erase(store, "canary-001", dry_run=True)
    assert (receipt.experiences, receipt.feedback, receipt.assessments) == (1, 1, 1)
    assert receipt.reviews == 1
    assert (receipt.id, receipt.dataset_rows) == (None, {"dataset-1": 1})
    assert store.position() == end
    datasets.verify(dataset)


def test_a_dataset_that_lost_rows_is_not_trained_on(kept):
    """Its hash is no longer the recorded one, and the error says what happens next."""
    store, dataset = kept
    _erase(store, "canary-001")
    with pytest.raises(IntegrityError, match="erased"):
        datasets.verify(dataset)


def test_a_person_who_only_spoke_of_anothers_answer_is_erased_from_what_was_learned(kept, data):
    """Their words are in a dataset of preferences: its row goes, and nobody else's."""
    store, _ = kept
    for who, said in (("bea", "The worse words of Bea."), ("cyd", "The worse words of Cyd.")):
        at = now()
        change = ConsentChange(id=who, scope="subject", scope_id=who, training=True, changed_at=at)
        experiences.change_consent(store, change, actor="test")
        given = Feedback(
            id=f"p-{who}",
            kind="preference",
            experience_id="of-stays" if who == "bea" else "of-canary-001",
            given_at=at,
            text=said,
            value=1,
            subject=who,
        )
        experiences.give_feedback(store, [given], actor="test")
    made = build_preferences(
        store,
        data / "datasets" / "dataset-2",
        Asked(
            policy=Policy(
                min_examples=1, holdout_share=0.0, test_share=0.0, max_single_share=1.0, **ALIKE
            ),
            panel="panel-1",
            as_of=store.position(),
            moment=now(),
        ),
        format="dpo",
        dataset_id="dataset-2",
        cycle_id="cycle-2",
    )
    cycles.leave(store, made)
    assert made.counts == {"train": 2}
    receipt = _erase(store, "bea")
    assert receipt.dataset_rows == {"dataset-2": 1}
    text = (data / "datasets" / "dataset-2" / "train.jsonl").read_text()
    assert "Bea" not in text
    assert "Cyd" in text
    assert _hits(data / "datasets", ["of-stays"]) == {"train.jsonl"}  # hers, in the other dataset


def test_the_receipt_names_nobody(kept):
    """It can be kept by whoever asked, and by us."""
    store, _ = kept
    receipt = _erase(store, "canary-001")
    text = msgspec.json.encode(receipt).decode()
    assert "canary" not in text
    assert "Backups" in text


def test_a_kill_between_the_files_and_the_store_costs_nothing(monkeypatch, kept, data):
    """The wish can be repeated, and then nothing is left."""
    from store import privacy

    store, _ = kept
    with monkeypatch.context() as patch:
        patch.setattr(privacy, "erase", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            _erase(store, "canary-001")
    assert experiences.get(store, "of-canary-001")
    _erase(store, "canary-001")
    assert _hits(data, ["canary-001"]) == set()


def test_a_dataset_that_is_recorded_meanwhile_loses_the_words_too(monkeypatch, kept, data):
    """It was not there when datasets were asked for, and its cycle saw nothing erased yet."""
    from store import privacy

    store, first = kept
    late = data / "datasets" / "dataset-2"
    real = privacy.erase

    def erase_after_a_record(*arguments, **options):
        shutil.copytree(first.path, late)
        second = {"id": "dataset-2", "cycle_id": "cycle-2", "path": str(late)}
        cycles.leave(store, msgspec.structs.replace(first, **second))
        shutil.copyfile(data / "before", late / "train.jsonl")
        return real(*arguments, **options)

    shutil.copyfile(data / "datasets" / "dataset-1" / "train.jsonl", data / "before")
    monkeypatch.setattr(privacy, "erase", erase_after_a_record)
    receipt = _erase(store, "canary-001")
    (data / "before").unlink()
    assert receipt.dataset_rows == {"dataset-1": 1, "dataset-2": 1}
    assert _hits(data, ["canary-001"]) == set()


def test_the_receipt_says_which_refits_learned_from_them(kept):
    """A head holds no words, yet a person's decisions taught it."""
    store, dataset = kept
    refit = Refit(
        id="refit-1",
        outcome="promoted",
        reason="better",
        serves="heads-1",
        stands_on="0",
        reviews=1,
        random=0,
        members=dataset.members[:1],
        labels_digest="0",
        figures={},
        finished_at=now(),
    )
    refits.record(store, refit)
    learned, other = (_erase(store, f"canary-{i:03}") for i in range(2))
    assert (learned.refits, other.refits) == (("refit-1",), ())
    assert [note for note in learned.remains if "refit-1" in note and "next refit" in note]
    assert not [note for note in other.remains if "refit" in note]
