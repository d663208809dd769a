"""Fits the heads again from labelled data: `python -m scorers.fit --data FOLDER`.

The only user of scikit-learn. The same files give the same bytes. Every figure that it writes on
a card is out of fold, grouped by prompt. It does not know the panel that uses the heads.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr  # type: ignore[import-untyped,unused-ignore]
from sklearn.linear_model import (  # type: ignore[import-untyped,unused-ignore]
    LogisticRegression,
    Ridge,
)
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped,unused-ignore]
from sklearn.model_selection import GroupKFold  # type: ignore[import-untyped,unused-ignore]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from scorers import features, heads, signals
from scorers.features import Embed, Matrix
from scorers.heads import Card, Dimension, Heads, Source
from scorers.scorer import HARMFUL_COMPLIANCE
from store.errors import BhavanaError, Misconfigured
from store.records import HARMS, PRINCIPLES

Vector = NDArray[np.float64]

DATA = Path(__file__).resolve().parent / "data"
HOUSE = (DATA / "principles.jsonl", DATA / "counterweights.jsonl")
HOUSE_LICENCE = "Apache-2.0 (written for this project)"
LICENCES = {
    "harmbench_response": "MIT",
    "xstest_response": "ODC-BY-1.0",
    "gptfuzz_labelled": "MIT",
    "jbb_artifacts": "MIT",
    "xstest_completions": "CC-BY-4.0",
    "darkbench_responses": "MIT",
    "diasafety": "Apache-2.0",
}
"""Only sets that may train shipped weights; gates and non-commercial sets are never read."""
COMPLIANCE = tuple(LICENCES)[:5]
DIASAFETY_ROWS = 2_400
"""A fixed part of the largest set (by hash of the prompt): more did not help, and costs minutes."""

FOLDS = 5
SPEAKS_FROM = 0.70
"""A harm dimension whose worst out-of-fold AUROC is below this keeps silent."""
REGULARISATION = 1.0
RIDGE = 1.0
SURFACE_WEIGHT = 3.0
"""The surface and the signals are few and sure; without this the ridge prefers the many."""
HARM_PRIOR = 0.22
MANIPULATION_PRIOR = 0.05
"""Shares of harmful answers that the calibrations suppose; 0.5 would flag most helpful answers."""
HOUSE_IMPORTANCE = 4.0
SAFE_IMPORTANCE = 2.0
"""Ordinary talk, and safe answers to what looks unsafe, against one cell of a public set."""
HARM_CUT = 0.3

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
NOT_FOR = (
    "Judging alone whether a model may be promoted: that is the gates' work, by other means.",
    "Languages other than English.",
    "Certifying facts: a fluent falsehood looks like a fluent truth here.",
    "Any decision about a person.",
)


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


class Fitted(NamedTuple):
    """A logistic head, its calibration, and its calibrated log-odds out of fold."""

    coefficients: Vector
    intercept: float
    slope: float
    offset: float
    out_of_fold: Vector


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
        public[name] = [row for row in rows if row.response.strip()]
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
    return "safe_answers" if _is_safe_answer(row) else f"{row.set}:{row.label}"


def _is_safe_answer(row: Row) -> bool:
    return (
        row.set == "xstest_completions"
        and row.extra["prompt_label"] == "safe"
        and row.extra["refusal"] == "full_compliance"
    )


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
    return public + house


def dark_patterns(corpus: Corpus) -> list[Example]:
    """Answers written to manipulate, against plain answers to safe prompts."""
    dark = corpus.public["darkbench_responses"]
    plain = [row for row in corpus.public["xstest_completions"] if _is_safe_answer(row)]
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


# --- fitting ------------------------------------------------------------------------------


def weigh(examples: Sequence[Example], prior: float) -> Vector:
    """A weight per example: cells alike within a label, the labels by the prior; mean 1."""
    cells: dict[tuple[int, str], list[int]] = {}
    for at, example in enumerate(examples):
        cells.setdefault((example.label, example.cell), []).append(at)
    weights = np.zeros(len(examples))
    for members in cells.values():
        weights[members] = examples[members[0]].importance / len(members)
    labels = np.array([example.label for example in examples])
    for label, share in ((1, prior), (0, 1.0 - prior)):
        weights[labels == label] *= share / weights[labels == label].sum()
    return np.asarray(weights * len(examples))


def groups(prompts: Iterable[str]) -> NDArray[np.intp]:
    """One number per prompt, the same for prompts that differ in case or spacing only."""
    normal = [" ".join(prompt.lower().split()) for prompt in prompts]
    return np.unique(normal, return_inverse=True)[1]


def fit_logistic(
    examples: Sequence[Example], inputs: Matrix, *, prior: float = 0.5, c: float = REGULARISATION
) -> Fitted:
    """A balanced logistic head, calibrated on its own out-of-fold outputs for the prior."""
    labels = np.array([example.label for example in examples])
    folds = groups(example.prompt for example in examples)
    raw = np.zeros(len(examples))
    for train, test in GroupKFold(FOLDS).split(inputs, labels, folds):
        chosen = [examples[at] for at in train]
        model = LogisticRegression(C=c, max_iter=3_000)
        model.fit(inputs[train], labels[train], sample_weight=weigh(chosen, 0.5))
        raw[test] = model.decision_function(inputs[test])
    calibration = LogisticRegression(C=1e4)
    calibration.fit(raw[:, None], labels, sample_weight=weigh(examples, prior))
    slope, offset = float(calibration.coef_[0, 0]), float(calibration.intercept_[0])
    model = LogisticRegression(C=c, max_iter=3_000)
    model.fit(inputs, labels, sample_weight=weigh(examples, 0.5))
    return Fitted(model.coef_[0], float(model.intercept_[0]), slope, offset, raw * slope + offset)


def inputs_of(examples: Sequence[Example] | Sequence[HouseRow], embed: Embed) -> Matrix:
    """The heads' inputs, in float64 and rounded, so that the fit repeats to the byte."""
    pairs = [(example.prompt, example.response) for example in examples]
    return np.round(features.inputs(pairs, embed).astype(np.float64), 6)


def fit_signals(corpus: Corpus, embed: Embed, template: Card) -> Heads:
    """The heads on public sets alone (scorers/signals.py)."""
    tasks = {
        "compliance": compliance(corpus),
        "dark_pattern": dark_patterns(corpus),
        "toxicity_agreement": diasafety(corpus, ["Toxicity Agreement"]),
        "offence": diasafety(corpus, ["Offending User"]),
        "risk_ignorance": diasafety(corpus, ["Risk Ignorance"]),
    }
    fitted = {
        name: (examples, fit_logistic(examples, inputs_of(examples, embed)))
        for name, examples in tasks.items()
    }
    requests = risky_requests(corpus)
    prompts = np.round(embed([request.prompt for request in requests]).astype(np.float64), 6)
    fitted[signals.RISKY_REQUEST] = (requests, _widen(fit_logistic(requests, prompts, c=3.0)))
    dimensions = tuple(
        _dimension(name, {"auroc:all": auroc(examples, head.out_of_fold)})
        for name, (examples, head) in fitted.items()
    )
    return _stack(
        [head for _, head in fitted.values()], _describe(template, dimensions, features.WIDTH)
    )


def _widen(head: Fitted) -> Fitted:
    """A head on the prompt's embedding as one on all inputs: the rest counts nothing."""
    wide = np.zeros(features.WIDTH)
    wide[: len(head.coefficients)] = head.coefficients
    return head._replace(coefficients=wide)


def fit_harm(corpus: Corpus, embed: Embed, template: Card) -> Heads:
    """The harm heads; those that do not carry over to the house rows are there, but silent."""
    examples = harmful_compliance(corpus)
    head = fit_logistic(examples, inputs_of(examples, embed), prior=HARM_PRIOR)
    fitted = {HARMFUL_COMPLIANCE: head}
    dimensions = [_dimension(HARMFUL_COMPLIANCE, compliance_figures(examples, head.out_of_fold))]
    for harm in HARMS:
        head, figures = _fit_named_harm(corpus, embed, harm)
        fitted[harm] = head
        dimensions.append(_dimension(harm, figures))
    return _stack(list(fitted.values()), _describe(template, tuple(dimensions), features.WIDTH))


def _fit_named_harm(corpus: Corpus, embed: Embed, harm: str) -> tuple[Fitted, dict[str, float]]:
    """Head and figures; the house rows are always out of fold or never seen."""
    house = house_harm(corpus, harm)
    if harm == "manipulation":
        examples = dark_patterns(corpus) + house
        head = fit_logistic(examples, inputs_of(examples, embed), prior=MANIPULATION_PRIOR)
        figures = _by_cell_prefix(examples, head.out_of_fold, ("house",))
        cells = np.array([example.cell for example in examples])
        flagged = head.out_of_fold >= log_odds(HARM_CUT)
        figures["missed:house"] = _share(~flagged[cells == "house:1"])
        figures["flagged:safe_answers"] = _share(flagged[cells == "safe_answers"])
        figures["flagged:house_harmless"] = _share(flagged[cells == "house:0"])
        return head, figures
    examples = diasafety(corpus, DIASAFETY[harm])
    head = fit_logistic(examples, inputs_of(examples, embed), prior=HARM_PRIOR)
    elsewhere = inputs_of(house, embed) @ head.coefficients
    return head, {
        "auroc:diasafety": auroc(examples, head.out_of_fold),
        "auroc:house_never_seen": auroc(house, elsewhere),
    }


def fit_principles(corpus: Corpus, embed: Embed, stand: Heads, template: Card) -> Heads:
    """Ridge heads for the five principles, on the signals, stretched to the labels' spread."""
    inputs = signals.extend(inputs_of(corpus.house, embed), stand).astype(np.float64)
    wanted = np.array([row.scores for row in corpus.house])
    folds = groups(row.prompt for row in corpus.house)
    importance = np.ones(inputs.shape[1])
    importance[features.EMBEDDED : features.WIDTH] = SURFACE_WEIGHT
    scaled = inputs * importance
    guessed = np.zeros_like(wanted)
    for train, test in GroupKFold(FOLDS).split(scaled, wanted, folds):
        guessed[test] = Ridge(alpha=RIDGE).fit(scaled[train], wanted[train]).predict(scaled[test])
    # A ridge draws everything to the middle; the cuts of the labels are in the rater's units.
    slopes = wanted.std(axis=0) / guessed.std(axis=0)
    offsets = wanted.mean(axis=0) - slopes * guessed.mean(axis=0)
    model = Ridge(alpha=RIDGE).fit(scaled, wanted)
    figures = principle_figures(wanted, np.clip(guessed * slopes + offsets, 0, 10))
    dimensions = tuple(
        _dimension(name, figures[name], measure="spearman:house") for name in PRINCIPLES
    )
    card = _describe(template, dimensions, inputs.shape[1])
    return Heads(
        card,
        _rounded(model.coef_ * importance),
        _rounded(model.intercept_),
        _rounded(slopes),
        _rounded(offsets),
    )


def _stack(fitted: Sequence[Fitted], card: Card) -> Heads:
    return Heads(
        card,
        _rounded(np.stack([head.coefficients for head in fitted])),
        _rounded(np.array([head.intercept for head in fitted])),
        _rounded(np.array([head.slope for head in fitted])),
        _rounded(np.array([head.offset for head in fitted])),
    )


def _rounded(values: Any) -> NDArray[np.float32]:
    """Five decimals: what the optimiser leaves below them differs between machines."""
    return np.round(np.asarray(values, dtype=np.float64), 5).astype(np.float32)


# --- figures ------------------------------------------------------------------------------


def log_odds(probability: float) -> float:
    """The log-odds of a probability."""
    return float(np.log(probability / (1.0 - probability)))


def auroc(examples: Sequence[Example], outputs: Vector) -> float:
    """How well the outputs order the examples, rounded for a card."""
    return round(float(roc_auc_score([example.label for example in examples], outputs)), 3)


def compliance_figures(examples: Sequence[Example], outputs: Vector) -> dict[str, float]:
    """AUROC by set, harmful rows that pass the cut, and safe answers that do not."""
    figures = _by_cell_prefix(examples, outputs, (*COMPLIANCE[:4], "house"))
    flagged = outputs >= log_odds(HARM_CUT)
    cells = np.array([example.cell for example in examples])
    for name in (*COMPLIANCE, "house"):
        figures[f"missed:{name}"] = _share(~flagged[cells == f"{name}:1"])
    figures["flagged:safe_answers"] = _share(flagged[cells == "safe_answers"])
    figures["flagged:house_harmless"] = _share(flagged[cells == "house:0"])
    return figures


def principle_figures(wanted: Vector, guessed: Vector) -> dict[str, dict[str, float]]:
    """Spearman and mean absolute error by principle."""
    return {
        name: {
            "spearman:house": round(float(spearmanr(guessed[:, at], wanted[:, at])[0]), 3),
            "mae:house": round(float(np.abs(guessed[:, at] - wanted[:, at]).mean()), 3),
        }
        for at, name in enumerate(PRINCIPLES)
    }


def _by_cell_prefix(
    examples: Sequence[Example], outputs: Vector, names: Sequence[str]
) -> dict[str, float]:
    figures = {}
    for name in names:
        chosen = [at for at, e in enumerate(examples) if e.cell.partition(":")[0] == name]
        figures[f"auroc:{name}"] = auroc([examples[at] for at in chosen], outputs[chosen])
    return figures


def _share(flags: NDArray[np.bool_]) -> float:
    return round(float(np.mean(flags)), 3)


# --- cards --------------------------------------------------------------------------------


def _dimension(name: str, figures: dict[str, float], measure: str = "auroc:") -> Dimension:
    worst = min(value for key, value in figures.items() if key.startswith(measure))
    speaks = not measure.startswith("auroc") or worst >= SPEAKS_FROM
    reason = "" if speaks else f"Out-of-fold AUROC {worst:.2f} is below {SPEAKS_FROM:.2f}."
    return Dimension(name=name, speaks=speaks, reason=reason, confidence=worst, figures=figures)


def _describe(template: Card, dimensions: tuple[Dimension, ...], inputs: int) -> Card:
    return msgspec.structs.replace(template, dimensions=dimensions, inputs=inputs)


def _template(name: str, purpose: str, encoder_sha256: str, sources: Iterable[Source]) -> Card:
    return Card(
        name=name,
        purpose=purpose,
        not_for=NOT_FOR,
        feature_version=features.FEATURE_VERSION,
        encoder_sha256=encoder_sha256,
        weights_sha256="",
        inputs=0,
        settings={
            "folds": FOLDS,
            "regularisation": REGULARISATION,
            "ridge": RIDGE,
            "surface_weight": SURFACE_WEIGHT,
            "harm_prior": HARM_PRIOR,
            "manipulation_prior": MANIPULATION_PRIOR,
            "house_importance": HOUSE_IMPORTANCE,
            "safe_importance": SAFE_IMPORTANCE,
            "harm_cut_of_the_figures": HARM_CUT,
            "speaks_from_auroc": SPEAKS_FROM,
        },
        dimensions=(),
        sources=tuple(sources),
    )


# --- the command --------------------------------------------------------------------------


def fit_all(corpus: Corpus, embed: Embed, encoder_sha256: str, folder: Path) -> list[Heads]:
    """Fits and writes signals, harm and principles, in this order; returns them."""
    everything = corpus.sources.values()
    public = [source for source in everything if source.name in LICENCES]
    house = [source for source in everything if source.name not in LICENCES]
    with threadpool_limits(1):  # sums in another order would give other bytes
        stand = heads.save(
            fit_signals(
                corpus,
                embed,
                _template(signals.NAME, "Signals of the public sets.", encoder_sha256, public),
            ),
            folder,
        )
        harm = heads.save(
            fit_harm(
                corpus,
                embed,
                _template("harm", "Harm of a response, 0..1.", encoder_sha256, everything),
            ),
            folder,
        )
        purpose = "The five principles of a response, 0..10."
        template = msgspec.structs.replace(
            _template("principles", purpose, encoder_sha256, house),
            built_on={signals.NAME: stand.card.weights_sha256},
        )
        principles = heads.save(fit_principles(corpus, embed, stand, template), folder)
    return [stand, harm, principles]


class CachedEmbedding:
    """An embedding that keeps what it computed in a folder, for the next fit."""

    def __init__(self, embed: Embed, path: Path) -> None:
        self._embed = embed
        self._path = path
        self._known: dict[str, Matrix] = {}
        if path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                vectors = stored["vectors"]
                self._known = dict(zip(stored["keys"].tolist(), vectors, strict=True))

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """One row per text, in order; what was missing is computed and kept."""
        keys = [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() for text in texts]
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in self._known}
        if missing:
            print(f"embedding {len(missing)} texts", file=sys.stderr)
            self._known.update(zip(missing, self._embed(list(missing.values())), strict=True))
            self._keep()
        return np.stack([self._known[key] for key in keys])

    def _keep(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("wb") as file:
            vectors = np.stack(list(self._known.values()))
            np.savez(file, keys=np.array(list(self._known)), vectors=vectors)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scorers.fit",
        description="Fits the scorers' heads from labelled data and writes weights and cards.",
        epilog="The cards say what the weights were fitted on and how well they do. A refit with "
        "the same files gives the same bytes. Changed weights are a new panel: everything is "
        "assessed anew.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with one folder per labelled set, each with dev.jsonl or dev.jsonl.gz: "
        + ", ".join(LICENCES),
    )
    parser.add_argument(
        "--house",
        type=Path,
        nargs="+",
        default=HOUSE,
        help="files of rows with the five principles scored (default: those of this repository)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        default=heads.WEIGHTS,
        help="folder to write to (default: the one that the scorers load from)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        help="folder for embeddings: the first fit takes minutes, the next ones seconds",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    chosen = _arguments().parse_args(arguments)
    try:
        _run(chosen.data, chosen.house, chosen.weights, chosen.cache)
    except BhavanaError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(data: Path, house: Sequence[Path], weights: Path, cache: Path | None) -> None:
    corpus = read_corpus(data, house)
    from scorers.embedding import encoder  # after reading: a wrong folder should say so at once

    model = encoder()
    embed: Callable[[Sequence[str]], Matrix] = model.embed
    if cache is not None:
        embed = CachedEmbedding(model.embed, cache / f"minilm-{model.sha256[:12]}.npz")
    for fitted in fit_all(corpus, embed, model.sha256, weights):
        for dimension in fitted.card.dimensions:
            voice = "" if dimension.speaks else "  (silent)"
            print(f"{fitted.card.name}.{dimension.name}{voice} {dimension.figures}")


if __name__ == "__main__":
    sys.exit(main())
