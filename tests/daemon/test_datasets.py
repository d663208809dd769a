"""The verbs on datasets, as people use them: what they say and how they end."""

from __future__ import annotations

import json

import pytest

from converters import FORMATS, PREFERENCES
from converters import dataset as datasets
from daemon.settings import Settings
from scorers.panel import panel_id
from store import cycles, experiences
from store.events import Store
from store.records import Cycle, Policy, now
from tests.converters.building import ALIKE
from tests.converters.building import build as build_from
from trainer.gates import GATES
from trainer.gates.sample import read_suite

REJECTED, HALTED = 2, 3


def _failed(ran, code):
    """What a verb said on stderr when it failed with this code, as it should: in our words."""
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stderr.startswith("error: ")
    assert "\n  next: " in ran.stderr
    return ran.stderr


@pytest.fixture
def dataset(data, make_experience, make_assessment):
    """A dataset of twelve rows in the data folder's store, which is closed again."""
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        names = [f"e-{i}" for i in range(12)]
        experiences.record(store, [make_experience(n, source="exemplar") for n in names])
        experiences.assess(store, [make_assessment(n, panel="panel-1") for n in names])
        cycle = Cycle(id="cycle-1", position=store.position(), reason="test", started_at=now())
        cycles.start(store, cycle)
        made = build_from(
            store,
            data / "datasets" / "dataset-1",
            dataset_id="dataset-1",
            cycle_id=cycle.id,
            policy=Policy(min_examples=10, holdout_share=0.3, test_share=0.0, **ALIKE),
            panel="panel-1",
            as_of=cycle.position,
            moment=now(),
        )
        return cycles.leave(store, made)


def test_listing_none_says_how_to_get_one(bhavana):
    """A new store is no error."""
    ran = bhavana("datasets", "list")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "bhavana cycle" in ran.stdout


def test_listing_and_showing(bhavana, dataset):
    """What was built, of what, and whether it is still what was recorded."""
    assert "dataset-1" in bhavana("datasets", "list").stdout
    [listed] = json.loads(bhavana("datasets", "list", "--json").stdout)
    assert (listed["id"], listed["counts"]) == ("dataset-1", dataset.counts)
    shown = json.loads(bhavana("datasets", "show", "dataset-1", "--json").stdout)
    assert (shown["whole"], shown["fault"]) == (True, None)
    assert shown["content_hash"] == listed["content_hash"] == dataset.content_hash
    text = bhavana("datasets", "show", "dataset-1").stdout
    assert dataset.path in text
    assert "whole     yes" in text


def test_a_dataset_that_lost_rows_is_shown_and_not_exported(bhavana, dataset, tmp_path):
    """It says what is wrong with it, and the export stops with a next step."""
    datasets.forget(dataset, {"e-3"})
    shown = bhavana("datasets", "show", "dataset-1")
    assert shown.returncode == 0
    assert "erased" in shown.stdout
    said = _failed(
        bhavana("datasets", "export", "dataset-1", "--output", str(tmp_path / "out")), HALTED
    )
    assert "erased" in said
    assert not (tmp_path / "out").exists()


def test_exporting(bhavana, dataset, tmp_path):
    """A folder in the format that was asked for; it is told that no erasure reaches it."""
    out = tmp_path / "out"
    ran = bhavana("datasets", "export", "dataset-1", "--format", "alpaca", "--output", str(out))
    assert ran.returncode == 0, ran.stderr
    assert "No erasure reaches this copy" in ran.stdout
    rows = [json.loads(line) for line in (out / "train.jsonl").read_bytes().splitlines()]
    assert {tuple(row) for row in rows} == {("instruction", "input", "output")}
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest["content_hash"] == dataset.content_hash
    arguments = ("datasets", "export", "dataset-1", "--json", "--output")
    told = json.loads(bhavana(*arguments, str(tmp_path / "again")).stdout)
    assert (told["format"], told["counts"]) == ("chat", dataset.counts)
    assert "is there already" in _failed(bhavana(*arguments, str(out)), REJECTED)


def test_what_is_unknown_is_refused_with_a_next_step(bhavana, dataset, tmp_path):
    """An id, and a format: exit code 2, and what there is instead."""
    out = ("--output", str(tmp_path / "out"))
    for verb in (("show", "dataset-9"), ("export", "dataset-9", *out)):
        assert "bhavana datasets list" in _failed(bhavana("datasets", *verb), REJECTED)
    ran = bhavana("datasets", "export", "dataset-1", "--format", "xml", *out)
    assert "parquet" in _failed(ran, REJECTED)


def test_help_names_every_format(bhavana):
    """Each with its line, so that nobody has to look elsewhere."""
    said = bhavana("datasets", "export", "--help").stdout
    for name, format in FORMATS.items():
        assert any(line.split()[:1] == [name] for line in said.splitlines()), name
        assert format.about in said
    said = bhavana("datasets", "preferences", "--help").stdout
    for name, preference in PREFERENCES.items():
        assert any(line.split()[:1] == [name] for line in said.splitlines()), name
        assert preference.format.about in said


# --- what people prefer -------------------------------------------------------------------


@pytest.fixture
def answers(data, bhavana, make_experience, make_assessment):
    """Two answers that the panel in force assessed, in the data folder's store."""
    data.mkdir()
    panel = panel_id(Settings().panel)
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        names = ("e-1", "e-2")
        experiences.record(store, [make_experience(name, f"What is {name}?") for name in names])
        experiences.assess(store, [make_assessment(name, panel=panel) for name in names])


def _prefer(bhavana, format, out, **changes):
    arguments = ("datasets", "preferences", "--format", format, "--output", str(out))
    return bhavana(*arguments, **changes)


def test_what_reviewers_decide_is_exported_as_what_people_prefer(bhavana, answers, tmp_path):
    """From the review to the folder; it is told that no erasure reaches it."""
    few = {"BHAVANA_POLICY__MIN_EXAMPLES": "1", "BHAVANA_POLICY__MAX_SINGLE_SHARE": "1"}
    better = tmp_path / "better.txt"
    better.write_text("It is a number.\n")
    reviewed = bhavana("review", "correct", "e-1", "--reason", "vague", "--text", str(better))
    assert reviewed.returncode == 0, reviewed.stderr
    ran = _prefer(bhavana, "dpo", tmp_path / "pairs", **few)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "dpo in" in ran.stdout
    assert "No erasure reaches this copy" in ran.stdout
    [path] = (tmp_path / "pairs").glob("*.jsonl")
    row = json.loads(path.read_bytes())
    assert row == {
        "id": "e-1",
        "conversation": "e-1",
        "prompt": [{"role": "user", "content": "What is e-1?"}],
        "chosen": [{"role": "assistant", "content": "It is a number."}],
        "rejected": [{"role": "assistant", "content": "The answer to e-1 is kindness."}],
        "source": "web",
        "origin": "review",
    }
    arguments = ("datasets", "preferences", "--format", "kto", "--json", "--output")
    told = json.loads(bhavana(*arguments, str(tmp_path / "marks"), **few).stdout)
    assert (told["format"], sum(told["counts"].values())) == ("kto", 2)
    assert told["policy"]["min_examples"] == 1
    said = _failed(_prefer(bhavana, "dpo", tmp_path / "pairs", **few), REJECTED)
    assert "is there already" in said


def test_too_few_preferences_are_not_exported(bhavana, answers, tmp_path):
    """It says how many there are, and what to do; and no folder is made."""
    said = _failed(_prefer(bhavana, "dpo", tmp_path / "pairs"), HALTED)
    assert "0 rows, 200 are asked for: 0 said." in said
    assert "bhavana review next" in said
    assert not (tmp_path / "pairs").exists()
    assert "dpo, kto" in _failed(_prefer(bhavana, "orpo", tmp_path / "pairs"), REJECTED)


def test_a_gates_question_is_not_exported(
    bhavana, data, make_experience, make_assessment, tmp_path
):
    """The suites that judge an adapter are left out here as anywhere."""
    item = read_suite(GATES["refusal"].task.suite)[0].prompt
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        experiences.record(store, [make_experience("e-1", item)])
        panel = panel_id(Settings().panel)
        experiences.assess(store, [make_assessment("e-1", panel=panel)])
    assert bhavana("review", "reject", "e-1", "--reason", "no").returncode == 0
    said = _failed(_prefer(bhavana, "kto", tmp_path / "out"), HALTED)
    assert "1 said, 1 gate item." in said


def test_a_preview_shows_rows_as_they_stand(bhavana, dataset):
    """Role by role, as many as are asked for, without loading a tokenizer."""
    ran = bhavana("datasets", "preview", "dataset-1", "--rows", "2")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("assistant: ") == 2
    assert "⟦" not in ran.stdout
    _failed(bhavana("datasets", "preview", "dataset-2"), REJECTED)


def test_a_preview_with_masks_marks_what_is_learned_from(bhavana, dataset):
    """The answer and the token that ends it, and nothing of the question."""
    [row] = datasets.read(dataset)["train"].splitlines()[:1]
    question, answer = (m["content"] for m in json.loads(row)["messages"])
    ran = bhavana("datasets", "preview", "dataset-1", "--rows", "1", "--masks")
    assert ran.returncode == 0, ran.stderr
    assert f"⟦{answer}<|im_end|>⟧" in ran.stdout
    assert f"{question}<|im_end|>" in ran.stdout.partition("⟦")[0]
    assert "tokens are learned from" in ran.stdout
