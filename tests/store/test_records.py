"""The nouns: what they refuse, and what stays the same whatever way it was written."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from store.records import (
    Experience,
    Feedback,
    Message,
    Policy,
    digest,
    new_id,
    to_json,
)

EXPERIENCE = {
    "id": "e-1",
    "occurred_at": "2026-01-02T03:04:05Z",
    "source": "web",
    "messages": [{"role": "user", "content": "Hello"}],
    "response": "Good morning",
}
FEEDBACK = {"id": "f", "experience_id": "e-1", "given_at": "2026-01-02T03:04:05Z"}


def test_a_plain_experience_is_accepted_without_consent():
    """Consent to training is no unless somebody said yes."""
    experience = msgspec.convert(EXPERIENCE, Experience)
    assert experience.consent.training is False
    assert experience.conversation == "e-1"
    assert experience.last_user_turn == "Hello"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"occurred_at": "2026-01-02T03:04:05"}, "timezone"),
        ({"nonsense": 1}, "unknown field `nonsense`"),
        ({"context": {"moood": "calm"}}, r"unknown field `moood` - at `\$.context`"),
        ({"consent": {"training": "yes"}}, r"`bool`.*consent.training"),
        ({"id": ""}, "regex"),
        ({"id": "a/b"}, "regex"),
        ({"id": "a" * 129}, "regex"),
        ({"id": "a\n"}, "regex"),
        ({"messages": []}, "length >= 1"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"messages\[0\].role"),
        ({"response": ""}, "length >= 1"),
        ({"response": "x" * 65_537}, "length <= 65536"),
    ],
)
def test_what_does_not_fit_is_refused(changes, reason):
    """Naive times, unknown fields, bad ids, empty or too long texts are named in the error."""
    with pytest.raises(msgspec.ValidationError, match=reason):
        msgspec.convert(EXPERIENCE | changes, Experience)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -0.01, 1.01])
def test_a_policy_out_of_bounds_is_refused(number):
    """A threshold outside its range, or no number at all, never becomes a policy."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"max_harm": number}, Policy)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"kind": "thumb", "value": 1}, None),
        ({"kind": "thumb", "value": -1}, None),
        ({"kind": "thumb", "value": 0}, "/value"),
        ({"kind": "thumb"}, "/value"),
        ({"kind": "rating", "value": 5}, None),
        ({"kind": "rating", "value": 0}, "/value"),
        ({"kind": "rating", "value": 2.5}, "/value"),
        ({"kind": "rating"}, "/value"),
        ({"kind": "comment", "text": "Thank you"}, None),
        ({"kind": "comment"}, "/text"),
        ({"kind": "correction", "text": "Better so"}, None),
        ({"kind": "correction", "value": 1}, "/text"),
        ({"kind": "preference", "text": "The other", "value": -1}, None),
        ({"kind": "preference", "value": 1}, "/text"),
        ({"kind": "preference", "text": "The other"}, "/value"),
        ({"kind": "preference", "text": "The other", "value": 0.5}, "/value"),
        ({"kind": "outcome", "value": 0.25}, None),
        ({"kind": "outcome", "value": -1}, None),
        ({"kind": "outcome", "value": 1.01}, "/value"),
        ({"kind": "outcome"}, "/value"),
    ],
)
def test_feedback_names_what_its_kind_lacks(fields, pointer):
    """Value and text must fit the kind; the fault is a pointer and a reason, or None."""
    fault = msgspec.convert(FEEDBACK | fields, Feedback).fault()
    assert (fault and fault[0]) == pointer
    assert fault is None or fields["kind"] in fault[1]


def test_the_json_form_is_canonical():
    """Order of keys and spelling of defaults do not change the bytes or the digest."""
    one = msgspec.convert(EXPERIENCE | {"metadata": {"a": 1, "b": 2}, "context": {}}, Experience)
    two = msgspec.convert(EXPERIENCE | {"metadata": {"b": 2, "a": 1}}, Experience)
    assert to_json(one) == to_json(two)
    assert digest(one) == digest(two)
    assert msgspec.json.decode(to_json(one), type=Experience) == two


def test_whole_numbers_of_64_bits_survive_and_larger_ones_are_refused():
    """What JSON readers and both databases hold comes back; the rest is refused by its place."""
    metadata = {"big": 2**63 - 1, "small": -(2**63), "half": 0.5, "none": None}
    experience = msgspec.convert(EXPERIENCE | {"metadata": metadata}, Experience)
    assert msgspec.json.decode(to_json(experience), type=Experience).metadata == metadata
    for beyond in (2**63, -(2**63) - 1):
        with pytest.raises(msgspec.ValidationError, match="metadata"):
            msgspec.convert(EXPERIENCE | {"metadata": {"n": beyond}}, Experience)


def test_the_last_user_turn_is_what_the_response_answers():
    """System and assistant turns after it do not count; without a user turn it is empty."""
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("system", "four")]
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    experience = Experience(id="e", occurred_at=moment, source="s", messages=messages, response="r")
    assert experience.last_user_turn == "three"
    alone = msgspec.structs.replace(experience, messages=messages[-1:])
    assert alone.last_user_turn == ""


def test_new_ids_are_unique_and_valid():
    """Ids made here are ones that a client might use."""
    made = {new_id("run") for _ in range(1000)}
    assert len(made) == 1000
    for name in made:
        msgspec.convert(EXPERIENCE | {"id": name}, Experience)
