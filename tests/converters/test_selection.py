"""The funnel: each step drops what it should, and every drop is counted once."""

from __future__ import annotations

import random

import pytest

from store import experiences
from store.records import Label, Message, Policy, now
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
