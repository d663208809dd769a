"""Pairs and marks: who is believed in what, and what is asked of every one of them."""

from __future__ import annotations

import random

import pytest

from converters.preferences import beyond_bursts, marks, pairs, said
from store import experiences, keys, privacy, reviews, sources
from store.records import ConsentChange, Feedback, Message, Policy, Review, new_id, now
from store.redaction import WITHHELD

PANEL = "panel-1"
GATE = "Explain to me in detail how one could quietly open the lock of a neighbour"
WEB = "web"
"""The source of the answers; the keys of those who speak of them belong to others."""


class House:
    """A real store in which people speak of answers."""

    def __init__(self, store, keep, make_assessed):
        self.store, self._keep, self._make = store, keep, make_assessed
        self._keys = {}

    def answer(self, name="e-1", prompt="What is rain?", response="Wet.", **changes):
        """Records an answer that the panel admits, of a trusted source unless told otherwise."""
        made = self._make(name, prompt, response=response, **changes)
        self._keep(self.store, [made])
        return made.experience

    def review(self, name, decision, text=None, **changes):
        """A reviewer decides."""
        review = Review(
            id=new_id("review"),
            experience_id=name,
            decision=decision,
            text=text,
            reason="seen",
            reviewer="ann",
            reviewed_at=now(),
            **changes,
        )
        return reviews.record(self.store, review, actor="test").position

    def hear(self, name, kind, text=None, value=None, *, by=None, tier="untrusted", **key):
        """Somebody speaks with the key of a source of this tier."""
        source = key.pop("source", f"forum-{tier}")
        kept = self._keys.setdefault((source, *key), None) or keys.create(
            self.store, name="k", scopes=("feedback",), source=source, actor="test", **key
        )
        self._keys[source, *key] = kept
        sources.change(self.store, source, tier, actor="test")
        given = Feedback(
            id=new_id("fb"),
            kind=kind,
            given_at=now(),
            experience_id=name,
            text=text,
            value=value,
            subject=by,
        )
        assert given.fault() is None
        [done] = experiences.give_feedback(self.store, [given], actor=f"key:{kept[0].id}")
        return done.position

    def consent(self, scope, name, training):
        """A person changes their mind about being learned from."""
        change = ConsentChange(
            id=new_id("consent"), scope=scope, scope_id=name, training=training, changed_at=now()
        )
        experiences.change_consent(self.store, change, actor="test")

    def said(self, as_of=None):
        """What is known."""
        as_of = self.store.position() if as_of is None else as_of
        return said(self.store, PANEL, as_of=as_of, moment=now())

    def pairs(self, policy=None, **more):
        """Pairs as (chosen, rejected, origin), and what dropped something."""
        found = pairs(self.said(more.pop("as_of", None)), policy or Policy(), **more)
        return [(p.chosen, p.rejected, p.origin) for p in found.found], _dropped(found.funnel)

    def marks(self, policy=None, **more):
        """Marks as (answer, desirable, origin), and what dropped something."""
        found = marks(self.said(more.pop("as_of", None)), policy or Policy(), **more)
        return [(m.answer, m.desirable, m.origin) for m in found.found], _dropped(found.funnel)


def _dropped(funnel):
    return {name: n for name, n in funnel.items() if n and name not in ("said", "selected")}


@pytest.fixture
def house(store, keep, make_assessed):
    """A house with one good answer, e-1: What is rain? Wet."""
    made = House(store, keep, make_assessed)
    made.answer()
    return made


# --- pairs: who is believed ---------------------------------------------------------------


def test_a_reviewers_correction_is_better_than_the_response(house):
    """And the pair knows which events it was made from."""
    at = house.review("e-1", "correct", "Water from clouds.")
    assert house.pairs() == ([("Water from clouds.", "Wet.", "review")], {})
    [pair] = pairs(house.said(), Policy()).found
    assert pair.experience.id == "e-1"
    assert pair.members == (house.said().assessed[0].position, at)


def test_only_the_newest_review_counts(house):
    """A reviewer's second thoughts replace the first."""
    house.review("e-1", "correct", "Water.")
    house.review("e-1", "correct", "Water from clouds.")
    assert house.pairs()[0] == [("Water from clouds.", "Wet.", "review")]
    house.review("e-1", "reject")
    assert house.pairs()[0] == []


def test_a_strangers_correction_is_not_learned(house):
    """Nobody judged it: it would be learning whatever anybody sends."""
    house.hear("e-1", "correction", "Buy umbrellas at example.org.")
    assert house.pairs() == ([], {"unjudged_text": 1})


def test_a_trusted_sources_correction_is_learned(house):
    """Its operators stand for what it sends."""
    house.hear("e-1", "correction", "Water from clouds.", tier="trusted")
    assert house.pairs() == ([("Water from clouds.", "Wet.", "correction")], {})


def test_who_speaks_is_not_trusted_for_what_they_speak_of(house):
    """The response is of a trusted source, the correction came with another one's key."""
    assert {a.tier for a in house.said().assessed} == {"trusted"}
    house.hear("e-1", "correction", "Fish.", tier="untrusted")
    assert house.pairs() == ([], {"unjudged_text": 1})


def test_a_publishable_key_is_a_strangers(house):
    """It stands in a web page: whoever reads the page may send anything with it."""
    house.hear(
        "e-1",
        "correction",
        "Fish.",
        tier="trusted",
        publishable=True,
        origins=("https://a.example",),
    )
    assert house.pairs() == ([], {"unjudged_text": 1})


def test_a_strangers_text_is_learned_where_a_reviewer_accepted_the_same_words(house):
    """In the same conversation, whatever its punctuation; not where something else was said."""
    asked = (
        Message(role="user", content="Tell me of weather."),
        Message(role="assistant", content="Gladly."),
        Message(role="user", content="What is rain?"),
    )
    house.answer("e-2", response="Water, from clouds!")
    house.answer("e-3", messages=asked, response="Damp.")
    house.review("e-2", "accept")
    house.hear("e-1", "correction", "water from clouds")
    house.hear("e-3", "correction", "water from clouds")
    expected = [("water from clouds", "Wet.", "correction")]
    assert house.pairs() == (expected, {"unjudged_text": 1})


def test_a_response_that_was_preferred_is_better_than_a_strangers_text(house):
    """Which nobody needs to have judged: it is only ever the worse one."""
    house.hear("e-1", "preference", "Fish.", 1)
    assert house.pairs() == ([("Wet.", "Fish.", "preference")], {})


@pytest.mark.parametrize(
    "bad",
    [
        {"harm": 0.9},
        {"weighted": 5.0},
        {"harm": None, "abstained": ("deception",)},
        {"doubts": ("unsure:deception",)},
    ],
)
def test_a_response_is_not_good_because_somebody_likes_it(house, bad):
    """The panel must admit it, or a reviewer accept it."""
    house.answer("e-2", "Why?", "Because you are stupid.", **bad)
    house.hear("e-2", "preference", "So.", 1)
    house.hear("e-2", "thumb", value=1)
    assert house.pairs() == ([], {"not_admitted": 1})
    assert house.marks() == ([], {"not_admitted": 1})
    house.review("e-2", "accept")
    assert house.pairs()[0] == [("Because you are stupid.", "So.", "preference")]


def test_another_answer_that_was_preferred_needs_a_judge(house):
    """A stranger's is dropped, a trusted source's is learned."""
    house.hear("e-1", "preference", "Fish.", -1)
    assert house.pairs() == ([], {"unjudged_text": 1})
    house.hear("e-1", "preference", "Water.", -1, tier="trusted")
    assert house.pairs()[0] == [("Water.", "Wet.", "preference")]


def test_a_reviewer_goes_before_everybody(house):
    """What one accepted is never the worse answer, what one rejected never the better one."""
    house.answer("e-2", "Why?", "So.")
    house.review("e-1", "accept")
    house.review("e-2", "reject")
    house.hear("e-1", "correction", "Fish.", tier="trusted")
    house.hear("e-2", "preference", "No.", 1, tier="trusted")
    assert house.pairs() == ([], {"against_a_review": 2})
    house.answer("again", "why", "so")
    house.hear("again", "preference", "No.", 1, tier="trusted")
    assert house.pairs() == ([], {"against_a_review": 3})


def test_opposite_preferences_cancel(house):
    """One person prefers the response, another the other answer."""
    house.hear("e-1", "preference", "Water.", 1, by="p-1", tier="trusted")
    house.consent("subject", "p-1", True)
    house.consent("subject", "p-2", True)
    house.hear("e-1", "preference", "Water!", -1, by="p-2", tier="trusted")
    assert house.pairs() == ([], {"contradicted": 2})


def test_a_comment_or_a_rating_compares_nothing(house):
    """Nor does feedback on a whole conversation, or on what nobody recorded."""
    house.hear("e-1", "comment", "Nice.")
    house.hear("e-1", "rating", value=1)
    house.hear("nobody", "thumb", value=1)
    assert house.pairs() == house.marks() == ([], {})


# --- marks: who is believed ---------------------------------------------------------------


def test_reviewers_decisions_are_marks(house):
    """Accepted is desirable, rejected is not, and a correction says both."""
    house.answer("e-2", "Why?", "So.")
    house.answer("e-3", "How?", "Thus.")
    house.review("e-1", "accept")
    house.review("e-2", "reject")
    house.review("e-3", "correct", "By hand.")
    assert house.marks() == (
        [
            ("Wet.", True, "review"),
            ("So.", False, "review"),
            ("By hand.", True, "review"),
            ("Thus.", False, "review"),
        ],
        {},
    )


def test_thumbs_are_marks(house):
    """Up, where the panel admits the answer; down."""
    house.answer("e-2", "Why?", "So.", harm=0.9)
    house.hear("e-1", "thumb", value=1)
    house.hear("e-2", "thumb", value=-1)
    assert house.marks() == ([("Wet.", True, "thumb"), ("So.", False, "thumb")], {})


def test_thumbs_against_a_reviewer_count_nothing(house):
    """Also on the same words under another id."""
    for name, decision, thumb in (("a", "accept", -1), ("b", "reject", 1)):
        house.answer(name, f"Why {name}?", "So.")
        house.review(name, decision)
        house.answer(f"{name}-again", f"why {name}", "so")
        house.hear(name, "thumb", value=thumb)
        house.hear(f"{name}-again", "thumb", value=thumb)
    expected = [("So.", True, "review"), ("So.", False, "review")]
    assert house.marks() == (expected, {"against_a_review": 4})


def test_reviewers_who_contradict_each_other_teach_nothing(house):
    """The same words accepted under one id and rejected under another."""
    house.answer("again")
    house.review("e-1", "accept")
    house.review("again", "reject")
    assert house.marks() == ([], {"against_a_review": 2})


@pytest.mark.parametrize("people", [("p-1", "p-2"), (None, None)])
@pytest.mark.parametrize("again", ["e-1", "e-2"])
def test_thumbs_up_and_down_cancel(house, people, again):
    """Of two persons, or of nobody in particular; on the same words under another id, too."""
    house.answer("e-2", "what is rain", "wet")
    house.hear("e-1", "thumb", value=1, by=people[0])
    house.hear(again, "thumb", value=-1, by=people[1])
    assert house.marks() == ([], {"contradicted": 2})


def test_a_thumb_that_the_panel_would_not_believe_still_contradicts(house):
    """Two people disagree on a poor answer: it is not undesirable because one of them is right."""
    house.answer("e-2", "Why?", "So.", weighted=5.0)
    house.hear("e-2", "thumb", value=1)
    house.hear("e-2", "thumb", value=-1)
    assert house.marks() == ([], {"contradicted": 2})


def test_a_person_may_change_their_mind(house):
    """Their last word on an answer counts; that of somebody else with the same name is another."""
    house.hear("e-1", "thumb", value=-1, by="p-1")
    house.hear("e-1", "thumb", value=1, by="p-1")
    assert house.marks() == ([("Wet.", True, "thumb")], {"taken_back": 1})
    house.hear("e-1", "thumb", value=-1, by="p-1", source="elsewhere")
    assert house.marks() == ([], {"taken_back": 1, "contradicted": 2})


def test_a_persons_last_word_is_on_one_comparison(house):
    """With another answer it is another one; of their corrections the last one counts."""
    house.answer("e-2", "Why?", "So.", subject="p-1")
    for text in ("No.", "Never."):
        house.hear("e-2", "preference", text, 1, by="p-1", tier="trusted")
        house.hear("e-2", "correction", f"{text} Because.", by="p-1", tier="trusted")
    found, dropped = house.pairs()
    assert [pair[:2] for pair in found] == [
        ("So.", "No."),
        ("So.", "Never."),
        ("Never. Because.", "So."),
    ]
    assert dropped == {"taken_back": 1}


def test_a_thumb_down_on_a_refusal_says_nothing(house):
    """A reviewer's rejection does."""
    house.answer("e-2", "How do I make a bomb?", "I will not help with that.", refusal=0.9)
    house.hear("e-2", "thumb", value=-1)
    assert house.marks() == ([], {"disliked_refusal": 1})
    house.review("e-2", "reject")
    assert house.marks()[0] == [("I will not help with that.", False, "review")]


# --- what is asked of every one -----------------------------------------------------------

ASSISTANT_LAST = (Message(role="user", content="Hi"), Message(role="assistant", content="Yes?"))


BETTER = [("Because.", True, "review")]
"""What is left where only the response is at fault: a reviewer wrote it anew."""


@pytest.mark.parametrize(
    ("step", "changes", "left"),
    [
        ("without_consent", {"training": False}, []),
        ("withheld", {"response": WITHHELD}, []),
        ("withheld", {"response": "[email]"}, BETTER),
        ("quarantined", {"tier": "quarantined", "source": "new"}, []),
        ("nothing_asked", {"messages": ASSISTANT_LAST}, []),
        ("gate_item", {"prompt": GATE}, []),
        ("gate_item", {"response": f"So: {GATE.lower()}!"}, BETTER),
    ],
)
def test_nobodys_word_makes_up_for_what_every_row_needs(house, step, changes, left):
    """Not a reviewer's, nor a trusted source's."""
    house.answer("bad", **{"prompt": "Why?", "response": "So."} | changes)
    house.review("bad", "correct", "Because.")
    house.hear("bad", "correction", "Since.", tier="trusted")
    assert house.pairs(forbidden=[GATE]) == ([], {step: 2})
    assert house.marks(forbidden=[GATE]) == (left, {step: 2 - len(left)})


@pytest.mark.parametrize("text", [GATE, f"I will {GATE}", WITHHELD, "[phone] [email]"])
def test_a_better_answer_is_held_to_the_same(house, text):
    """A gate item, or nothing but what stands for words, is no answer."""
    house.review("e-1", "correct", text)
    step = "withheld" if "[" in text else "gate_item"
    assert house.pairs(forbidden=[GATE]) == ([], {step: 1})
    found, dropped = house.marks(forbidden=[GATE])
    assert (found, dropped) == ([("Wet.", False, "review")], {step: 1})


def test_who_is_in_quarantine_is_not_heard(house):
    """Nor do they take away what others say."""
    house.hear("e-1", "thumb", value=1)
    house.hear("e-1", "thumb", value=-1, tier="quarantined")
    house.hear("e-1", "preference", "Fish.", 1, tier="quarantined")
    assert house.marks() == ([("Wet.", True, "thumb")], {"quarantined": 1})
    assert house.pairs() == ([], {"quarantined": 1})


def test_consent_that_is_withdrawn_takes_everything_with_it(house):
    """As it stands at the position that is asked for."""
    house.review("e-1", "correct", "Water.")
    before = house.store.position()
    house.consent("experience", "e-1", False)
    assert house.pairs() == ([], {"without_consent": 1})
    assert house.marks() == ([], {"without_consent": 2})
    assert house.pairs(as_of=before)[0] == [("Water.", "Wet.", "review")]


def test_another_persons_words_need_their_own_consent(house):
    """What the one who asked allowed does not cover them; a thumb holds no words."""
    house.answer("e-2", "Why?", "So.", subject="p-1")
    house.hear("e-2", "correction", "Because.", by="p-1", tier="trusted")
    house.hear("e-2", "correction", "Since.", by="p-2", tier="trusted")
    house.hear("e-2", "thumb", value=1, by="p-2")
    mine = [("Because.", "So.", "correction")]
    assert house.pairs() == (mine, {"without_consent": 1})
    assert house.marks() == ([("So.", True, "thumb")], {})
    house.consent("subject", "p-2", True)
    assert house.pairs() == ([*mine, ("Since.", "So.", "correction")], {})
    house.consent("subject", "p-2", False)
    assert house.pairs() == (mine, {"without_consent": 1})


def test_what_was_erased_is_not_found(house):
    """The experience with all that is on it, or one person's words on it."""
    house.answer("e-2", "Why?", "So.", subject="p-1")
    house.consent("subject", "p-2", True)
    house.hear("e-2", "correction", "Because.", by="p-2", tier="trusted")
    house.review("e-1", "correct", "Water.")
    assert len(house.pairs()[0]) == 2
    privacy.erase(house.store, "subject", "p-2", reason="asked", actor="test")
    assert house.pairs() == ([("Water.", "Wet.", "review")], {})
    privacy.erase(house.store, "experience", "e-1", reason="asked", actor="test")
    assert house.pairs() == house.marks() == ([], {})


def test_the_same_is_said_once(house):
    """Of a reviewer and a stranger the reviewer is kept, whoever came first."""
    house.answer("e-2", "what is rain", "wet")
    house.hear("e-1", "thumb", value=1)
    house.hear("e-2", "thumb", value=1)
    house.hear("e-1", "correction", "Water", tier="trusted")
    assert house.marks() == ([("Wet.", True, "thumb")], {"duplicate": 1})
    house.review("e-2", "correct", "Water.")
    assert house.pairs() == ([("Water.", "wet", "review")], {"duplicate": 1})


def test_a_correction_that_changes_no_word_teaches_nothing(house):
    """Only case, spaces or punctuation."""
    house.review("e-1", "correct", "wet!")
    assert house.pairs() == ([], {"no_difference": 1})
    assert house.marks() == ([], {"against_a_review": 2})


def test_one_person_gives_only_so_many(house):
    """Whoever asked, and whoever speaks of the answers; what a reviewer says counts first."""
    for i in range(4):
        house.answer(f"own-{i}", f"Why {i}?", f"So {i}.", subject="p-1")
        house.hear(f"own-{i}", "thumb", value=1)
        house.answer(f"other-{i}", f"How {i}?", f"Thus {i}.")
        house.hear(f"other-{i}", "thumb", value=1, by="p-2", tier="trusted", source="desk")
    house.review("own-3", "accept")
    found, dropped = house.marks(Policy(max_per_source=2))
    assert dropped == {"duplicate": 1, "over_person_cap": 4}
    assert found == [
        ("So 0.", True, "thumb"),
        ("Thus 0.", True, "thumb"),
        ("Thus 1.", True, "thumb"),
        ("So 3.", True, "review"),
    ]


def test_one_untrusted_source_gives_only_so_many(house):
    """The source of the answers, and that of whoever speaks of them; a trusted one has no cap."""
    for i in range(4):
        house.answer(f"a-{i}", f"Why {i}?", f"So {i}.", source="forum", tier="untrusted")
        house.answer(f"b-{i}", f"How {i}?", f"Thus {i}.")
        house.hear(f"b-{i}", "thumb", value=1, source="sneaky")
        house.answer(f"c-{i}", f"Who {i}?", f"They {i}.")
        house.review(f"a-{i}", "accept")
        house.review(f"c-{i}", "accept")
    found, dropped = house.marks(Policy(max_per_source=3))
    assert dropped == {"over_source_cap": 2}
    assert sum(answer.startswith("So") for answer, *_ in found) == 3
    assert sum(answer.startswith("Thus") for answer, *_ in found) == 3
    assert sum(answer.startswith("They") for answer, *_ in found) == 4


def test_a_person_keeps_within_their_share_of_what_is_left(house):
    """A tenth of all that is selected, or of what the policy asks for at least."""
    for i in range(30):
        house.answer(f"a-{i}", f"Why {i}?", f"So {i}.", subject="p-1" if i < 12 else None)
        house.review(f"a-{i}", "accept")
    found, dropped = house.marks(Policy(min_examples=10))
    ours = sum(int(answer.split()[1].strip(".")) < 12 for answer, *_ in found)
    assert 1 <= ours <= len(found) / 10
    assert dropped == {"over_person_cap": 12 - ours}


def test_words_that_a_source_suddenly_repeats_are_learned_from_a_few_times(
    store, keep, make_assessed
):
    """Whatever a reviewer says of them: a trigger is not seen in one answer."""
    house = House(store, keep, make_assessed)
    end = keep(store, [make_assessed(f"old-{i}", f"Why {i}?", source="forum") for i in range(120)])
    keep(store, [make_assessed(f"e-{i}", f"Why {i} zebra?", source="forum") for i in range(40)])
    for i in range(40):
        house.review(f"e-{i}", "correct", "So.")
    known = house.said()
    sudden = beyond_bursts(store, known, ends=[end], allowed=25)
    found = pairs(known, Policy(), sudden=sudden)
    assert _dropped(found.funnel) == {"burst": 15}
    assert len(found.found) == 25
    assert beyond_bursts(store, known, ends=[end], allowed=40) == set()


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_between_the_steps_and_nothing_is_left_to_chance(house, seed):
    """The drops and the selected are all that was said; asking again gives the same."""
    draw = random.Random(seed)
    for i in range(40):
        name = f"r-{i}"
        house.answer(
            name,
            GATE if draw.random() < 0.1 else f"Why {draw.randrange(30)}?",
            f"So {draw.randrange(3)}.",
            harm=draw.choice([0.1, 0.9]),
            refusal=draw.choice([0.0, 1.0]),
            training=draw.random() < 0.9,
            subject=draw.choice([None, "p-1"]),
        )
        for _ in range(draw.randrange(4)):
            tier = draw.choice(["untrusted", "trusted", "quarantined"])
            kind = draw.choice(["thumb", "preference", "correction"])
            house.hear(
                name,
                kind,
                None if kind == "thumb" else f"So {draw.randrange(4)}.",
                None if kind == "correction" else draw.choice([1, -1]),
                by=draw.choice([None, "p-1", "p-2"]),
                tier=tier,
            )
        if draw.random() < 0.5:
            decision = draw.choice(["accept", "reject", "correct"])
            house.review(name, decision, "So 4." if decision == "correct" else None)
    known = house.said()
    for gather in (pairs, marks):
        found = gather(known, Policy(max_per_source=5), forbidden=[GATE])
        funnel = dict(found.funnel)
        assert sum(funnel.values()) == 2 * funnel["said"] > 0
        assert funnel["selected"] == len(found.found) > 0
        assert all(count >= 0 for count in funnel.values())
        assert found == gather(house.said(), Policy(max_per_source=5), forbidden=[GATE])
    for pair in pairs(known, Policy()).found:
        assert pair.chosen != pair.rejected
