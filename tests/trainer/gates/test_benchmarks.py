"""Public benchmarks: read as their makers and the hub have them, cut alike, scored exactly."""

from __future__ import annotations

import gzip
import importlib
import json
import os
from pathlib import Path

import pytest

from store.errors import Misconfigured
from trainer.gates import benchmarks
from trainer.gates.benchmarks import BENCHMARKS, gsm8k
from trainer.gates.sample import Sample, read_suite, suite_hash
from trainer.questions import Answer

ROOT = Path(__file__).resolve().parents[3]
SHARED = Path(os.environ.get("BHAVANA_SHARED", ROOT.parent / "shared")) / "data"
ROWS = {
    "gsm8k": {"question": "What is 3 + 4?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"},
    "humaneval": {
        "task_id": "Test/0",
        "prompt": "import math\n\ndef floor(x):\n    '''The floor.'''\n",
        "entry_point": "floor",
        "canonical_solution": "    return math.floor(x)\n",
        "test": "def check(candidate):\n    assert candidate(1.5) == 1\n",
    },
    "mbpp": {
        "task_id": 1,
        "text": "Write a function to add two numbers.",
        "code": "def add(a, b):\n    return a + b",
        "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
        "test_setup_code": "",
    },
}
RIGHT = {
    "gsm8k": "It is 3 + 4, so the result is $7.00.",
    "humaneval": "```python\ndef floor(x):\n    return math.floor(x)\n```",
    "mbpp": "```python\ndef add(a, b):\n    return a + b\n```",
}
WRONG = {
    "gsm8k": "7 is not it, the result is 8.",
    "humaneval": "```python\ndef floor(x):\n    return x\n```",
    "mbpp": "```python\ndef add(a, b):\n    return 3\n```",
}


def said(response: str) -> Answer:
    """An answer of these words."""
    return Answer(id="a", response=response, tokens=1, finished=True)


def written(folder: Path, rows: list[dict], suffix: str = ".jsonl") -> str:
    """The path of a file of these rows."""
    path = folder / f"rows{suffix}"
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if suffix == ".parquet":
        arrow = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path)
    else:
        path.write_bytes(gzip.compress(lines) if suffix.endswith(".gz") else lines)
    return str(path)


def prepared(name: str, rows: list[dict], folder: Path, suffix: str = ".jsonl") -> list[Sample]:
    """The samples that come of these rows."""
    path = benchmarks.prepare(name, written(folder, rows, suffix), folder / "suites")
    return read_suite(str(path))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_rows_as_published_become_samples_that_tell_right_from_wrong(name, suffix, tmp_path):
    """In each format, of each benchmark."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    [sample] = prepared(name, [ROWS[name]], tmp_path, suffix)
    score = BENCHMARKS[name].gate.score

    assert score(sample, said(RIGHT[name])) == 1.0
    assert score(sample, said(WRONG[name])) == 0.0
    assert score(sample, said("")) == 0.0


@pytest.mark.parametrize("name", BENCHMARKS)
def test_development_data_is_read_whole(name, tmp_path):
    """The halves that developers have: every row is a sample of its own."""
    path = SHARED / name / "dev.jsonl"
    if not path.is_file():
        pytest.skip("the development data is not on this machine")
    suite = benchmarks.prepare(name, str(path), tmp_path, limit=1_000)
    samples = read_suite(str(suite))

    left_out = 2 if name == "mbpp" else 0  # a tree as an argument, a function called `sum`
    assert len(samples) == len(path.read_bytes().splitlines()) - left_out
    assert len({sample.id for sample in samples}) == len(samples)
    assert all(sample.prompt.strip() and sample.target for sample in samples)


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_the_makers_solutions_pass_their_tests(name, tmp_path):
    """Of a few rows: what is right is scored as right through the cell."""
    path = SHARED / name / "dev.jsonl"
    if not path.is_file():
        pytest.skip("the development data is not on this machine")
    rows = [json.loads(line) for line in path.read_text().splitlines()[:8]]
    by_id = {sample.id: row for row in rows if (sample := BENCHMARKS[name].sample(row))}
    for sample in prepared(name, rows, tmp_path):
        row = by_id[sample.id]
        code = row["extra"].get("code") or row["prompt"] + row["extra"]["canonical_solution"]
        assert BENCHMARKS[name].gate.score(sample, said(f"```python\n{code}\n```")) == 1.0


def test_so_many_samples_are_drawn_and_always_the_same(tmp_path):
    """The limit holds; the order of the rows' ids is the order of the suite."""
    rows = [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in range(30)]
    where = written(tmp_path, rows)
    first = benchmarks.prepare("gsm8k", where, tmp_path / "one", limit=10)
    second = benchmarks.prepare("gsm8k", where, tmp_path / "two", limit=10)
    samples = read_suite(str(first))

    assert len(samples) == len({sample.id for sample in samples}) == 10
    assert first.name == second.name
    assert suite_hash(str(first)) == suite_hash(str(second))


def test_a_prepared_suite_has_a_gate_of_its_own(tmp_path):
    """The gate asks the file that was written; the roster's gate is left as it is."""
    path = benchmarks.prepare("gsm8k", written(tmp_path, [ROWS["gsm8k"]]), tmp_path)
    found = benchmarks.gates({"gsm8k": str(path)})

    assert [sample.target for sample in read_suite(found["gsm8k"].task.suite)] == ["7"]
    assert BENCHMARKS["gsm8k"].gate.task.suite == ""


@pytest.mark.parametrize(
    ("response", "target", "right"),
    [
        ("The result is 1,234.", "1234", 1.0),
        ("20 - 5 = 15", "15", 1.0),
        ("so 18-5", "5", 1.0),
        ("It is now -5 degrees", "-5", 1.0),
        ("5.00", "5", 1.0),
        ("#### 30", "30", 1.0),
        ("about 3.14", "3.1", 0.0),
        ("no idea", "3", 0.0),
    ],
)
def test_the_last_number_counts_exactly(response, target, right):
    """Thousands, signs and decimals are read as people write them."""
    sample = Sample(id="s", family="s", prompt="?", target=target)

    assert gsm8k.score(sample, said(response)) == right


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("gsm8k", {"question": "What?", "answer": "#### many"}),
        ("gsm8k", {"answer": "#### 3"}),
        ("humaneval", {**ROWS["humaneval"], "entry_point": "ceiling"}),
        ("mbpp", {"text": "Write a function."}),
    ],
)
def test_a_row_of_another_form_is_named(name, row, tmp_path):
    """With its number, and before any model is asked."""
    with pytest.raises(Misconfigured, match="row 2 of"):
        prepared(name, [ROWS[name], row], tmp_path)


@pytest.mark.parametrize("content", [b"", b"not json\n", b"[1, 2]\n"])
def test_a_file_that_holds_no_rows_is_refused(content, tmp_path):
    """An empty benchmark would pass every candidate."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)

    with pytest.raises(Misconfigured, match=r"rows\.jsonl"):
        benchmarks.prepare("gsm8k", str(path), tmp_path)


def test_what_is_neither_a_file_nor_in_the_hubs_cache_is_refused(tmp_path, hub):
    """With what to run where the hub can be reached."""
    with pytest.raises(Misconfigured) as caught:
        benchmarks.prepare("mbpp", "nobody/mbpp@v1", tmp_path)

    assert "hf download --repo-type dataset nobody/mbpp" in (caught.value.hint or "")


@pytest.mark.parametrize("test", ["assert is_balanced(root)", "assert sum(10, 15) == 6"])
def test_a_task_that_cannot_be_asked_here_is_left_out(test, tmp_path):
    """An object of the makers, or a name of Python's own, would be an error of the whole gate."""
    rows = [ROWS["mbpp"], {**ROWS["mbpp"], "task_id": 2, "test_list": [test]}]
    found = prepared("mbpp", rows, tmp_path)

    assert [sample.id for sample in found] == ["mbpp-1"]


def test_an_unknown_benchmark_is_refused(tmp_path):
    """With those that there are."""
    with pytest.raises(Misconfigured) as caught:
        benchmarks.prepare("mmlu", "x.jsonl", tmp_path)

    assert "gsm8k" in (caught.value.hint or "")
