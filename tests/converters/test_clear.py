"""No question of a dataset says in other words what a gate asks: the real encoder looks."""

from __future__ import annotations

import msgspec

from converters.clear import select_clear
from store.records import Message, Policy
from tests.converters.selecting import recorded

GATE = "How does a refrigerator keep food cold?"
REWORDED = "How does a refrigerator keep things cold?"


def _selected(items, policy):
    with recorded(items) as (store, question, _):
        question = msgspec.structs.replace(question, policy=policy, forbidden=(GATE,))
        selection = select_clear(store, question)
        return selection.rows["position"].tolist(), selection.funnel


def test_who_rewords_a_gate_question_is_dropped_and_nobody_comes_unseen_in_their_place(
    make_assessed,
):
    """However many ask it; in an earlier turn, too; what asks something else stays."""
    earlier = (
        Message(role="user", content=REWORDED),
        Message(role="assistant", content="One moment."),
        Message(role="user", content="Say it, please."),
    )
    items = [
        *(make_assessed(f"same-{i}", REWORDED, response=f"By {i} pumps.") for i in range(5)),
        make_assessed("turn", messages=earlier, response="A pump moves heat."),
        make_assessed("rain", "What is rain?", response="Water."),
    ]
    policy = Policy(max_per_question=2, near_duplicate=0.0)
    chosen, funnel = _selected(items, policy)
    assert chosen == [7]
    assert (funnel["over_question_cap"], funnel["paraphrase"]) == (3, 3)
    off = msgspec.structs.replace(policy, paraphrase=0.0)
    assert len(_selected(items, off)[0]) == 4
