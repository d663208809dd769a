"""What a client may ask, and what of it is heeded, refused or ignored. No model is needed."""

from __future__ import annotations

import json

import pytest

from daemon.chat.request import read, wishes
from daemon.chat.settings import ServingSettings
from daemon.problems import Problem

SETTINGS = ServingSettings(most_tokens=100, most_messages=3)


def _body(**fields):
    good = {"model": "bhavana", "messages": [{"role": "user", "content": "Hello"}]}
    return json.dumps({k: v for k, v in (good | fields).items() if v != "absent"}).encode()


def _asked(**fields):
    return read(_body(**fields), SETTINGS)[0]


def _wishes(headers=None, **fields):
    given = {name.lower().encode(): text.encode() for name, text in (headers or {}).items()}
    return wishes(read(_body(**fields), SETTINGS)[1], given)


def test_what_is_left_out_is_as_the_gates_heard_it():
    """Greedy, as long as is allowed, and whole."""
    asked = _asked()
    assert (asked.temperature, asked.most_tokens, asked.stream) == (0.0, 100, False)
    assert (asked.seed, asked.stop, asked.top_p) == (None, (), 1.0)


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 8, "max_tokens": 7}, 8),
        ({"max_tokens": 5000}, 100),
        ({"max_tokens": None}, 100),
    ],
)
def test_an_answer_is_as_long_as_both_sides_allow(fields, tokens):
    """The newer name goes before the older one; the operator's bound before both."""
    assert _asked(**fields).most_tokens == tokens


def test_messages_may_come_in_parts_and_by_a_developer():
    """Parts of text are one text; a developer speaks as the system did before."""
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    turns = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    found = [(m.role, m.content) for m in _asked(messages=turns).messages]
    assert found == [("system", "Be brief."), ("user", "Hello")]


def test_what_is_not_known_is_ignored():
    """Clients send fields that are newer than we are."""
    assert _asked(service_tier="flex", reasoning_effort="low", x=[{}]).messages
    turn = {"role": "user", "content": "Hello", "name": "Ada"}
    assert _asked(messages=[turn]).messages[0].content == "Hello"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function"}]},
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"logit_bias": {"5": 1}},
        {"modalities": ["text", "audio"]},
    ],
)
def test_what_would_make_another_answer_is_refused_by_name(fields):
    """Rather than to answer as if it had not been asked."""
    with pytest.raises(Problem) as refused:
        _asked(**fields)
    assert refused.value.code == "unsupported_parameter"
    assert refused.value.pointer == f"/{next(iter(fields))}"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": []},
        {"n": 1},
        {"response_format": {"type": "text"}},
        {"logprobs": False},
        {"tools": None, "stop": None, "metadata": None},
    ],
)
def test_asking_for_nothing_by_name_is_no_fault(fields):
    """Clients write defaults out."""
    assert _asked(**fields)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"messages": []}, "/messages"),
        ({"messages": "Hello"}, "/messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": None}]}, "/messages/0/content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": "x" * 65_537}]}, "/messages/0/content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}]},
            "/messages/0/content/0/type",
        ),
        ({"messages": [{"role": "user", "content": "x"}] * 4}, "/messages"),
        ({"model": "absent"}, ""),
        ({"temperature": 2.1}, "/temperature"),
        ({"temperature": "hot"}, "/temperature"),
        ({"top_p": 0}, "/top_p"),
        ({"max_tokens": 0}, "/max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "/stop"),
        ({"stop": ""}, "/stop"),
        ({"seed": 2**63}, "/seed"),
        ({"stream": "yes"}, "/stream"),
        ({"metadata": {"a": 1}}, "/metadata"),
    ],
)
def test_a_faulty_request_says_where(fields, pointer):
    """A 400 with the place of the fault."""
    with pytest.raises(Problem) as refused:
        _asked(**fields)
    assert (refused.value.status, refused.value.pointer) == (400, pointer)


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"x"', b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(body):
    """Whatever it is, it is the client's fault."""
    with pytest.raises(Problem) as refused:
        read(body, SETTINGS)
    assert refused.value.status == 400


def test_any_seed_is_one_that_repeats():
    """Also a negative one, and that which would mean to llama.cpp: draw one."""
    assert _asked(seed=-1).seed == 2**32 - 2
    assert _asked(seed=2**32 - 1).seed == 0


def test_nobody_is_taken_to_agree_who_did_not_say_so():
    """No header, no consent; other words, no consent."""
    assert not _wishes().agreed
    assert not _wishes({"Bhavana-Consent": "no"}).agreed
    assert not _wishes({"Bhavana-Consent": "policy=2026-01"}).agreed


def test_consent_names_the_text_that_was_agreed_to():
    """By header, or in the body's metadata; the header goes before it."""
    by_header = _wishes({"Bhavana-Consent": "training; policy=2026-01"})
    by_body = _wishes(metadata={"consent": "training;policy=2026-01"})
    both = _wishes({"Bhavana-Consent": "no"}, metadata={"consent": "training"})
    assert (by_header.agreed, by_header.policy) == (by_body.agreed, by_body.policy)
    assert (by_header.agreed, by_header.policy) == (True, "2026-01")
    assert not both.agreed


def test_who_asks_may_be_said_in_three_ways():
    """The header goes before metadata, and both before OpenAI's `user`."""
    assert _wishes(user="u-1").subject == "u-1"
    assert _wishes(user="u-1", metadata={"subject": "u-2"}).subject == "u-2"
    found = _wishes({"Bhavana-Subject": "u-3", "Bhavana-Conversation": "c-1"}, user="u-1")
    assert (found.subject, found.conversation) == ("u-3", "c-1")


def test_a_name_is_no_pseudonym():
    """What could be a name or an address is refused, not stored."""
    with pytest.raises(Problem) as refused:
        _wishes(user="Ada Lovelace")
    assert refused.value.pointer == "/subject"


def test_store_false_is_a_wish_not_to_be_recorded():
    """OpenAI's own word for it."""
    assert _wishes(store=False).unrecorded
    assert not _wishes(store=True).unrecorded
    assert not _wishes().unrecorded
