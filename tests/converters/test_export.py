"""A dataset in another format: whole or not at all, only what may be copied, and loadable."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from converters import FORMATS, folder
from converters import dataset as datasets
from converters import export as exports
from converters.export import export
from store import experiences, reviews, sources
from store.errors import Conflict, Halted, IntegrityError, Rejected
from store.records import ConsentChange, Context, Message, Policy, Review, new_id, now
from tests.converters.building import build as build_from

WORDS = 'A "quote"\\, two\nlines,\u2028a separator,\u0085 an emoji 🙏, שלום, 00012 and </s>'


@pytest.fixture
def dataset(store, keep, make_assessed, tmp_path):
    """A built dataset with both splits, of words that are odd and columns that are partly empty."""
    items = [
        make_assessed(f"e-{i:02}", f"{WORDS} {i}", response=f"{WORDS} {i}", conversation_id=f"{i}")
        for i in range(20)
    ]
    position = keep(store, items)
    return build_from(
        store,
        tmp_path / "dataset",
        dataset_id="dataset-1",
        cycle_id="cycle-1",
        policy=Policy(min_examples=10, holdout_share=0.3, test_share=0.0),
        panel="panel-1",
        as_of=position,
        moment=now(),
    )


def _withdraw(store, name):
    change = ConsentChange(
        id=new_id("consent"), scope="experience", scope_id=name, training=False, changed_at=now()
    )
    experiences.change_consent(store, change, actor="test")


def _left(folder: Path) -> list[str]:
    """What lies beside the dataset: nothing half-written, hidden or not."""
    return sorted(p.name for p in folder.iterdir() if p.name not in ("dataset", "bhavana.db"))


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_the_folder_says_where_it_comes_from(store, dataset, tmp_path, format):
    """Manifest and card name the dataset, its hash and the format; the hashes fit the files."""
    done = export(store, dataset, tmp_path / "out", format=format)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert manifest["dataset"] == "dataset-1"
    assert manifest["content_hash"] == dataset.content_hash
    assert (manifest["format"], manifest["counts"]) == (format, dataset.counts)
    assert set(manifest["files"]) == {f"{s}{FORMATS[format].suffix}" for s in dataset.counts}
    for name, sha in manifest["files"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == sha
    assert done.files == manifest["files"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert all(word in card for word in ("dataset-1", dataset.content_hash, format))


def test_chat_is_the_dataset_byte_for_byte(store, dataset, tmp_path):
    """The default format adds nothing and takes nothing."""
    export(store, dataset, tmp_path / "out", format="chat")
    for split in dataset.counts:
        name = f"{split}.jsonl"
        assert (tmp_path / "out" / name).read_bytes() == (Path(dataset.path) / name).read_bytes()


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_exporting_twice_gives_the_same_bytes(store, dataset, tmp_path, format):
    """Into two folders, with something else recorded in between."""
    first = export(store, dataset, tmp_path / "one", format=format)
    assert export(store, dataset, tmp_path / "two", format=format) == first
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_csv_tells_what_the_panel_said(store, dataset, tmp_path):
    """The scores are those of the panel that chose the rows."""
    export(store, dataset, tmp_path / "out", format="csv")
    lines = (tmp_path / "out" / "train.csv").read_text()
    assert lines.count(",excellent,") + lines.count(",good,") == dataset.counts["train"]


def test_an_unknown_format_is_refused_with_those_there_are(store, dataset, tmp_path):
    """And nothing is written."""
    with pytest.raises(Rejected, match="text-llama3"):
        export(store, dataset, tmp_path / "out", format="xml")
    assert not (tmp_path / "out").exists()


def test_erased_rows_are_not_exported(store, dataset, tmp_path):
    """A dataset whose hash no longer fits is refused."""
    datasets.forget(dataset, {"e-03"})
    with pytest.raises(IntegrityError, match="erased"):
        export(store, dataset, tmp_path / "out", format="chat")
    assert not (tmp_path / "out").exists()


def test_rows_without_consent_are_not_exported(store, dataset, tmp_path):
    """Consent that was withdrawn after the build keeps the dataset from being copied."""
    _withdraw(store, "e-03")
    with pytest.raises(Halted, match="1 rows of dataset-1 may no longer"):
        export(store, dataset, tmp_path / "out", format="chat")
    assert not (tmp_path / "out").exists()


def test_what_a_person_rejected_is_not_exported(store, dataset, tmp_path):
    """A decision that came after the build goes before the panel's, here too."""
    review = Review(
        id="review-1",
        experience_id="e-03",
        decision="reject",
        reason="rude",
        reviewer="ann",
        reviewed_at=now(),
    )
    reviews.record(store, review, actor="test")
    with pytest.raises(Halted, match="1 rows"):
        export(store, dataset, tmp_path / "out", format="chat")


def test_what_came_from_a_source_in_quarantine_is_not_exported(store, dataset, tmp_path):
    """A source that is not trusted any longer taught the dataset; it is not copied."""
    sources.change(store, "web", "quarantined", actor="test")
    with pytest.raises(Halted, match="20 rows"):
        export(store, dataset, tmp_path / "out", format="chat")


def test_what_is_erased_while_it_is_written_is_in_no_folder(store, dataset, tmp_path, monkeypatch):
    """The dataset is looked at once more behind the last file."""

    def erased(path, content):
        path.write_bytes(content)
        datasets.forget(dataset, {"e-03"})

    monkeypatch.setattr(folder, "write_synced", erased)
    with pytest.raises(IntegrityError):
        export(store, dataset, tmp_path / "out", format="chat")
    assert [n for n in _left(tmp_path) if "out" in n] == []


def test_a_folder_that_holds_something_is_refused(store, dataset, tmp_path):
    """Nothing of it is touched; an empty one is taken."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(Conflict):
        export(store, dataset, folder, format="chat")
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    export(store, dataset, folder, format="chat")
    with pytest.raises(Conflict):
        export(store, dataset, folder, format="chat")
    with pytest.raises(Conflict):
        export(store, dataset, folder / "manifest.json", format="chat")


def test_a_failed_write_leaves_nothing(store, dataset, tmp_path, monkeypatch):
    """Neither the folder nor a part of it under another name."""

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "write_synced", full)
    with pytest.raises(Rejected, match="No space left"):
        export(store, dataset, tmp_path / "out", format="chat")
    assert [n for n in _left(tmp_path) if "out" in n] == []


def test_rows_that_do_not_fit_are_named(store, keep, make_assessed, tmp_path):
    """With the reason, and nothing is written; another format takes them."""
    greeted = (Message(role="assistant", content="Hi."), Message(role="user", content="Why?"))
    keep(
        store,
        [make_assessed(f"e-{i}", messages=greeted, response=f"So {i}") for i in range(12)],
    )
    made = build_from(
        store,
        tmp_path / "dataset",
        dataset_id="dataset-1",
        cycle_id="cycle-1",
        policy=Policy(
            min_examples=10,
            holdout_share=0.0,
            test_share=0.0,
            max_per_source=50,
            max_single_share=1,
        ),
        panel="panel-1",
        as_of=store.position(),
        moment=now(),
    )
    with pytest.raises(Rejected, match=r"(?s)12 rows have no place.*e-0: its turns") as raised:
        export(store, made, tmp_path / "out", format="text-mistral")
    assert raised.value.message.count("\n") == exports.NAMED
    assert not (tmp_path / "out").exists()
    export(store, made, tmp_path / "out", format="text-llama3")


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_the_folder_loads(store, keep, make_assessed, tmp_path, monkeypatch, format):
    """`load_dataset(folder)` gives every row of both splits, with the same columns in both."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets as hugging_face

    items = [
        make_assessed(
            f"e-{i}",
            f"{WORDS} {i}",
            response=f"{WORDS} {i}",
            context=Context(difficulty="hard") if i == 0 else Context(),
        )
        for i in range(20)
    ]
    made = build_from(
        store,
        tmp_path / "dataset",
        dataset_id="dataset-1",
        cycle_id="cycle-1",
        policy=Policy(min_examples=10, holdout_share=0.3, test_share=0.0),
        panel="panel-1",
        as_of=keep(store, items),
        moment=now(),
    )
    assert set(made.counts) == {"train", "validation"}
    export(store, made, tmp_path / "out", format=format)
    loaded = hugging_face.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == made.counts
    assert loaded["train"].features == loaded["validation"].features
    rows = [row for some in loaded.values() for row in some]
    assert all("🙏, שלום, 00012" in json.dumps(row, ensure_ascii=False) for row in rows)
