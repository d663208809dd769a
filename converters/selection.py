"""Which experiences may be learned from: a pipeline of named steps, each counting what it drops.

    by columns     converters/steps.py     consent, people's decisions, the panel's word
    by words       here                    length, gate items, what was rejected, own refusals that
                                           the panel missed, bursts, doubles
    together       here                    whole pairs, caps and shares, the mixture

Nothing is drawn at random: the same log and the same policy select the same experiences in the
same order. Memory holds some numbers of each experience, never its words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
from msgspec import field
from sqlalchemy import Subquery, func
from sqlalchemy import select as query

from converters.aside import Aside
from converters.flood import beyond_the_burst
from converters.forbidden import Forbidden
from converters.mixture import Names, Share, blends
from converters.near import groups
from converters.origins import Origins
from converters.reading import Said, Spoken, exchange, said, texts
from converters.rows import NOBODY, ROW, Keys, Mask, Rows, best, counts, key, within_share
from converters.split import BETWEEN, sides
from converters.steps import KEPT, STEPS, SURE_REFUSAL, dropped
from scorers.antijudge import declines
from store import reviews, sources
from store.candidates import candidates
from store.engine import in_our_words
from store.events import StoreReader
from store.records import CURATED, Noun, Policy
from store.sources import OURS

WORDS_OF_A_PERSON = 10.0
"""What an answer is worth, for its place among others, that a person wrote as a correction."""
PAGE = 500
"""Rows of columns at once: so few do not set off the garbage collector, which finds nothing."""


class Asked(Noun, frozen=True, kw_only=True):
    """What is selected from, besides the store: the same gives the same selection."""

    policy: Policy
    panel: str
    as_of: int
    """Position of the log."""
    moment: datetime
    """Says which quarantines were over."""
    ends: tuple[int, ...] = ()
    """Positions of earlier datasets: what came after each is compared with before."""
    earlier: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Positions of the experiences in earlier datasets, by the split that they were in."""
    forbidden: tuple[str, ...] = ()
    """Texts that no training may see."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen, in order of recording, and how many each step dropped."""

    rows: Rows
    names: dict[str, dict[int, str]]
    """Of `source`, `category` and `difficulty`: the name of each number in the rows."""
    better: dict[str, str]
    """By experience: the answer that a person wrote in place of the model's."""
    funnel: dict[str, int]
    """`recorded`, then what each step dropped under its own name, then `selected`."""
    shares: dict[str, dict[str, Share]]
    """Of `source`, `category`, `difficulty` and `replay`, where asked for: what was met."""

    def count(self, what: str) -> dict[str, int]:
        """Rows by source, category or difficulty."""
        return counts(self.names[what], self.rows[what])


Barred = Callable[[Rows, Mapping[str, str]], Mask]
"""Of rows, and the answers that people wrote anew: which may not be learned from after all."""


def select(
    store: StoreReader, asked: Asked, barred: Barred | None = None, aside: Aside | None = None
) -> Selection:
    """Experiences that the policy admits and that hold none of the forbidden texts.

    `barred` is asked about what would be chosen; nothing takes the place of what it drops. What
    is read is put into `aside`.
    """
    if aside is None:
        with Aside() as aside:
            return select(store, asked, barred, aside)
    policy = asked.policy
    table = candidates(store, asked.panel, as_of=asked.as_of, moment=asked.moment)
    rows, funnel = _by_columns(store, table, policy)
    better = reviews.corrections(store, as_of=asked.as_of)

    def keep(name: str, mask: Mask) -> None:
        nonlocal rows
        dropped = len(rows) - int(mask.sum())
        funnel[name] = funnel.get(name, 0) + dropped
        if dropped:
            rows = rows[mask]

    origins = Origins(sources.trusted(store, as_of=asked.as_of, moment=asked.moment))
    for name, mask in _by_words(store, rows, better, asked, origins, aside):
        keep(name, mask)
    names = origins.names()
    keep("burst", ~_beyond_the_burst(aside, rows, names, asked))
    keep("duplicate", best(rows, rows["said"], 1))
    if policy.near_duplicate:
        _group_alike(store, rows, better, policy.near_duplicate)
        both = rows["asked"].astype(np.int64) * (len(rows) + 1) + rows["answered"]
        keep("near_duplicate", best(rows, both, 1))
    exemplars = _exemplars(store, table)

    def cap() -> None:
        before = -1
        while before != len(rows):  # what one cap drops can put another one over its share
            before = len(rows)
            for name, mask_of in _caps(policy).items():
                keep(name, mask_of(rows))
            keep("half_a_pair", _whole_pairs(rows, exemplars))

    cap()
    asked_of = blends(
        policy, rows, names, replayed=[at for some in asked.earlier.values() for at in some]
    )
    before = {}
    for name, blend in asked_of.items():
        before[name] = rows
        keep(f"over_{name}_share", blend.keep(rows))
    if barred is not None:
        keep("paraphrase", ~barred(rows, better))
    on = {"holdout_share": policy.holdout_share, "test_share": policy.test_share}
    rows["side"] = sides(rows, **on, earlier=asked.earlier)
    keep("between_splits", rows["side"] != BETWEEN)
    cap()
    shares = {name: blend.met(before[name], rows) for name, blend in asked_of.items()}
    funnel["selected"] = len(rows)
    return Selection(rows=rows, names=names, better=better, funnel=funnel, shares=shares)


def _beyond_the_burst(aside: Aside, rows: Rows, names: Names, asked: Asked) -> Mask:
    of = [code for code, source in names["source"].items() if source not in OURS]
    allowed = asked.policy.max_per_source
    return beyond_the_burst(aside, rows, of=of, ends=asked.ends, allowed=allowed)


# --- by columns ---------------------------------------------------------------------------


def _by_columns(store: StoreReader, table: Subquery, policy: Policy) -> tuple[Rows, dict[str, int]]:
    """What the columns admit, with what they say of it, and the funnel."""
    columns = table.c
    # The first drops many and asks for little: the database counts them, they are no rows here.
    (first, first_drops), *others = STEPS.items()
    step = dropped(columns, policy, dict(others))
    kept = ("position", "actual_harm", "weighted", "refusal", "decision")
    asked = query(step, *(columns[name] for name in kept)).order_by(columns.position)
    found: Counter[str] = Counter()
    parts = [np.zeros(0, ROW)]
    with in_our_words(), store.reading.connect() as connection:
        recorded = connection.execute(query(func.count()).select_from(table)).scalar_one()
        streamed = connection.execution_options(yield_per=PAGE).execute(
            asked.where(~first_drops(columns, policy))
        )
        for page in streamed.partitions():
            found.update([row[0] for row in page])
            parts.append(_part([row for row in page if row[0] == KEPT]))
    found[first] = recorded - found.total()
    funnel = {"recorded": recorded, **{name: found[name] for name in STEPS}}
    return np.concatenate(parts), funnel


def _part(kept: Sequence[tuple[Any, ...]]) -> Rows:
    """The rows of these."""
    part = np.zeros(len(kept), ROW)
    if not kept:
        return part
    _, position, harm, weighted, refusal, decision = zip(*kept, strict=True)
    corrected = np.array([one == "correct" for one in decision])
    part["position"] = position
    part["corrected"] = corrected
    part["harm"] = np.where(corrected, np.nan, np.array(harm, float))
    known = np.nan_to_num(np.array(weighted, float))
    part["weighted"] = np.where(corrected, WORDS_OF_A_PERSON, known)
    part["refuses"] = (np.array(refusal, float) >= SURE_REFUSAL) & ~corrected
    return part


def _exemplars(store: StoreReader, table: Subquery) -> dict[int, int]:
    """Curated exemplars that were recorded, by conversation."""
    columns = table.c
    together = func.coalesce(columns.conversation, columns.id).label("together")
    asked = query(together, func.count()).where(columns.source == CURATED).group_by(together)
    with in_our_words(), store.reading.connect() as connection:
        return {key(CURATED, name): count for name, count in connection.execute(asked)}


# --- by words -----------------------------------------------------------------------------


def _by_words(
    store: StoreReader,
    rows: Rows,
    better: Mapping[str, str],
    asked: Asked,
    origins: Origins,
    aside: Aside,
) -> Iterator[tuple[str, Mask]]:
    """The steps that one reading decides, each with a mask over what the one before kept.

    On the way the origins and the numbers of what was said are written into the rows, and what
    none of these steps drops is put aside.
    """
    policy, forbidden = asked.policy, Forbidden(asked.forbidden)
    rejected = _rejected(store, asked)
    drops = {
        name: np.zeros(len(rows), bool)
        for name in ("erased", "too_short", "too_long", "gate_item", "rejected", "own_refusal")
    }
    drops["erased"][:] = True
    for some in said(store, rows, better):
        places = some.places
        origins.write(rows, some)
        length = np.array([len(spoken.response) for spoken in some.found], int)
        free = rows["written"][places]
        rows["asked"][places], rows["said"][places] = exchange(some)
        rows["chars"][places] = length
        drops["erased"][places] = False
        drops["too_short"][places] = (length < policy.min_chars) & ~free
        drops["too_long"][places] = (length > policy.max_chars) & ~free
        items = forbidden.among(some.words)
        drops["gate_item"][places] = _any_text(some, items)
        # By their words: the same answer may be there under another id.
        again = np.isin(rows["said"][places], rejected)
        drops["rejected"][places] = again & ~rows["corrected"][places]
        own = rows["practised"][places] & ~rows["corrected"][places]
        drops["own_refusal"][places] = [
            mine and _evades(spoken) for mine, spoken in zip(own, some.found, strict=True)
        ]
        clear = ~np.any([dropping[places] for dropping in drops.values()], axis=0)
        aside.put(some, rows["position"][places], clear, items)
    kept = np.ones(len(rows), bool)
    for name, dropping in drops.items():
        yield name, ~dropping[kept]
        kept &= ~dropping


def _evades(spoken: Spoken) -> bool:
    """Whether the rules see a refusal, whatever the panel's head says of it.

    The head learned from refusals of large models, and takes "I'm sorry for your loss, but as a
    chatbot ..." for none. Of a model's own practice a false alarm costs one row; what is missed
    it learns to say to people in need.
    """
    asked = [turn.content for turn in spoken.messages if turn.role == "user"]
    return declines(asked[-1] if asked else "", spoken.response)


def _any_text(some: Said, hit: Mask) -> Mask:
    """Which experiences hold a text that was hit."""
    sums = np.concatenate(([0], np.cumsum(hit)))
    starts = np.concatenate((np.zeros(1, int), some.responses + 1))[: len(some.responses)]
    return np.asarray(sums[some.responses + 1] > sums[starts])


def _rejected(store: StoreReader, asked: Asked) -> Keys:
    """The words of what a person rejected or corrected, as it was."""
    positions = reviews.refused(store, as_of=asked.as_of)
    rows = np.zeros(len(positions), ROW)
    rows["position"] = positions
    found = [exchange(some)[1] for some in said(store, rows, {})]
    return np.concatenate([np.zeros(0, np.uint64), *found])


def _group_alike(
    store: StoreReader, rows: Rows, better: Mapping[str, str], threshold: float
) -> None:
    """Writes into the rows which questions, and which answers, are nearly the same."""
    silent = rows["asked"] == NOBODY
    questions = (question for question, _ in texts(store, rows, better))
    rows["asked"] = groups(questions, threshold=threshold) + 1
    rows["asked"][silent] = NOBODY
    answers = (answer for _, answer in texts(store, rows, better))
    rows["answered"] = groups(answers, threshold=threshold) + 1


# --- together -----------------------------------------------------------------------------


def _whole_pairs(rows: Rows, written: Mapping[int, int]) -> Mask:
    """All but the curated exemplars whose conversation lost another of its exemplars.

    The halves of a contrast pair share their words and differ in what they ask for. A half that
    is learned from alone teaches the words: a refusal whose harmless twin was dropped teaches to
    refuse both.
    """
    values, place, count = np.unique(
        rows["conversation"][rows["curated"]], return_inverse=True, return_counts=True
    )
    whole = np.array([written.get(v, 0) == n for v, n in zip(values.tolist(), count, strict=True)])
    mask = np.ones(len(rows), bool)
    if len(place):
        mask[rows["curated"]] = whole[place]
    return mask


def _caps(policy: Policy) -> dict[str, Callable[[Rows], Mask]]:
    """What may not be too much of, whoever says it; the order is that of the funnel."""

    def single(rows: Rows, keys: Keys) -> Mask:
        share = int(max(len(rows), policy.min_examples) * policy.max_single_share)
        return best(rows, keys, min(policy.max_per_source, max(1, share)))

    def untrusted(rows: Rows) -> Keys:
        return np.where(rows["trusted"], NOBODY, rows["source"] + 1)

    return {
        "over_question_cap": lambda r: best(r, r["asked"], policy.max_per_question) | r["written"],
        "over_answer_cap": lambda r: best(r, r["answered"], policy.max_per_answer) | r["written"],
        "over_conversation_cap": lambda r: (
            best(r, r["conversation"], policy.max_per_conversation) | r["written"]
        ),
        "over_person_cap": lambda r: single(r, r["person"]),
        "over_source_cap": lambda r: single(r, untrusted(r)),
        "over_self_share": lambda r: within_share(r, r["practised"], policy.max_self_share),
        "under_written_share": lambda r: within_share(
            r, ~r["written"], 1 - policy.min_written_share
        ),
        "over_refusal_share": lambda r: within_share(r, r["refuses"], policy.max_refusal_share),
    }
