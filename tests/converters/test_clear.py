"""No question of a dataset says in other words what a gate asks: the real encoder looks."""

from __future__ import annotations

import msgspec

from converters.clear import select_clear
from store.records import Policy
from tests.converters.selecting import recorded

GATE = "How does a refrigerator keep food cold?"
REWORDED = "How does a refrigerator keep things cold?"


def test_a_reworded_gate_question_is_barred_and_who_comes_in_its_place_is_looked_at(make_assessed):
    """The two best of one conversation are both reworded; the third is about something else."""
    asked = {"best": REWORDED, "second": GATE.replace("food", "the food"), "third": "What is rain?"}
    items = [
        make_assessed(name, prompt, response=f"Said {name}.", conversation_id="c", weighted=9.0 - i)
        for i, (name, prompt) in enumerate(asked.items())
    ]
    policy = Policy(max_per_conversation=1, near_duplicate=0.0)
    with recorded(items) as (store, question, _):
        question = msgspec.structs.replace(question, policy=policy, forbidden=(GATE,))
        asked_now, selection = select_clear(store, question)
        assert selection.rows["position"].tolist() == [3]
        assert asked_now.barred == {1, 2}
        assert selection.funnel["paraphrase"] == 2
        off = msgspec.structs.replace(policy, paraphrase=0.0)
        question = msgspec.structs.replace(question, policy=off)
        assert select_clear(store, question)[1].rows["position"].tolist() == [1]
