"""Near-duplicate groups: what counts as nearly the same, and how well it is found."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import unicodedata
from collections import defaultdict
from pathlib import Path

import pytest

from converters import near
from converters.near import groups

QUESTION = "How do I tell my boss that I will leave the company next month?"
ANSWER = (
    "Ask for ten minutes alone with her, early in the week. Say it in the first sentence, give "
    "the day on which you will leave, and thank her for one thing that you learned there. Offer "
    "to write down what the next person has to know. Bring the letter with you, and do not "
    "explain more than she asks: a short talk is remembered as a kind one."
)


def _alike(*texts: str) -> bool:
    return not groups(texts).any()


@pytest.mark.parametrize(
    "other",
    [
        QUESTION.upper(),
        f"  {QUESTION.replace(' ', '  ')}\n",
        "how do I tell my boss, that I will leave the company next month...",
        f"Please: {QUESTION}",
    ],
)
def test_case_spaces_punctuation_and_a_word_before_make_no_other_text(other):
    """What a client or a hurried person changes."""
    assert _alike(QUESTION, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 17 plus 25?", "What is 17 plus 26?"),
        ("Who wrote Hamlet?", "Who wrote Macbeth?"),
        ("My sister Anna is ill. What can I do?", "My sister Maria is ill. What can I do?"),
        (QUESTION, QUESTION.replace("will", "will not")),
        (QUESTION, QUESTION.replace("leave the company", "sell the house")),
        ("Is 5 > 3?", "Is 5 < 3?"),
        ("👍", "👎"),
        ("", "no"),
    ],
)
def test_a_changed_number_name_or_sign_makes_a_short_text_another_one(one, other):
    """Its meaning hangs on every word."""
    assert not _alike(one, other)


def test_a_changed_number_leaves_a_long_text_the_same():
    """One that was sent again with small changes teaches nothing new."""
    assert _alike(ANSWER, ANSWER.replace("ten minutes", "20 minutes"))


def test_what_is_shorter_than_a_run_is_like_its_equals_only():
    """Too short to share a part."""
    texts = ["Yes", "Yes, sir", "yes!", "eyes", "", "?!", "Yes, sirs", "no"]
    assert groups(texts).tolist() == [0, 1, 0, 3, 4, 4, 6, 7]


def test_languages_without_spaces_are_compared_too():
    """Runs are of characters: a sentence is not one long word."""
    one = "我想知道怎样才能在不伤害朋友感情的情况下告诉他我不能再借钱给他了因为我自己也很困难"
    assert _alike(one, one + "吗")
    assert not _alike(one, one[::-1])


def test_a_group_is_named_by_its_first_text_and_holds_together_by_its_neighbours():
    """The ends of a chain may differ; texts in between that are unlike stay alone."""
    words = ANSWER.split()
    chain = [" ".join(words[i : i + 50]) for i in range(0, 15, 3)]
    assert _alike(*chain[:2])
    assert not _alike(chain[0], chain[-1])
    assert groups(["Alone.", *chain, QUESTION]).tolist() == [0, 1, 1, 1, 1, 1, 6]


@pytest.mark.parametrize("texts", [[], ["only one"], ["\ud800 lone surrogate", "İstanbul ẞ"]])
def test_any_texts_have_groups(texts):
    """None, one, and what is no good Unicode."""
    assert groups(iter(texts)).tolist() == list(range(len(texts)))


def test_a_flood_of_one_text_is_one_group():
    """All that look alike share every band: they must not be compared each with each."""
    texts = [f"{ANSWER} {n}" for n in range(6_000)]
    assert _alike(*texts)


def test_groups_do_not_hang_on_how_many_are_read_at_a_time(monkeypatch):
    """A single long text fills a chunk; its like in another one is found."""
    texts = [*families(2, 100), ANSWER * 40, "", ANSWER * 40 + "Yes."]
    whole = groups(texts).tolist()
    monkeypatch.setattr(near, "CHARACTERS", 300)
    assert groups(texts).tolist() == whole
    assert whole[-1] == len(texts) - 3


def test_groups_do_not_hang_on_the_process():
    """No hash of Python's own is used, nor anything drawn at random."""
    code = "from tests.converters.test_near import families; from converters.near import groups\n"
    code += "print(groups(families(1, 300)).tolist())"
    root = Path(__file__).resolve().parents[2]
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=root,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1] == f"{groups(families(1, 300)).tolist()}\n".encode()


def families(seed: int, count: int) -> list[str]:
    """Made-up texts, each with a few others that differ from it by some of its words."""
    draw = random.Random(seed)
    letters = "eeeettaaooiinnsshhrrddlucmfwypvbgk"
    words = ["".join(draw.choices(letters, k=draw.randint(1, 9))) for _ in range(50_000)]
    texts: list[str] = []
    while len(texts) < count:
        text = draw.choices(words, k=draw.randint(12, 90))
        for changes in (0, *draw.choices(range(12), k=2)):
            changed = list(text)
            for _ in range(changes):
                changed[draw.randrange(len(changed))] = draw.choice(words)
            texts.append(" ".join(changed))
    draw.shuffle(texts)
    return texts[:count]


def _runs(text: str) -> set[str]:
    kept = "".join(c for c in text.lower() if unicodedata.category(c)[0] in near.KEPT_CATEGORIES)
    return {kept[i : i + near.RUN] for i in range(max(1, len(kept) - near.RUN + 1))}


def _similarities(texts: list[str]) -> dict[tuple[int, int], float]:
    """The exact similarity of every two texts that share a run."""
    runs = [_runs(text) for text in texts]
    holders = defaultdict(list)
    for index, some in enumerate(runs):
        for run in some:
            holders[run].append(index)
    pairs = {pair for some in holders.values() for pair in itertools.combinations(some, 2)}
    return {(a, b): len(runs[a] & runs[b]) / len(runs[a] | runs[b]) for a, b in pairs}


def test_what_is_alike_is_found():
    """Of the pairs at .9 all; at .8 an estimate is as often below as above, so most."""
    texts = families(7, 2_500)
    first = groups(texts)
    exact = _similarities(texts)
    for least, recall in ((0.9, 1.0), (0.85, 0.98), (0.8, 0.9)):
        found = [first[a] == first[b] for (a, b), s in exact.items() if s >= least]
        assert len(found) > 200
        assert sum(found) >= recall * len(found)


def test_nothing_is_in_a_group_by_chance():
    """Each is like another one of it, within what an estimate of .8 may be wrong by."""
    texts = families(8, 2_500)
    first = groups(texts).tolist()
    like = defaultdict(set)
    for (a, b), similarity in _similarities(texts).items():
        if similarity >= 0.68:
            like[a].add(b)
            like[b].add(a)
    together = [i for i, name in enumerate(first) if first.count(name) > 1]
    assert len(together) > 300
    assert all(any(first[other] == first[i] for other in like[i]) for i in together)


def test_a_lower_threshold_finds_more():
    """Another caller may want families rather than copies."""
    texts = families(3, 600)
    counts = [len(set(groups(texts, threshold=t).tolist())) for t in (0.95, 0.8, 0.6)]
    assert counts[0] > counts[1] > counts[2]
