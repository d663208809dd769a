"""The policy in the log: each change once, with who, why and what it changed."""

from __future__ import annotations

import msgspec

from store import policies
from store.log import Fact
from store.policies import Values
from store.records import Policy

STRICT = Policy(max_harm=0.1)


def test_a_policy_is_recorded_only_when_it_differs(store):
    """The same policy leaves no event; going back to an earlier one leaves another."""
    assert policies.newest(store) is None
    assert policies.change(store, Policy(), reason="begin")
    assert not policies.change(store, Policy(), reason="again")
    assert policies.change(store, STRICT, reason="less harm", actor="cli:anna")
    assert policies.newest(store).policy == STRICT
    assert policies.change(store, Policy(), reason="back")
    assert store.position() == 3


def test_every_change_is_told_with_who_why_and_what(store):
    """The first one is compared with the defaults, the others with the one before."""
    policies.change(store, STRICT, reason="less harm", actor="cli:anna")
    policies.change(store, Policy(max_harm=0.1, size=9), reason="smaller")
    first, second = policies.changes(store)
    assert (first.actor, first.reason) == ("cli:anna", "less harm")
    assert first.changed == {"max_harm": Values(before=0.3, after=0.1)}
    assert (second.actor, second.reason) == ("bhavana", "smaller")
    assert second.changed == {"size": Values(before=0, after=9)}
    assert first.recorded_at <= second.recorded_at


def test_a_policy_that_was_recorded_before_there_were_reasons_is_read(store):
    """Such an event holds the policy alone."""
    store.append_one(Fact(type="policy.changed", stream="policy", key="policy/0", noun=STRICT))
    found = policies.newest(store)
    assert (found.policy, found.reason) == (STRICT, "")
    assert not policies.change(store, STRICT, reason="the same")


def test_the_difference_names_what_differs():
    """And nothing where nothing does."""
    assert policies.difference(Policy(), Policy()) == {}
    changed = msgspec.structs.replace(Policy(), mixture={"web": 1.0})
    assert policies.difference(Policy(), changed) == {
        "mixture": Values(before={}, after={"web": 1.0})
    }
