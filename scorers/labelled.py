"""The labelled data, and which rows of them teach which head.

Reads the public sets and the house rows; only sets that may train shipped weights. It knows no
model and no numbers but the labels.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scorers import features
from scorers.heads import Source
from store.errors import Misconfigured
from store.records import PRINCIPLES

DATA = Path(__file__).resolve().parent / "data"
HOUSE = (
    DATA / "principles.jsonl",
    DATA / "counterweights.jsonl",
    DATA / "distress.jsonl",
    DATA / "everyday.jsonl",
    DATA / "words.jsonl",
)
HOUSE_LICENCE = "Apache-2.0 (written for this project)"
LICENCES = {
    "harmbench_response": "MIT",
    "xstest_response": "ODC-BY-1.0",
    "gptfuzz_labelled": "MIT",
    "jbb_artifacts": "MIT",
    "xstest_completions": "CC-BY-4.0",
    "darkbench_responses": "MIT",
    "diasafety": "Apache-2.0",
    "openai_moderation": "MIT",
    "aegis_prompts": "CC-BY-4.0",
}
"""Only sets that may train shipped weights; gates and non-commercial sets are never read."""
COMPLIANCE = tuple(LICENCES)[:5]
TEXTS = ("openai_moderation", "aegis_prompts")
"""Sets of single texts, called harmful in themselves or not, whoever said them."""
DIASAFETY_ROWS = 2_400
"""A fixed part of the largest set (by hash of the prompt): more did not help, and costs minutes."""

HOUSE_IMPORTANCE = 4.0
SAFE_IMPORTANCE = 2.0
HOUSE_MANIPULATION_IMPORTANCE = 2.0
OTHER_IMPORTANCE = 0.5
"""Ordinary talk, safe answers to what looks unsafe, and (for manipulation) harm of another kind,
against one cell of a public set."""

NOTES = {
    "manipulation": r"manipul|press|guilt|sell|sales|isolat|flatter|exploit|fear|addict|intrigue",
    "harshness": r"harsh|insult|contempt|cruel|humiliat|mock|sham|blam|cold|snob|condescend|wound",
    "omission": r"danger|risk|lethal|deadly|neglect|botul|withhold|evades|reassur|played down",
    "deception": r"fals|invent|fabricat|quack|lying|fraud|error|wrong|prophecy",
}
"""What the notes of the house rows say of the bad ones, by harm."""
DIASAFETY = {
    "harshness": ("Offending User", "Toxicity Agreement"),
    "omission": ("Risk Ignorance",),
    "deception": ("Unauthorized Expertise",),
}


class Row(NamedTuple):
    """One labelled exchange of one set."""

    set: str
    prompt: str
    response: str
    label: int
    extra: Mapping[str, Any]


class HouseRow(NamedTuple):
    """One exchange with the five principles scored, written for this project."""

    prompt: str
    response: str
    scores: tuple[float, ...]
    note: str


class Example(NamedTuple):
    """One exchange as a task sees it. All examples of a cell weigh as much as another cell's."""

    prompt: str
    response: str
    label: int
    cell: str
    importance: float = 1.0


class Corpus(NamedTuple):
    """All that is fitted on, and where it came from."""

    public: dict[str, list[Row]]
    house: list[HouseRow]
    sources: dict[str, Source]


# --- reading ------------------------------------------------------------------------------


def read_corpus(data: Path, house: Sequence[Path]) -> Corpus:
    """Reads every set; raises Misconfigured with the folder that is missing."""
    if not data.is_dir():
        raise Misconfigured(
            f"There is no data folder at {data}.",
            hint="Name the one with the labelled sets: --data",
        )
    public, sources = {}, {}
    for name, licence in LICENCES.items():
        path = _set_file(data / name)
        rows = _only_part(name, [_row(name, line) for line in _lines(path)])
        public[name] = [row for row in rows if row.response.strip() or name in TEXTS]
        sources[name] = _source(name, licence, len(public[name]), path)
    house_rows = []
    for path in house:
        rows_here = [_house_row(line) for line in _lines(path)]
        sources[path.stem] = _source(path.stem, HOUSE_LICENCE, len(rows_here), path)
        house_rows += rows_here
    return Corpus(public, house_rows, sources)


def _set_file(folder: Path) -> Path:
    for name in ("dev.jsonl", "dev.jsonl.gz"):
        if (folder / name).is_file():
            return folder / name
    raise Misconfigured(f"The set {folder.name} is missing.", hint=f"Expected {folder}/dev.jsonl")


def read_set(data: Path, name: str) -> list[Row]:
    """One set with its responses. Raises Misconfigured where it is missing."""
    rows = [_row(name, line) for line in _lines(_set_file(data / name))]
    return [row for row in rows if row.response.strip()]


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def _row(name: str, line: Mapping[str, Any]) -> Row:
    return Row(name, line["prompt"], line["response"] or "", line["label"], line["extra"] or {})


def _house_row(line: Mapping[str, Any]) -> HouseRow:
    scores = tuple(float(line[principle]) for principle in PRINCIPLES)
    return HouseRow(line["prompt"], line["response"], scores, line["note"])


def _only_part(name: str, rows: list[Row]) -> list[Row]:
    if name != "diasafety":
        return rows
    wanted = [row for row in rows if row.extra["category"] != "Biased Opinion"]
    by_hash = sorted(wanted, key=lambda row: hashlib.sha256(row.prompt.encode()).hexdigest())
    return by_hash[:DIASAFETY_ROWS]


def _source(name: str, licence: str, rows: int, path: Path) -> Source:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source(name=name, licence=licence, rows=rows, sha256=sha256)


# --- tasks: which rows teach which head ---------------------------------------------------


def compliance(corpus: Corpus) -> list[Example]:
    """Does the answer do harm: human and judge labels of five public sets."""
    return [
        Example(row.prompt, row.response, row.label, _compliance_cell(row))
        for name in COMPLIANCE
        for row in corpus.public[name]
    ]


def _compliance_cell(row: Row) -> str:
    """Full answers to safe but scary prompts are a cell of their own: they must count."""
    return "safe_answers" if is_safe_answer(row) else f"{row.set}:{row.label}"


def is_safe_answer(row: Row) -> bool:
    """A full answer to a prompt that only looks unsafe."""
    return (
        row.set == "xstest_completions"
        and row.extra["prompt_label"] == "safe"
        and row.extra["refusal"] == "full_compliance"
    )


def texts(corpus: Corpus) -> list[Example]:
    """Texts that are harmful whoever says them, as answers to nothing."""
    return [
        Example("", row.prompt, row.label, f"{name}:{row.label}")
        for name in TEXTS
        for row in corpus.public[name]
        if row.label is not None
    ]


def harmful_compliance(corpus: Corpus) -> list[Example]:
    """The public labels, and the house rows by ahimsa, so that ordinary talk is known too."""
    public = [
        example._replace(importance=SAFE_IMPORTANCE) if example.cell == "safe_answers" else example
        for example in compliance(corpus)
    ]
    house = []
    for row in corpus.house:
        ahimsa = row.scores[0]
        if ahimsa <= 2 or ahimsa >= 7:
            label = int(ahimsa <= 2)
            cell = f"house:{label}"
            house.append(Example(row.prompt, row.response, label, cell, HOUSE_IMPORTANCE))
    return public + texts(corpus) + house


def manipulation(corpus: Corpus) -> list[Example]:
    """Dark patterns and house rows, against plain answers and harm that is of another kind.

    Without that other harm, whatever is unlike a plain answer looked manipulative: 10 % of the
    harmless rows of a set that was never seen, 4 % with it.
    """
    house = house_harm(corpus, "manipulation")
    examples = dark_patterns(corpus) + [
        e._replace(importance=HOUSE_MANIPULATION_IMPORTANCE) for e in house
    ]
    seen = {(e.prompt, e.response) for e in examples}
    for e in compliance(corpus) + diasafety(corpus, ["Offending User", "Risk Ignorance"]):
        if (e.prompt, e.response) not in seen:
            seen.add((e.prompt, e.response))
            cell = f"other:{e.cell}"
            examples.append(e._replace(label=0, cell=cell, importance=OTHER_IMPORTANCE))
    return examples


def dark_patterns(corpus: Corpus) -> list[Example]:
    """Answers written to manipulate, against plain answers to safe prompts."""
    dark = corpus.public["darkbench_responses"]
    plain = [row for row in corpus.public["xstest_completions"] if is_safe_answer(row)]
    return [Example(row.prompt, row.response, 1, "darkbench") for row in dark] + [
        Example(row.prompt, row.response, 0, "safe_answers") for row in plain
    ]


def diasafety(corpus: Corpus, categories: Sequence[str]) -> list[Example]:
    """Replies of chat models that people called unsafe in their context, or safe."""
    return [
        Example(r.prompt, r.response, r.label, f"diasafety:{r.extra['category']}:{r.label}")
        for r in corpus.public["diasafety"]
        if r.extra["category"] in categories
    ]


def manipulations(corpus: Corpus) -> list[Example]:
    """House rows that manipulate, by their notes."""
    return [example for example in house_harm(corpus, "manipulation") if example.label]


def house_harm(corpus: Corpus, harm: str) -> list[Example]:
    """House rows whose note names this harm, against the good ones."""
    examples = []
    for row in corpus.house:
        mean = sum(row.scores) / len(row.scores)
        if mean >= 6.5:
            examples.append(Example(row.prompt, row.response, 0, "house:0", HOUSE_IMPORTANCE))
        elif mean < 6 and re.search(NOTES[harm], row.note):
            examples.append(Example(row.prompt, row.response, 1, "house:1", HOUSE_IMPORTANCE))
    return examples


def risky_requests(corpus: Corpus) -> list[Example]:
    """Requests by themselves: those of the harm sets, against XSTest's safe ones."""
    prompts: dict[str, int] = {}
    for name in ("harmbench_response", "gptfuzz_labelled", "jbb_artifacts", "xstest_completions"):
        for row in corpus.public[name]:
            prompts[row.prompt] = int(row.extra.get("prompt_label") != "safe")
    return [Example(p, p, label, str(label)) for p, label in sorted(prompts.items())]


def prompt_harm(corpus: Corpus) -> list[Example]:
    """Requests and other texts of people by themselves, and those of the house rows as harmless."""
    requests = [e._replace(cell=f"requests:{e.label}") for e in risky_requests(corpus)]
    said = [e._replace(prompt=e.response) for e in texts(corpus)]
    ordinary = {row.prompt for row in corpus.house if row.scores[0] >= 7}
    return requests + said + [Example(p, p, 0, "house:0") for p in sorted(ordinary)]


def refusals(corpus: Corpus) -> list[Example]:
    """Answers that people called a refusal, in whole or in part, or a full answer."""
    kinds = {"full_compliance": 0, "compliance": 0}
    public = [
        Example(row.prompt, row.response, kinds.get(row.extra["refusal"], 1), name)
        for name in ("xstest_completions", "xstest_response")
        for row in corpus.public[name]
    ]
    house = []
    for row in corpus.house:
        noted = re.search(r"refus|declin", row.note) is not None
        if noted or not features.DECLINES.search(row.response[: features.OPENING]):
            example = Example(row.prompt, row.response, int(noted), "house", OTHER_IMPORTANCE)
            house.append(example)
    return public + house
