"""The dataset folder: immutable, hashed, repeatable, and loadable as its users load it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import msgspec
import pytest

from converters import dataset as datasets
from converters.formats import chat
from converters.formats.format import jsonl
from converters.split import lot, split_of
from store import experiences
from store.errors import IntegrityError, NotEnoughData
from store.records import Context, Policy, now
from tests.converters.building import build as build_from

PANEL = "panel-1"
POLICY = Policy(min_examples=10, holdout_share=0.3, test_share=0.0)


@pytest.fixture
def items(make_assessed):
    """Forty turns of twenty conversations."""
    return [
        make_assessed(
            f"e-{i:02}",
            conversation_id=f"c-{i // 2}",
            context=Context(category="truth", difficulty="easy"),
        )
        for i in range(40)
    ]


@pytest.fixture
def position(store, keep, items) -> int:
    """The end of a log in which the items stand."""
    return keep(store, items)


@pytest.fixture
def build(store, position, tmp_path):
    """Builds a dataset in a folder of the given name."""

    def build(name="dataset", **changes):
        return build_from(
            store,
            tmp_path / name,
            **{
                "dataset_id": "dataset-1",
                "cycle_id": "cycle-1",
                "policy": POLICY,
                "panel": PANEL,
                "as_of": position,
                "moment": now(),
            }
            | changes,
        )

    return build


def _bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _rows(folder, split):
    lines = (Path(folder) / f"{split}.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def test_the_folder_holds_every_selected_conversation_with_its_answer(build, items):
    """Each row ends with the response; the rows of both splits are what was selected."""
    made = build()
    rows = [row for split in ("train", "validation") for row in _rows(made.path, split)]
    assert {row["id"] for row in rows} == {item.experience.id for item in items}
    by_id = {item.experience.id: item.experience for item in items}
    for row in rows:
        experience = by_id[row["id"]]
        assert row["messages"] == [
            {"role": "user", "content": experience.last_user_turn},
            {"role": "assistant", "content": experience.response},
        ]
        assert (row["source"], row["category"], row["difficulty"]) == ("web", "truth", "easy")
    assert made.counts == {s: len(_rows(made.path, s)) for s in ("train", "validation")}
    assert made.funnel["selected"] == sum(made.counts.values()) == 40


def test_a_conversation_is_never_on_both_sides(build):
    """Turns of one conversation stay together, on the side that its id says."""
    made = build()
    for split in ("train", "validation"):
        rows = _rows(made.path, split)
        assert rows
        for row in rows:
            conversation = f"c-{int(row['id'].removeprefix('e-')) // 2}"
            assert split_of(lot(conversation), POLICY.holdout_share, 0.0) == split


def test_the_manifest_tells_what_it_was_made_from(build, position):
    """Position, policy, panel, counts and the hash of each file stand beside the rows."""
    made = build()
    manifest = json.loads((Path(made.path) / "manifest.json").read_bytes())
    assert manifest["position"] == position == made.position
    assert msgspec.convert(manifest["policy"], Policy) == POLICY == made.policy
    assert manifest["panel"] == PANEL
    rows = {split: summary["rows"] for split, summary in manifest["summaries"].items()}
    assert rows == manifest["counts"] == made.counts
    assert sum(s["sources"]["web"] for s in manifest["summaries"].values()) == 40
    assert {tuple(s["categories"]) for s in manifest["summaries"].values()} == {("truth",)}
    assert manifest["code"] == datasets.code()
    for name, sha in manifest["files"].items():
        assert hashlib.sha256((Path(made.path) / name).read_bytes()).hexdigest() == sha


def test_building_twice_gives_the_same_bytes(build):
    """The same position, policy and panel give byte-identical files, in any folder."""
    first, second = build("one"), build("two")
    assert _bytes(first.path) == _bytes(second.path)
    assert first.content_hash == second.content_hash


def test_a_build_as_of_a_position_ignores_what_came_later(build, store, keep, make_assessed):
    """After more was recorded, the dataset can still be built again byte for byte."""
    first = build("one")
    keep(store, [make_assessed(f"later-{i}") for i in range(10)])
    assert _bytes(build("two").path) == _bytes(first.path)
    assert build("three", as_of=store.position()).counts != first.counts


def test_building_into_the_same_folder_again_repeats_safely(build):
    """A repeat leaves the folder as it is and gives the same record, but for the time."""
    first, second = build(), build()
    assert msgspec.structs.replace(second, built_at=first.built_at) == first


def test_a_folder_that_holds_another_dataset_is_refused(build):
    """A finished dataset is never overwritten by one with other content."""
    made = build()
    before = _bytes(made.path)
    with pytest.raises(IntegrityError, match="another dataset"):
        build(policy=msgspec.structs.replace(POLICY, holdout_share=0.5))
    assert _bytes(made.path) == before


def test_a_killed_build_is_no_obstacle(build, tmp_path):
    """What a killed build left beside the folder is thrown away by the next one."""
    whole = build("one")
    partial = tmp_path / ".two.partial-killed"
    partial.mkdir()
    (partial / "train.jsonl").write_text("half a li")
    (partial / "strange.txt").write_text("left over")
    assert _bytes(build("two").path) == _bytes(whole.path)
    assert not partial.exists()


def test_an_untouched_dataset_verifies(build):
    """What was built is what was recorded."""
    datasets.verify(build())


def test_a_changed_dataset_is_found_out(build):
    """One byte more or a missing file raises IntegrityError with the dataset's name."""
    made = build()
    train = Path(made.path) / "train.jsonl"
    whole = train.read_bytes()
    train.write_bytes(whole + b"\n")
    with pytest.raises(IntegrityError, match="dataset-1"):
        datasets.verify(made)
    train.unlink()
    with pytest.raises(IntegrityError, match=r"lacks .*train\.jsonl"):
        datasets.verify(made)
    train.write_bytes(whole)
    shutil.move(Path(made.path), Path(made.path).with_name("moved"))
    with pytest.raises(IntegrityError):
        datasets.verify(made)


def test_a_row_moved_to_the_other_split_is_found_out(build):
    """A held-out row in training is as grave as a changed one."""
    made = build()
    train, validation = (Path(made.path) / f"{s}.jsonl" for s in ("train", "validation"))
    first, *rest = validation.read_bytes().splitlines(keepends=True)
    train.write_bytes(train.read_bytes() + first)
    validation.write_bytes(b"".join(rest))
    with pytest.raises(IntegrityError):
        datasets.verify(made)


def test_too_few_leave_no_folder(build, tmp_path):
    """When the policy admits too few, nothing is written."""
    with pytest.raises(NotEnoughData, match="40 match, 41 are asked for"):
        build(policy=msgspec.structs.replace(POLICY, min_examples=41))
    assert not list(tmp_path.glob("dataset*"))


def test_forbidden_texts_are_left_out(build, items):
    """A text that a gate uses is not in the dataset, and the funnel counts it."""
    made = build(forbidden=[items[0].experience.last_user_turn])
    assert made.funnel["gate_item"] == 1
    assert "e-00" not in {row["id"] for row in _rows(made.path, "train")}
    assert "e-00" not in {row["id"] for row in _rows(made.path, "validation")}


def test_another_panel_has_its_own_assessments(build, store, make_assessment):
    """Only what the named panel assessed is selected."""
    with pytest.raises(NotEnoughData, match="0 recorded"):
        build(panel="panel-2")
    experiences.assess(store, [make_assessment(f"e-{i:02}", panel="panel-2") for i in range(12)])
    assert sum(build(panel="panel-2", as_of=store.position()).counts.values()) == 12


def test_a_row_has_the_bytes_it_always_had(make_assessed):
    """Field by field and in this order: datasets that are recorded keep their hashes."""
    told = Context(category="truth")
    chosen = make_assessed(
        "e-1", "Wozu “das”?", response="So.", conversation_id="c-1", context=told
    )
    assert jsonl([chat.row(chosen.experience)]).decode() == (
        '{"id":"e-1","conversation":"c-1","messages":[{"role":"user","content":'
        '"Wozu “das”?"},{"role":"assistant","content":"So."}],"source":"web",'
        '"category":"truth","difficulty":""}\n'
    )


# --- as its users load it -----------------------------------------------------------------


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads a folder with Hugging Face datasets, offline, with caches of its own."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf" / "datasets"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets as hugging_face

    def load(folder):
        cache = str(tmp_path / "hf" / "datasets")
        found = hugging_face.load_dataset(str(folder), cache_dir=cache)
        return {split: list(rows) for split, rows in found.items()}

    return load


def test_the_folder_loads_with_both_splits(build, load):
    """`load_dataset(folder)` gives train and validation with the rows that were written."""
    made = build()
    loaded = load(made.path)
    assert loaded == {split: _rows(made.path, split) for split in ("train", "validation")}


def test_the_folder_loads_with_any_words_in_it(store, keep, make_assessed, load, tmp_path):
    """Line separators, quotes, emoji and right-to-left text come back as people wrote them."""
    words = 'A "quote"\\, two\nlines,\u2028a separator,\u0085 an emoji 🙏 and שלום'
    keep(store, [make_assessed(f"e-{i}", f"{words} {i}", response=words) for i in range(30)])
    made = build_from(
        store,
        tmp_path / "dataset",
        dataset_id="d",
        cycle_id="c",
        policy=POLICY,
        panel=PANEL,
        as_of=store.position(),
        moment=now(),
    )
    loaded = load(made.path)
    rows = [row for split in loaded.values() for row in split]
    assert len(rows) == 30
    assert {row["messages"][-1]["content"] for row in rows} == {words}


def test_the_folder_loads_when_only_held_out_rows_have_a_category(
    store, keep, make_assessed, load, tmp_path
):
    """A column that is empty in one split and not in the other is no obstacle."""
    names = [f"e-{i}" for i in range(40)]
    told = Context(category="truth", difficulty="easy")
    held_out = {n: split_of(lot(n), POLICY.holdout_share, 0.0) == "validation" for n in names}
    keep(
        store,
        [make_assessed(n, context=told if held_out[n] else Context()) for n in names],
    )
    made = build_from(
        store,
        tmp_path / "dataset",
        dataset_id="d",
        cycle_id="c",
        policy=POLICY,
        panel=PANEL,
        as_of=store.position(),
        moment=now(),
    )
    loaded = load(made.path)
    assert {split: len(rows) for split, rows in loaded.items()} == made.counts


def test_the_folder_loads_when_nothing_is_held_out(build, load):
    """Without a hold-out there are only training rows, and they load."""
    made = build(policy=msgspec.structs.replace(POLICY, holdout_share=0.0, test_share=0.0))
    assert len(load(made.path)["train"]) == 40
