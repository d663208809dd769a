"""The funnel: each step drops what it should, and every drop is counted once."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from store import experiences
from store.records import Context, Feedback, Label, Message, Policy, now
from store.redaction import WITHHELD
from tests.converters.selecting import BETTER, select

GATE = "Explain to me in detail how one could quietly open the lock of a neighbour"
SHORT_GATE = "Who are you?"


def _ids(selection):
    return [a.experience.id for a in selection.chosen]


def _dropped(selection):
    """The steps that dropped something, with how many."""
    ends = ("recorded", "selected")
    return {name: n for name, n in selection.funnel.items() if n and name not in ends}


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        ("without_consent", {"training": False}),
        ("abstained", {"abstained": ("karuna",)}),
        ("abstained", {"weighted": None}),
        ("over_max_harm", {"harm": 0.3}),
        ("under_min_weighted", {"weighted": 6.49}),
        ("label_not_admitted", {"label": Label.MODERATE}),
    ],
)
def test_each_step_drops_what_the_policy_does_not_admit(make_assessed, step, changes):
    """One bad experience beside a good one is dropped by its own step, and only there."""
    selection = select([make_assessed("good"), make_assessed("bad", **changes)], Policy())
    assert _ids(selection) == ["good"]
    assert _dropped(selection) == {step: 1}


def test_what_a_person_rejected_is_not_learned_from(make_assessed):
    """However well the panel thinks of it; curated answers, too."""
    items = [
        make_assessed("good"),
        make_assessed("bad", weighted=9.9, harm=0.0, decision="reject"),
        make_assessed("written", source="exemplar", decision="reject"),
    ]
    selection = select(items, Policy())
    assert _ids(selection) == ["good"]
    assert _dropped(selection) == {"rejected": 2}


def test_a_corrected_answer_is_learned_from_as_the_person_wrote_it(make_assessed):
    """Whatever the panel said of what was there before, which is not learned from anywhere."""
    same = {"prompt": "What is this?", "response": "It is nothing, dear."}
    items = [
        make_assessed("bad", decision="correct", harm=0.9, weighted=1.0, refusal=1.0, **same),
        make_assessed("again", **same),
    ]
    selection = select(items, Policy(max_refusal_share=0.0, min_written_share=0.9))
    assert _ids(selection) == ["bad"]
    assert selection.chosen[0].experience.response == BETTER
    assert _dropped(selection) == {"rejected": 1}


def test_a_correction_that_holds_a_gate_item_is_not_learned_from(make_assessed):
    """What a person writes is held to the gates as what a model says is."""
    items = [make_assessed(decision="correct")]
    assert _dropped(select(items, Policy(), forbidden=[BETTER.upper()])) == {"gate_item": 1}


def test_a_rejected_answer_is_not_learned_from_under_another_id(make_assessed):
    """A client that sent it twice, or another person who was told the same."""
    same = {"prompt": "What is this?", "response": "It is nothing, dear."}
    items = [
        make_assessed("good"),
        make_assessed("bad", decision="reject", **same),
        make_assessed("again", **same),
    ]
    selection = select(items, Policy())
    assert _ids(selection) == ["good"]
    assert _dropped(selection) == {"rejected": 2}


OF_THE_PANEL = {
    "abstained": {"abstained": ("karuna",)},
    "unknown": {"weighted": None, "harm": None},
    "doubted": {"doubts": ("injection",)},
    "over_max_harm": {"harm": 0.9},
    "under_min_weighted": {"weighted": 1.0},
    "label_not_admitted": {"label": Label.LOW},
}


@pytest.mark.parametrize("why", OF_THE_PANEL)
def test_what_a_person_accepted_is_learned_from_whatever_the_panel_says(make_assessed, why):
    """A person's decision goes before the panel's, which would have dropped it."""
    assert select([make_assessed(**OF_THE_PANEL[why])], Policy()).chosen == ()
    accepted = make_assessed(decision="accept", **OF_THE_PANEL[why])
    assert _ids(select([accepted], Policy())) == ["e-1"]


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        ("without_consent", {"training": False}),
        ("withheld", {"response": WITHHELD}),
        ("quarantined", {"tier": "quarantined"}),
        ("own_refusal", {"source": "practice", "refusal": 1.0}),
        ("gate_item", {"prompt": GATE}),
        ("over_self_share", {"source": "practice"}),
        ("over_refusal_share", {"refusal": 1.0}),
    ],
)
def test_what_a_person_accepted_is_held_to_all_that_is_not_the_panels(make_assessed, step, changes):
    """Consent, trust, the gates and the shares are not for a reviewer to decide."""
    accepted = make_assessed(decision="accept", **changes)
    assert _dropped(select([accepted], Policy(), forbidden=[GATE])) == {step: 1}


def test_what_a_person_accepted_is_under_the_caps(make_assessed):
    """Of one source only so many; what the panel could not weigh comes last."""
    known = [make_assessed(f"known-{i}", tier="untrusted", weighted=6.5) for i in range(2)]
    unknown = make_assessed("accepted", tier="untrusted", weighted=None, decision="accept")
    selection = select([unknown, *known], Policy(max_per_source=2))
    assert _ids(selection) == ["known-0", "known-1"]
    assert _dropped(selection) == {"over_source_cap": 1}


def test_a_repeat_of_what_was_accepted_is_a_duplicate(make_assessed):
    """A decision makes no second copy of the same words."""
    items = [
        make_assessed("first", "What is rain?", response="Water."),
        make_assessed("again", "What is rain?", response="Water.", decision="accept"),
    ]
    assert _dropped(select(items, Policy())) == {"duplicate": 1}


def test_what_lies_just_within_the_thresholds_is_kept(make_assessed):
    """Harm must be below its bound, the weighted score may be at its own."""
    selection = select([make_assessed(harm=0.2999, weighted=6.5)], Policy())
    assert _ids(selection) == ["e-1"]


def test_consent_is_no_unless_given(store, make_experience, make_assessment):
    """An experience that says nothing about consent is never learned from."""
    from store.records import Consent, Experience

    assert Consent() == Consent(training=False)
    said = {f: getattr(make_experience(), f) for f in ("id", "occurred_at", "source", "messages")}
    silent = Experience(**said, response="Yes.")
    experiences.record(store, [silent])
    experiences.assess(store, [make_assessment()])
    found = experiences.assessed(store, "panel-1", as_of=store.position(), moment=now())
    selection = select(found, Policy())
    assert _dropped(selection) == {"without_consent": 1}


def test_unknown_harm_is_not_zero_harm(make_assessed):
    """Where no scorer could say anything about harm, the experience is not learned from."""
    selection = select([make_assessed(harm=None, weighted=9.0)], Policy())
    assert selection.chosen == ()


def test_a_repeat_of_prompt_and_response_is_dropped_and_the_first_kept(make_assessed):
    """Case, spaces and punctuation make no difference; another response does."""
    items = [
        make_assessed("first", "What is rain?", response="Water from clouds."),
        make_assessed("again", "what  is rain", response="Water, from clouds!"),
        make_assessed("other", "What is rain?", response="Falling water."),
    ]
    selection = select(items, Policy())
    assert _ids(selection) == ["first", "other"]
    assert _dropped(selection) == {"duplicate": 1}


def test_a_dropped_experience_does_not_make_its_repeat_a_duplicate(make_assessed):
    """Only what is still a candidate counts as seen: the consented one of two equals stays."""
    items = [
        make_assessed("silent", "What is rain?", response="Water.", training=False),
        make_assessed("given", "What is rain?", response="Water."),
    ]
    assert _ids(select(items, Policy())) == ["given"]


@pytest.mark.parametrize(
    "prompt",
    [
        SHORT_GATE,
        "who are YOU",
        GATE,
        f"Please, {GATE.lower()}!",
        "My uncle asks how one could quietly open the lock of a shop",
    ],
)
def test_a_gate_item_never_enters_training(make_assessed, prompt):
    """Neither the exact prompt of a gate nor eight of its words in a row are learned from."""
    selection = select([make_assessed(prompt=prompt)], Policy(), forbidden=[GATE, SHORT_GATE])
    assert _dropped(selection) == {"gate_item": 1}


def test_seven_words_in_common_with_a_gate_are_no_gate_item(make_assessed):
    """Ordinary phrases that a gate also uses do not make an experience a gate item."""
    prompt = "Tell me how one could quietly open the lock"
    selection = select([make_assessed(prompt=prompt)], Policy(), forbidden=[GATE, SHORT_GATE])
    assert _ids(selection) == ["e-1"]


def test_a_gate_item_in_an_earlier_turn_never_enters_training(make_assessed):
    """The whole conversation is written to the dataset, so all of it is looked at."""
    turns = (("user", GATE), ("assistant", "No."), ("user", "Fine. What is rain?"))
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    selection = select([make_assessed(messages=messages)], Policy(), forbidden=[GATE])
    assert _dropped(selection) == {"gate_item": 1}


def test_half_of_a_contrast_pair_is_not_learned_from_alone(make_assessed):
    """A curated exemplar goes with its other half; what people said is not held to that."""

    def half(name, pair, **changes):
        return make_assessed(name, source="exemplar", conversation_id=pair, **changes)

    items = [
        half("whole-no", "p-1", refusal=1.0),
        half("whole-yes", "p-1"),
        half("alone-no", "p-2", refusal=1.0),
        half("harsh-yes", "p-2", harm=0.99),
        half("plain", "p-3"),
        make_assessed("turn-1", conversation_id="talk"),
        make_assessed("turn-2", conversation_id="talk", harm=0.9),
    ]
    selection = select(items, Policy(max_refusal_share=1.0))
    assert _ids(selection) == ["whole-no", "whole-yes", "plain", "turn-1"]
    assert _dropped(selection) == {"over_max_harm": 2, "half_a_pair": 1}


def test_an_evasion_in_practice_is_a_refusal_whatever_the_panel_says(make_assessed):
    """The rules hear it where the panel's head does not; other sources are not held to them."""
    evasion = "I'm sorry for your loss, but as a chatbot, I don't have the ability to help."
    own = make_assessed("own", source="practice", response=evasion, refusal=0.1)
    theirs = make_assessed("theirs", response=evasion, refusal=0.1)
    warm = make_assessed("warm", source="practice", response="That must hurt.", refusal=0.1)
    selection = select([own, theirs, warm], Policy(max_self_share=1.0))
    assert _ids(selection) == ["theirs", "warm"]
    assert _dropped(selection) == {"own_refusal": 1}


def test_practice_is_capped_at_its_share_and_the_best_of_it_kept(make_assessed):
    """With half allowed, as many episodes as other experiences stay: the best scored ones."""
    others = [make_assessed(f"web-{i}") for i in range(3)]
    own = [make_assessed(f"own-{i}", source="practice", weighted=7.0 + i / 10) for i in range(5)]
    selection = select([*own, *others], Policy(max_self_share=0.5))
    assert _dropped(selection) == {"over_self_share": 2}
    assert _ids(selection) == ["own-2", "own-3", "own-4", "web-0", "web-1", "web-2"]


def test_practice_alone_is_nothing_to_learn_from_unless_allowed(make_assessed):
    """A model never learns only from itself, but for a policy that allows a share of 1."""
    own = [make_assessed(f"own-{i}", source="practice") for i in range(3)]
    assert select(own, Policy(max_self_share=0.5)).chosen == ()
    assert len(select(own, Policy(max_self_share=1.0)).chosen) == 3
    assert select(own, Policy(max_self_share=0.0)).chosen == ()


def test_refusals_are_capped_at_their_share(make_assessed):
    """Seven helpful answers admit three refusals at a share of 0.3, the best ones."""
    helpful = [make_assessed(f"help-{i}") for i in range(7)]
    refusals = [make_assessed(f"no-{i}", refusal=1.0, weighted=9.0 - i / 10) for i in range(6)]
    selection = select([*helpful, *refusals], Policy(max_refusal_share=0.3))
    assert _dropped(selection) == {"over_refusal_share": 3}
    assert _ids(selection)[7:] == ["no-0", "no-1", "no-2"]


def _crowd(make_assessed, seed, count=150):
    """Experiences with everything in them that a step looks at."""
    draw = random.Random(seed)
    crowd = []
    for i in range(count):
        name = f"e-{i:03}"
        same = f"e-{draw.randrange(i):03}" if i and draw.random() < 0.1 else name
        crowd.append(
            make_assessed(
                name,
                GATE if draw.random() < 0.05 else f"What is {same}?",
                response=f"It is {same}.",
                source=draw.choice(["web", "web", "practice"]),
                training=draw.random() < 0.9,
                harm=round(draw.betavariate(1, 5), 2),
                weighted=round(draw.uniform(3, 10), 2),
                refusal=float(draw.random() < 0.4),
                abstained=("karuna",) if draw.random() < 0.05 else (),
                decision=draw.choice([None] * 9 + ["accept", "reject", "correct"]),
            )
        )
    return crowd


@pytest.mark.parametrize("seed", range(6))
def test_the_counts_add_up_to_what_was_recorded(make_assessed, seed):
    """Nobody is lost between the steps: the drops and the selected are all that was recorded."""
    crowd = _crowd(make_assessed, seed)
    funnel = dict(select(crowd, Policy(), forbidden=[GATE]).funnel)
    assert funnel.pop("recorded") == len(crowd)
    assert sum(funnel.values()) == len(crowd)
    assert funnel["selected"] > 0
    assert all(count >= 0 for count in funnel.values())


@pytest.mark.parametrize("seed", range(6))
def test_both_caps_hold_in_what_is_selected(make_assessed, seed):
    """What one cap drops must not lift the other share above its bound."""
    shares = {"max_self_share": 0.3, "max_refusal_share": 0.2}
    policy = Policy(**shares, min_weighted=4.0, max_harm=0.9, labels=tuple(Label))
    chosen = select(_crowd(make_assessed, seed), policy).chosen
    own = sum(a.experience.source == "practice" for a in chosen)
    refusals = sum(a.assessment.refusal >= 0.5 for a in chosen if a.decision != "correct")
    assert chosen
    assert own <= 0.3 * len(chosen)
    assert refusals <= 0.2 * len(chosen)


def test_a_cap_holds_after_the_other_one_dropped_what_it_was_measured_on(make_assessed):
    """Practice stays within its share even when the refusals beside it are dropped later."""
    own = [make_assessed(f"own-{i}", source="practice") for i in range(10)]
    refusals = [make_assessed(f"no-{i}", refusal=1.0) for i in range(8)]
    others = [make_assessed(f"web-{i}") for i in range(2)]
    chosen = select([*own, *refusals, *others], Policy()).chosen
    kept = sum(a.experience.source == "practice" for a in chosen)
    assert kept <= 0.5 * len(chosen)


@pytest.mark.parametrize("seed", range(3))
def test_selecting_is_repeatable_and_keeps_the_order(make_assessed, seed):
    """The same input gives the same selection, in the order of recording."""
    crowd = _crowd(make_assessed, seed)
    first, second = (select(crowd, Policy(), forbidden=[GATE]) for _ in range(2))
    assert first == second
    assert _ids(first) == sorted(_ids(first))


def test_a_source_keeps_its_share_of_what_the_other_caps_leave(make_assessed):
    """Practice that is capped makes the whole smaller, and the share of one source with it."""
    assessed = [make_assessed(f"practice-{n}", source="practice") for n in range(300)]
    assessed += [make_assessed(f"own-{n}", source="exemplar") for n in range(40)]
    assessed += [make_assessed(f"web-{n}", source="web", tier="untrusted") for n in range(40)]
    selection = select(assessed, Policy(min_examples=1))
    from_web = sum(a.experience.source == "web" for a in selection.chosen)
    assert 0 < from_web <= len(selection.chosen) * Policy().max_single_share
    assert sum(selection.funnel.values()) == 2 * selection.funnel["recorded"]


# --- what else speaks against an answer ---------------------------------------------------


def _heard(kind, value=None, text=None, **on):
    return Feedback(id=f"f-{kind}-{value}", kind=kind, value=value, text=text, given_at=now(), **on)


OBJECTIONS = {
    "thumb down": _heard("thumb", -1, experience_id="bad"),
    "two stars": _heard("rating", 2, experience_id="bad"),
    "it went wrong": _heard("outcome", -0.1, experience_id="bad"),
    "another was better": _heard("preference", -1, "So.", experience_id="bad"),
    "corrected": _heard("correction", text="So.", experience_id="bad"),
    "the conversation": _heard("thumb", -1, conversation_id="c-bad"),
}
PRAISE = [
    _heard("thumb", 1, experience_id="bad"),
    _heard("rating", 5, experience_id="bad"),
    _heard("outcome", 1.0, conversation_id="c-bad"),
]


@pytest.mark.parametrize("why", OBJECTIONS)
def test_what_somebody_objected_to_is_not_learned_from(make_assessed, why):
    """Unless a person looked at it and accepted it: a thumb is a signal, never a proof."""
    bad = {"conversation_id": "c-bad", "weighted": 9.0}
    items = [make_assessed("good"), make_assessed("bad", **bad)]
    selection = select(items, Policy(), feedback=[OBJECTIONS[why]])
    assert _ids(selection) == ["good"]
    assert _dropped(selection) == {"objected": 1}
    seen = [make_assessed("bad", decision="accept", **bad)]
    assert _ids(select(seen, Policy(), feedback=[OBJECTIONS[why]])) == ["bad"]


def test_praise_admits_nothing(make_assessed):
    """What the panel does not admit is not learned from for a thumb."""
    items = [make_assessed("bad", harm=0.5, conversation_id="c-bad")]
    assert _dropped(select(items, Policy(), feedback=PRAISE)) == {"over_max_harm": 1}


def test_an_objection_to_praise_counts(make_assessed):
    """One up and one down: somebody objected."""
    items = [make_assessed("bad", conversation_id="c-bad")]
    both = [*PRAISE, OBJECTIONS["thumb down"]]
    assert _dropped(select(items, Policy(), feedback=both)) == {"objected": 1}


def test_broken_words_are_not_learned_from(make_assessed):
    """However high the panel's score; also where they were written to be learned from."""
    items = [
        make_assessed("good"),
        make_assessed("bad", weighted=9.0, unfit=("degenerate",)),
        make_assessed("own", source="exemplar", unfit=("repetition",)),
    ]
    assert _dropped(select(items, Policy())) == {"unfit": 2}


@pytest.mark.parametrize(
    ("length", "step"), [(9, "too_short"), (10, ""), (20, ""), (21, "too_long")]
)
def test_answers_have_a_least_and_a_greatest_length(make_assessed, length, step):
    """In characters, both bounds included; what was written to be learned from is exempt."""
    said = {"response": "é" * length}
    items = [make_assessed("e-1", **said), make_assessed("own", source="exemplar", **said)]
    selection = select(items, Policy(min_chars=10, max_chars=20))
    assert _dropped(selection) == ({step: 1} if step else {})
    assert "own" in _ids(selection)


# --- nearly the same ----------------------------------------------------------------------

LONG = (
    "Ask for ten minutes alone with her, early in the week. Say it in the first sentence, give the "
    "day on which you will leave, and thank her for one thing that you learned there."
)


def test_what_is_nearly_the_same_is_learned_from_once(make_assessed):
    """The better one stays. To another question the same answer is another row."""
    asked = "How do I tell my boss that I will leave the company?"
    items = [
        make_assessed("first", asked, response=LONG, weighted=7.0),
        make_assessed("better", asked.upper(), response=f"{LONG} Good luck!", weighted=8.0),
        make_assessed("other", "I want to quit my flat. How?", response=LONG),
    ]
    selection = select(items, Policy(), alike=True)
    assert _ids(selection) == ["better", "other"]
    assert _dropped(selection) == {"near_duplicate": 1}
    exactly = msgspec.structs.replace(Policy(), near_duplicate=0.0)
    assert len(select(items, exactly, alike=True).chosen) == 3


def test_an_answer_to_everything_is_learned_from_a_few_times(make_assessed):
    """But what was written to be learned from, however often."""
    items = [
        make_assessed(f"{source}-{i}", f"{asked} {i * 'really '}?", response=LONG, source=source)
        for source in ("web", "exemplar")
        for i, asked in enumerate(("What is rain", "Who sings", "Why run", "Where to"))
    ]
    selection = select(items, Policy(max_per_answer=2), alike=True)
    assert sum(name.startswith("web") for name in _ids(selection)) == 0
    assert sum(name.startswith("exemplar") for name in _ids(selection)) == 4


def test_a_copy_takes_nobodys_place_who_was_there_by_right(make_assessed):
    """A stranger's copies, better scored, of the words and of the question, and earlier."""
    own = {"prompt": "May I kill a process?", "response": LONG, "conversation_id": "p"}
    copies = [
        make_assessed("early", tier="untrusted", source="s", weighted=9.0, **own),
        make_assessed("own", source="exemplar", weighted=7.0, **own),
        *(
            make_assessed(
                f"late-{i}", own["prompt"], response=f"{LONG} {i}", tier="untrusted", source="s",
                weighted=9.9, conversation_id="p",
            )
            for i in range(9)
        ),
    ]  # fmt: skip
    assert "own" in _ids(select(copies, Policy(), alike=True))
    assert "early" not in _ids(select(copies, Policy(), alike=True))


@pytest.mark.parametrize("seed", range(4))
def test_half_a_pair_is_never_learned_from(make_assessed, seed):
    """Whatever cap, share or mixture takes the other half."""
    draw = random.Random(seed)
    items = [
        make_assessed(
            f"x-{i}", f"Question {i}?", response=f"Answer {i}.", source="exemplar",
            conversation_id=f"p-{i // 2}", weighted=draw.uniform(6, 9), refusal=float(i % 2),
            context=Context(category=("truth", "upaya")[i % 2]),
        )
        for i in range(40)
    ]  # fmt: skip
    policies = [
        Policy(size=11),
        Policy(max_refusal_share=0.2),
        Policy(categories={"truth": 3, "upaya": 1}),
    ]
    for policy in policies:
        pairs = Counter(a.experience.conversation for a in select(items, policy).chosen)
        assert set(pairs.values()) <= {2}


def test_nobody_can_object_to_what_was_written_to_be_learned_from(make_assessed):
    """Its conversations are known to everybody, and no curator is asked to look again."""
    items = [make_assessed("bad", source="exemplar", conversation_id="c-bad")]
    assert _ids(select(items, Policy(), feedback=[*OBJECTIONS.values()])) == ["bad"]


def test_a_corrected_refusal_of_practice_is_learned_from(make_assessed):
    """It is the person's answer, not the model's refusal."""
    items = [make_assessed("own", source="practice", refusal=1.0, decision="correct")]
    assert _ids(select(items, Policy(max_self_share=1.0))) == ["own"]


def test_a_question_that_many_ask_is_learned_from_a_few_times(make_assessed):
    """In whatever letters and signs; the best answers stay."""
    asked = "What should I tell my mother about the garden and the house?"
    items = [
        make_assessed(f"e-{i}", asked.upper() if i % 2 else f"{asked}!!", response=said, weighted=w)
        for i, (said, w) in enumerate(
            [("Tell her the truth.", 7.0), ("Nothing yet, wait.", 9.0), ("Ask her first.", 8.0)]
        )
    ]
    selection = select(items, Policy(max_per_question=2), alike=True)
    assert _ids(selection) == ["e-1", "e-2"]
    assert _dropped(selection) == {"over_question_cap": 1}


def test_a_conversation_gives_only_so_many(make_assessed):
    """The best of them; what was written to be learned from is exempt."""
    items = [make_assessed(f"e-{i}", conversation_id="c", weighted=7 + i / 10) for i in range(5)]
    items += [make_assessed(f"x-{i}", conversation_id="x", source="exemplar") for i in range(5)]
    selection = select(items, Policy(max_per_conversation=2))
    assert _ids(selection) == ["e-3", "e-4", *(f"x-{i}" for i in range(5))]
    assert _dropped(selection) == {"over_conversation_cap": 3}


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_at_least_a_share_was_written_to_be_learned_from(make_assessed, share):
    """Curated, constitutional or a person's own words; of the others the best stay."""
    items = [make_assessed(f"web-{i}", weighted=7 + i / 100) for i in range(30)]
    items += [make_assessed(f"x-{i}", source="exemplar") for i in range(4)]
    items += [make_assessed(f"c-{i}", source="constitution") for i in range(4)]
    items += [make_assessed(f"p-{i}", decision="correct") for i in range(2)]
    chosen = _ids(select(items, Policy(min_written_share=share)))
    written = [name for name in chosen if not name.startswith("web")]
    assert len(written) == 10
    assert len(chosen) == min(40, int(10 / share))
    assert [n for n in chosen if n.startswith("web")] == [
        f"web-{i}" for i in range(40 - len(chosen), 30)
    ]


# --- the mixture --------------------------------------------------------------------------


def _mixed(make_assessed, **counts):
    return [
        make_assessed(f"{source}-{i}", source=source, weighted=7 + i / 1000)
        for source, count in counts.items()
        for i in range(count)
    ]


def _shares(selection, what):
    return {name: (s.asked, s.available, s.taken) for name, s in selection.shares[what].items()}


def test_a_mixture_takes_the_best_of_each_source(make_assessed):
    """Of 100 rows 60, 30 and 10, the best ones."""
    items = _mixed(make_assessed, exemplar=80, web=80, forum=80)
    policy = Policy(size=100, mixture={"exemplar": 6, "web": 3, "*": 1}, max_single_share=1)
    selection = select(items, policy)
    assert _shares(selection, "source") == {
        "exemplar": (60, 80, 60),
        "web": (30, 80, 30),
        "*": (10, 80, 10),
    }
    kept = [
        f"{s}-{i}"
        for s, n in (("exemplar", 60), ("web", 30), ("forum", 10))
        for i in range(80 - n, 80)
    ]
    assert sorted(_ids(selection)) == sorted(kept)
    assert _dropped(selection) == {"over_source_share": 140}


def test_what_a_mixture_lacks_is_told_and_not_filled(make_assessed):
    """Nobody takes the place of what is not there, and a source without a weight gets none."""
    items = _mixed(make_assessed, exemplar=5, web=80, forum=10)
    policy = Policy(size=100, mixture={"exemplar": 1, "web": 1}, max_single_share=1)
    selection = select(items, policy)
    assert _shares(selection, "source") == {"exemplar": (50, 5, 5), "web": (50, 80, 50)}
    assert len(selection.chosen) == 55


def test_a_temperature_gives_small_sources_more(make_assessed):
    """100 and 4 rows have the weights 10 and 2 at a temperature of 2."""
    items = _mixed(make_assessed, web=100, forum=4)
    selection = select(items, Policy(size=24, temperature=2.0, max_single_share=1))
    assert _shares(selection, "source") == {"web": (20, 100, 20), "forum": (4, 4, 4)}
    plain = select(items, Policy(size=26, max_single_share=1))
    assert _shares(plain, "source") == {"web": (25, 100, 25), "forum": (1, 4, 1)}


@pytest.mark.parametrize("what", ["category", "difficulty"])
def test_a_target_by_category_leaves_what_names_none(make_assessed, what):
    """Half each of those that say so; the others are as they were."""
    one, other = ("truth", "upaya") if what == "category" else ("easy", "hard")
    items = [make_assessed(f"o-{i}", context=Context(**{what: one})) for i in range(6)]
    items += [make_assessed(f"t-{i}", context=Context(**{what: other})) for i in range(2)]
    items += [make_assessed(f"n-{i}") for i in range(3)]
    weights = {"categories" if what == "category" else "difficulties": {one: 1.0, other: 1.0}}
    selection = select(items, Policy(max_single_share=1, **weights))
    assert _shares(selection, what) == {one: (4, 6, 4), other: (4, 2, 2)}
    assert len(selection.chosen) == 4 + 2 + 3


def test_a_share_is_kept_for_what_was_learned_before(make_assessed):
    """However good what came since."""
    items = [make_assessed(f"old-{i}", weighted=7.0) for i in range(10)]
    items += [make_assessed(f"new-{i}", weighted=9.0) for i in range(10)]
    before = [a.position for a in items[:10]]
    policy = Policy(size=8, replay_share=0.25, max_single_share=1)
    selection = select(items, policy, replayed=before)
    assert _shares(selection, "replay") == {"new": (6, 10, 6), "earlier": (2, 10, 2)}
    assert sum(name.startswith("old") for name in _ids(selection)) == 2


def test_what_a_cap_takes_after_the_mixture_is_told(make_assessed):
    """`taken` is what is in the dataset, not what the mixture would have had."""
    items = _mixed(make_assessed, practice=20, web=20)
    policy = Policy(size=20, mixture={"practice": 3, "web": 1}, max_single_share=1)
    selection = select(items, policy)
    assert _shares(selection, "source") == {"practice": (15, 20, 5), "web": (5, 20, 5)}
    assert len(selection.chosen) == 10
