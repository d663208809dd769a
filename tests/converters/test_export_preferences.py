"""What people prefer, as a folder: whole or not at all, repeatable, and loadable."""

from __future__ import annotations

import hashlib
import json

import pytest

from converters import PREFERENCES, folder
from converters.export_preferences import export_preferences
from converters.selection import Asked
from converters.split import SPLITS, lot, split_of
from store import experiences, privacy, reviews
from store.errors import Conflict, Halted, NotEnoughData, Rejected
from store.records import Feedback, Message, Policy, Review, now

POLICY = Policy(min_examples=10, holdout_share=0.3, test_share=0.2, max_single_share=1.0)
WORDS = 'A "quote"\\, two\nlines,\u2028a separator,\u0085 an emoji 🙏, שלום, 00012 and </s>'
COLUMNS = {
    "dpo": ["id", "conversation", "prompt", "chosen", "rejected", "source", "origin"],
    "kto": ["id", "conversation", "prompt", "completion", "label", "source", "origin"],
}


@pytest.fixture
def position(store, keep, make_assessed):
    """The end of a log of sixteen reviewed answers and eight that people spoke of."""
    first = Message(role="user", content=f"Hello. {WORDS}"), Message(role="assistant", content="Hi")
    items = [
        make_assessed(
            f"e-{i:02}",
            messages=(*first[: i % 3], Message(role="user", content=f"{WORDS} {i}?")),
            response=f"{WORDS} {i}",
            conversation_id=f"c-{i // 2}",
            subject=f"person-{i}",
        )
        for i in range(24)
    ]
    keep(store, items)
    for i in range(16):
        decision = ("correct", "accept", "reject", "correct")[i % 4]
        review = Review(
            id=f"r-{i}",
            experience_id=f"e-{i:02}",
            decision=decision,
            text=f"Better, {WORDS} {i}" if decision == "correct" else None,
            reason="seen",
            reviewer="ann",
            reviewed_at=now(),
        )
        reviews.record(store, review, actor="test")
    kinds = (("preference", f"Worse, {WORDS}", 1), ("thumb", None, 1), ("thumb", None, -1))
    given = [
        Feedback(
            id=f"f-{i}-{kind}-{value}",
            kind=kind,
            given_at=now(),
            experience_id=f"e-{i}",
            text=text,
            value=value,
        )
        for i in range(16, 24)
        for kind, text, value in (kinds[0], kinds[1 + i % 2])
    ]
    experiences.give_feedback(store, given, actor="test")
    return store.position()


@pytest.fixture
def export(store, position, tmp_path):
    """Exports into a folder of the given name."""

    def export(name="out", *, format="dpo", **changes):
        asked = {"policy": POLICY, "panel": "panel-1", "as_of": position, "moment": now()}
        return export_preferences(store, tmp_path / name, Asked(**asked | changes), format=format)

    return export


def _rows(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _left(path):
    return sorted(p.name for p in path.iterdir() if not p.name.startswith(("store.db", "cache")))


@pytest.mark.parametrize("format", sorted(PREFERENCES))
def test_the_folder_says_what_it_was_made_from(export, position, tmp_path, format):
    """Manifest and card tell position, policy, funnel and hashes; the hashes fit the files."""
    done = export(format=format)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert manifest["position"] == position
    assert manifest["policy"]["min_examples"] == 10
    assert (manifest["format"], manifest["panel"]) == (format, "panel-1")
    assert manifest["funnel"]["selected"] == sum(manifest["counts"].values())
    assert sum(manifest["origins"].values()) == sum(manifest["sources"].values())
    assert set(manifest["files"]) == {f"{split}.jsonl" for split in manifest["counts"]}
    for name, sha in manifest["files"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == sha
    assert done.content_hash == manifest["content_hash"]
    card = (tmp_path / "out" / "README.md").read_text()
    for word in (format, str(position), done.content_hash, "| review |", "This is a copy"):
        assert word in card
    assert _left(tmp_path) == ["out"]


def test_rows_of_each_kind_are_there(export, tmp_path):
    """Corrections and preferences as pairs; decisions and thumbs as marks, both ways."""
    pairs = export("pairs")
    marks = export("marks", format="kto")
    assert pairs.origins == {"review": 8, "preference": 8}
    assert marks.origins == {"review": 24, "thumb": 8}
    rows = [row for split in marks.counts for row in _rows(tmp_path / "marks" / f"{split}.jsonl")]
    labels = [(row["origin"], row["label"]) for row in rows]
    assert {word: labels.count(word) for word in set(labels)} == {
        ("review", True): 12,
        ("review", False): 12,
        ("thumb", True): 4,
        ("thumb", False): 4,
    }


@pytest.mark.parametrize("format", sorted(PREFERENCES))
def test_a_conversation_is_never_on_two_sides(export, tmp_path, format):
    """Its id says on which, as for a dataset."""
    done = export(format=format)
    assert len(done.counts) > 1
    assert set(done.counts) <= set(SPLITS)
    for split in done.counts:
        rows = _rows(tmp_path / "out" / f"{split}.jsonl")
        assert len(rows) == done.counts[split] > 0
        for row in rows:
            assert row["conversation"] == f"c-{int(row['id'].removeprefix('e-')) // 2}"
            drawn = lot(row["conversation"])
            assert split_of(drawn, POLICY.holdout_share, POLICY.test_share) == split


def test_what_an_earlier_dataset_held_out_is_held_out(export, store, tmp_path):
    """With all of its conversation, whatever that drew."""
    export("one")
    at = {a.experience.id: a.position for a in _assessed(store)}
    trained = _rows(tmp_path / "one" / "train.jsonl")[0]
    export("two", earlier={"test": (at[trained["id"]],)})
    held_out = {row["conversation"] for row in _rows(tmp_path / "two" / "test.jsonl")}
    left = {row["conversation"] for row in _rows(tmp_path / "two" / "train.jsonl")}
    assert trained["conversation"] in held_out - left


def _assessed(store):
    return experiences.assessed(store, "panel-1", as_of=store.position(), moment=now())


@pytest.mark.parametrize("format", sorted(PREFERENCES))
def test_exporting_twice_gives_the_same_bytes(export, store, keep, make_assessed, tmp_path, format):
    """As of the same position, whatever was said later."""
    first = export("one", format=format)
    keep(store, [make_assessed("later", "Late?", response="So.")])
    late = Review(
        id="late",
        experience_id="later",
        decision="correct",
        text="Because.",
        reason="seen",
        reviewer="ann",
        reviewed_at=now(),
    )
    reviews.record(store, late, actor="test")
    assert export("two", format=format) == first
    names = _left(tmp_path / "one")
    assert names == _left(tmp_path / "two")
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert export("three", format=format, as_of=store.position()).funnel != first.funnel


@pytest.mark.parametrize("format", sorted(PREFERENCES))
def test_the_folder_loads(export, tmp_path, monkeypatch, format):
    """`load_dataset(folder)` gives every row as it was written, with the same columns in all."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets as hugging_face

    done = export(format=format)
    loaded = hugging_face.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == done.counts
    assert all(rows.column_names == COLUMNS[format] for rows in loaded.values())
    assert len({str(rows.features) for rows in loaded.values()}) == 1
    for split, rows in loaded.items():
        assert list(rows) == _rows(tmp_path / "out" / f"{split}.jsonl")


@pytest.mark.parametrize("format", sorted(PREFERENCES))
def test_a_prompt_ends_where_the_model_is_to_speak(export, tmp_path, format):
    """As TRL's conversational formats ask for: then one turn of the model in each answer."""
    done = export(format=format)
    for split in done.counts:
        for row in _rows(tmp_path / "out" / f"{split}.jsonl"):
            assert row["prompt"][-1]["role"] == "user"
            answers = {"chosen", "rejected", "completion"} & row.keys()
            assert all([turn["role"] for turn in row[name]] == ["assistant"] for name in answers)
            assert all(type(row[name][0]["content"]) is str for name in answers)


def test_too_few_leave_nothing_and_say_how_many(export, tmp_path):
    """With where they went, and what to do."""
    with pytest.raises(NotEnoughData) as raised:
        export(policy=Policy(min_examples=17, max_single_share=1.0), forbidden=("Hi",))
    assert raised.value.message == "11 rows, 17 are asked for: 16 said, 5 gate item."
    assert "bhavana review next" in raised.value.hint
    assert _left(tmp_path) == []


def test_an_unknown_format_is_refused_with_those_there_are(export, tmp_path):
    """And nothing is written."""
    with pytest.raises(Rejected, match="dpo, kto"):
        export(format="chat")
    assert _left(tmp_path) == []


def test_a_folder_that_holds_something_is_refused(export, tmp_path):
    """Nothing of it is touched; an empty one is taken."""
    (tmp_path / "out").mkdir()
    export()
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    with pytest.raises(Conflict):
        export(format="kto")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before


def test_what_is_erased_while_it_is_written_is_in_no_folder(export, store, tmp_path, monkeypatch):
    """An experience, or only somebody's word on it."""
    written = []

    def erased(path, content):
        path.write_bytes(content)
        if not written:
            privacy.erase(store, "experience", "e-03", reason="asked", actor="test")
        written.append(path)

    monkeypatch.setattr(folder, "write_synced", erased)
    with pytest.raises(Halted, match="erased while it was written"):
        export()
    assert len(written) > 3
    assert _left(tmp_path) == []


def test_nothing_is_made_from_a_log_that_lost_events(export, store, tmp_path):
    """A withdrawal of consent may be among them."""
    from sqlalchemy import delete

    from store.tables import events

    store.write(lambda connection: connection.execute(delete(events).where(events.c.position == 3)))
    with pytest.raises(Halted, match="gone from the log"):
        export()
    assert _left(tmp_path) == []
