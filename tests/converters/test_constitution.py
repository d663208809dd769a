"""Constitutional examples: many, different, mostly of use, and nothing in them to act on."""

from __future__ import annotations

import json
import re
from collections import Counter

import msgspec
import pytest

from converters.constitution import parts
from converters.constitution.__main__ import main
from converters.constitution.compose import UsedUpError, examples
from converters.constitution.deal import DIFFICULTIES, LAWS, TYPES, shares
from converters.constitution.examples import (
    GIST,
    Decision,
    Difficulty,
    Example,
    ExampleType,
    LawCategory,
)
from converters.constitution.exports import EXPORTS
from converters.constitution.measure import distinctness, normal
from trainer.gates import all_texts

COUNT = 10_000
RUN = 8
"""Words in a row that no text may share with a gate."""
FIELDS = [
    "example_id",
    "example_type",
    "law_category",
    "prompt",
    "response_harmful",
    "response_ethical",
    "critique",
    "principle",
    "conversation",
    "difficulty",
    "tags",
]
AN = re.compile(
    r"\b(a (?!eu|ewe|one\b|once\b|u[nst]|uk|usu|USB)[aeiou]\w*"
    r"|an (?!hour|honest|heir|hono|x-ray)[^aeiou\W]\w*)",
    re.IGNORECASE,
)
STEPS = re.compile(r"\d|\bstep (one|two)\b|\bfirst,|\bthen (you|take|add|mix|put)\b|https?:", re.I)
"""What a harmful response would need to be of any use."""


@pytest.fixture(scope="module")
def many():
    """As many as the command makes when nothing else is said."""
    return examples(COUNT, seed=7)


def _texts(e: Example) -> list[str]:
    return [
        e.prompt,
        e.response_harmful,
        e.response_ethical,
        e.critique,
        e.principle,
        *(m.content for m in e.conversation),
    ]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _runs(text: str) -> set[tuple[str, ...]]:
    words = _words(text)
    return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


def test_every_example_has_the_seeds_fields_and_reads_back(many):
    """The names are the seed's, and a row is an example again."""
    for e in many[:500]:
        row = EXPORTS["examples"](e)

        assert list(row) == FIELDS
        assert msgspec.convert(row, Example) == e
    assert len({e.example_id for e in many}) == COUNT
    assert all(bool(e.conversation) == (e.example_type is ExampleType.MULTI_TURN) for e in many)


def test_types_difficulties_and_laws_have_the_seeds_shares(many):
    """In whole numbers; the laws among what is refused, where the seed gives them."""
    blocked = [e for e in many if e.example_type is ExampleType.HARMFUL_BLOCKED]

    assert Counter(e.example_type for e in many) == shares(COUNT, TYPES)
    assert Counter(e.law_category for e in blocked) == shares(len(blocked), LAWS)
    for difficulty, share in DIFFICULTIES.items():
        found = sum(e.difficulty is difficulty for e in many)
        assert found == pytest.approx(COUNT * share / 100, abs=len(TYPES))


def test_as_many_examples_help_as_refuse(many):
    """Who learns refusals alone learns to refuse; questions with help are not even counted."""
    ends = Counter(e.decision for e in many)

    assert ends[Decision.ALLOW] >= ends[Decision.REFUSE] > 0
    assert ends[Decision.CLARIFY] > 0


def test_ten_thousand_examples_differ(many):
    """No answer twice, no prompt twice, and two that are drawn have little in common."""
    found = distinctness(many)

    assert found.prompts_distinct == COUNT
    assert found.largest_share_of_one_response <= 0.002
    assert found.mean_similarity_responses < 0.10
    assert found.mean_similarity_prompts < 0.10
    assert found.close_neighbour_share_responses < 0.10
    assert found.close_neighbour_share_prompts < 0.10


def test_the_measure_sees_what_is_the_same(many):
    """The figures are bad for bad examples: few answers over and over."""
    poor = distinctness([many[i % 12] for i in range(1_000)])

    assert poor.responses_distinct == 12
    assert poor.largest_share_of_one_response > 0.08
    assert poor.close_neighbour_share_responses == 1.0


def test_no_slot_is_left_and_spaces_stops_and_articles_are_right(many):
    """A simple check of what composing gets wrong."""
    texts = {text for e in many for text in _texts(e)}

    wrong = [
        text
        for text in texts
        if re.search(r"[{}\[\]]|@\d|  | [.,;:!?]|[.!?]{2}|^[a-z]|[^.!?'\"]$", text)
        or AN.search(text)
    ]

    assert wrong == []


def test_no_text_shares_eight_words_in_a_row_with_a_gate(many):
    """What measures a model must not have taught it."""
    gates = set().union(*(_runs(text) for text in all_texts()))
    texts = {text for e in many for text in _texts(e)}

    assert sorted({" ".join(run) for text in texts for run in _runs(text) & gates}) == []


def test_law_conflicts_put_the_lower_number_first(many):
    """Answer and principle name both laws, and the one that decides goes before the other."""
    conflicts = [e for e in many if e.example_type is ExampleType.LAW_CONFLICT]

    for e in conflicts:
        over, under = map(int, re.findall(r"Law (\d)", e.principle.split(":")[0]))
        assert LawCategory(over).goes_before(LawCategory(under))
        assert e.law_category == over
        assert f"Law {over}" in e.response_ethical
        assert f"Law {under}" in e.response_ethical
        assert GIST[LawCategory(over)] in e.response_ethical
    assert len({e.principle[:25] for e in conflicts}) > 3


def test_what_is_under_no_law_goes_before_none():
    """NONE is -1, which is the lowest number and no law."""
    assert LawCategory.LAW_0.goes_before(LawCategory.LAW_4)
    assert not LawCategory.LAW_2.goes_before(LawCategory.LAW_1)
    assert not LawCategory.NONE.goes_before(LawCategory.LAW_0)


def test_harmful_responses_are_stand_ins(many):
    """Two sentences or three, and nothing in them that could be followed."""
    for bad in {e.response_harmful for e in many}:
        assert len(_words(bad)) <= 25, bad
        assert not STEPS.search(bad), bad


def test_every_ask_of_every_topic_has_forms_enough():
    """What stands with some asks only must leave each of them a choice."""
    read = parts.read()

    for topic in (*read.harmful, *read.safe, *read.edge, *read.conflict):
        for ask in range(len(topic.asks)):
            left = msgspec.structs.asdict(parts.narrowed(topic, ask))
            for field, least in (("contexts", 2), ("tips", 3), ("instead", 2), ("lead", 1)):
                assert len(left.get(field, range(9))) >= least, (topic.id, ask, field)
            assert all(left[f] for f in left if isinstance(left[f], tuple)), (topic.id, ask)


def test_people_in_distress_meet_no_tricks_and_no_pressure(many):
    """Nothing smart is said to somebody who may die of it."""
    read = parts.read()
    tender = {t.id for t in (*read.harmful, *read.safe, *read.edge, *read.conflict) if t.tender}
    twists = [a.says for a in (*read.asides.pressure, *read.asides.tricks)]

    theirs = [e for e in many if e.tags[1] in tender]

    assert len(tender) > 3
    assert len(theirs) > 100
    assert not [e for e in theirs if any(t in e.prompt for t in twists)]
    assert {e.difficulty for e in theirs} <= {Difficulty.EASY, Difficulty.MEDIUM}


def test_where_a_life_is_at_stake_every_answer_calls_for_help(many):
    """Not just some of the forms."""
    urgent = {t.id for t in (*parts.read().harmful, *parts.read().conflict) if t.urgent}

    theirs = [e for e in many if e.tags[1] in urgent]

    assert len(urgent) == 4
    assert len(theirs) > 100
    assert [e for e in theirs if "emergency number" not in e.response_ethical.lower()] == []


def test_ids_of_topics_are_unique_and_talks_lead_to_topics():
    """A topic's id is a tag by which its rows can be kept together."""
    read = parts.read()
    ids = [t.id for t in (*read.harmful, *read.safe, *read.edge, *read.conflict)]

    assert len(ids) == len(set(ids))
    assert {t.topic for t in read.talks} <= {t.id for t in (*read.harmful, *read.safe)}
    assert {t.law for t in read.harmful} == set(LAWS)


def test_the_critique_export_never_makes_the_model_say_the_harmful_response(many):
    """It stands in the person's turn: every turn of the assistant is learned."""
    for e in many[:300]:
        asked, reply = EXPORTS["critique"](e)["messages"]

        assert asked["role"] == "user"
        assert e.response_harmful in asked["content"]
        assert e.response_harmful not in reply["content"]
        assert e.critique in reply["content"]
        assert e.response_ethical in reply["content"]


def test_a_chat_holds_the_conversation_before_it(many):
    """Multi-turn examples stay conversations, in turns that alternate."""
    e = next(e for e in many if e.example_type is ExampleType.MULTI_TURN)

    messages = EXPORTS["chat"](e)["messages"]

    assert [m["role"] for m in messages] == ["user", "assistant"] * 3
    assert messages[-2]["content"] == e.prompt
    assert messages[-1]["content"] == e.response_ethical


@pytest.mark.parametrize("format", EXPORTS)
def test_the_same_seed_gives_the_same_bytes(tmp_path, format):
    """Another seed gives others; what is measured stands in the manifest."""
    for name, seed in (("one", "3"), ("two", "3"), ("other", "4")):
        given = ["--count", "300", "--seed", seed, "--output", str(tmp_path / name)]
        assert main([*given, "--as", format]) == 0

    one, two, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two", "other")
    )
    manifest = json.loads(one["manifest.json"])
    assert sorted(one) == ["README.md", "manifest.json", "train.jsonl"]
    assert one == two
    assert one["train.jsonl"] != other["train.jsonl"]
    assert one["train.jsonl"].count(b"\n") == manifest["count"] == 300
    assert manifest["distinctness"]["prompts_distinct"] == 300


def test_a_folder_is_never_written_over(tmp_path, capsys):
    """Whole or not at all: what is there stays, and nothing half-written is left."""
    given = ["--count", "40", "--output", str(tmp_path / "out")]
    assert main(given) == 0
    before = (tmp_path / "out" / "manifest.json").read_bytes()

    assert main(given) == 1

    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_more_than_the_parts_can_make_is_refused():
    """Rather than giving the same rows again."""
    read = parts.read()
    few = msgspec.structs.replace(read, conflict=read.conflict[:2], talks=())

    with pytest.raises(UsedUpError, match="no more examples"):
        examples(2_000, seed=1, parts=few)


def test_normal_text_has_small_letters_and_single_spaces():
    """Two answers that differ in these alone count as one."""
    assert normal("  Yes,\n I  WILL. ") == "yes, i will."
