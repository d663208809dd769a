"""Redaction of what is stored: every text of a noun, by the rules of its source, or no words.

What is found in a text is told in test_personal.py.
"""

from __future__ import annotations

import tomllib

import msgspec
import pytest

from store import redaction
from store.errors import Rejected
from store.records import Context, Experience, Feedback, Message, to_json
from store.redaction import (
    KINDS,
    WITHHELD,
    RedactionRules,
    RedactionSettings,
    redact,
    without_words,
)

RULES = RedactionRules()


# --- nouns --------------------------------------------------------------------------------


def test_every_text_of_an_experience_is_redacted(make_experience):
    """Messages, response, facts, critical information, mood and the metadata's texts."""
    experience = make_experience(
        messages=(
            Message(role="system", content="You are kind."),
            Message(role="user", content="I'm anna@example.org"),
        ),
        response="Call +49 170 1234567.",
        context=Context(
            mood="reachable at anna@example.org",
            facts=("Lives at 203.0.113.7.", "Bakes."),
            critical_info=("IBAN DE89370400440532013000",),
            difficulty="hard",
        ),
        metadata={"note": "password=hunter2", "n": 3, "ok": True, "none": None},
    )

    redacted, counts = redact(experience, RULES)

    assert [message.content for message in redacted.messages] == ["You are kind.", "I'm [email]"]
    assert redacted.messages[0] is experience.messages[0]
    assert redacted.response == "Call [phone]."
    assert redacted.context == Context(
        mood="reachable at [email]",
        facts=("Lives at [ip].", "Bakes."),
        critical_info=("IBAN [iban]",),
        difficulty="hard",
    )
    assert redacted.metadata == {"note": "password=[secret]", "n": 3, "ok": True, "none": None}
    assert counts == {"email": 2, "phone": 1, "ip": 1, "iban": 1, "secret": 1}


def test_a_noun_without_personal_data_comes_back_itself(make_experience):
    """No copy is made of what stays as it is, worth a look or not."""
    plain = make_experience()
    looked_at = make_experience(response="It was on 2026-11-21 09:00.", metadata={"a": "b"})

    assert redact(plain, RULES) == (plain, {})
    assert redact(plain, RULES).value is plain
    assert redact(looked_at, RULES).value is looked_at


def test_what_says_which_record_it_is_stays(make_experience):
    """Ids, subject, source, model and metadata's keys are not redacted."""
    named = make_experience(
        "0170-1234567",
        prompt="Hello anna@example.org",
        response="Hello.",
        subject="0170-7654321",
        conversation_id="203.0.113.7",
        model="anna@example.org",
        source="anna@example.org",
        metadata={"anna@example.org": 1},
    )

    redacted = redact(named, RULES).value

    assert redacted == msgspec.structs.replace(
        named, messages=(Message(role="user", content="Hello [email]"),)
    )


def test_feedback_is_redacted():
    """Its text; a thumb without text stays the same object."""
    thumb = msgspec.convert(
        {"id": "f", "experience_id": "e", "kind": "thumb", "given_at": "2026-01-02T03:04:05Z"},
        Feedback,
    )
    comment = msgspec.structs.replace(thumb, kind="comment", text="ask anna@example.org")

    assert redact(thumb, RULES).value is thumb
    assert redact(comment, RULES).value.text == "ask [email]"
    assert redact(comment, RULES).counts == {"email": 1}


def test_what_fails_is_not_swallowed(make_experience, monkeypatch):
    """Fail closed: the caller learns of it, and stores nothing."""

    def broken(text):
        raise RuntimeError("no detector")

    monkeypatch.setattr(redaction, "CHAIN", ((lambda _: True, (("email", broken),)),))

    with pytest.raises(RuntimeError, match="no detector"):
        redact(make_experience(prompt="Hello anna@example.org"), RULES)


def test_a_text_that_grows_over_its_limit_is_refused(make_experience):
    """The store could not read it again."""
    experience = make_experience(response="a@b.co " * 9000)

    with pytest.raises(Rejected, match=r"65536.*response"):
        redact(experience, RULES)


# --- without words ------------------------------------------------------------------------


def test_without_words_only_shape_and_lengths_remain(make_experience):
    """No word of what was said is left, and it is still an experience."""
    experience = make_experience(
        prompt="secretive sentence",
        response="confidential answer",
        context=Context(mood="gloomy", facts=("fired", "ill"), category="compassion"),
        metadata={"page": "diary", "n": 3},
    )

    bare = redact(experience, RedactionRules(content="withhold")).value

    assert msgspec.json.decode(to_json(bare), type=Experience) == bare
    assert {message.content for message in bare.messages} == {bare.response} == {WITHHELD}
    assert bare.context == Context(mood=WITHHELD, facts=(WITHHELD, WITHHELD), category="compassion")
    assert bare.metadata == {"page": WITHHELD, "n": 3, "messages_chars": 18, "response_chars": 19}
    assert (bare.id, bare.source, bare.consent) == ("e-1", "web", experience.consent)
    words = ("secretive", "sentence", "confidential", "gloomy", "fired", "diary")
    assert not any(word.encode() in to_json(bare) for word in words)


def test_withholding_twice_changes_nothing_more(make_experience):
    """The lengths stay those of what was said."""
    bare = without_words(make_experience(prompt="Hello there"))

    assert without_words(bare) is bare
    assert bare.metadata["messages_chars"] == 11


def test_feedback_without_words_keeps_its_value():
    """A rating is not a word."""
    given = msgspec.convert(
        {
            "id": "f",
            "experience_id": "e",
            "kind": "preference",
            "given_at": "2026-01-02T03:04:05Z",
            "value": 1,
            "text": "the other answer",
        },
        Feedback,
    )

    bare = without_words(given)

    assert (bare.value, bare.text, bare.fault()) == (1, WITHHELD, None)


# --- rules --------------------------------------------------------------------------------


def settings(toml: str) -> RedactionSettings:
    """As the configuration reads them."""
    return msgspec.convert(tomllib.loads(toml)["redaction"], RedactionSettings)


def test_by_default_every_kind_is_replaced_and_words_are_kept():
    """An empty section is the strictest that keeps the words."""
    assert settings("[redaction]").rules_for("web") == RedactionRules(kinds=KINDS, content="keep")


def test_a_source_has_the_rules_for_all_but_for_what_it_says_itself():
    """A source that only names its kinds does not begin to store words by that."""
    ours = settings(
        """
        [redaction]
        content = "withhold"
        [redaction.sources.web]
        kinds = ["email"]
        [redaction.sources.exemplar]
        kinds = []
        content = "keep"
        """
    )

    assert ours.rules_for("web") == RedactionRules(kinds=("email",), content="withhold")
    assert ours.rules_for("exemplar") == RedactionRules(kinds=(), content="keep")
    assert ours.rules_for("app") == RedactionRules(content="withhold")


@pytest.mark.parametrize("toml", ['kinds = ["mail"]', 'content = "drop"', 'kind = ["email"]'])
def test_a_wrong_rule_is_refused(toml):
    """An unknown kind would silently redact nothing."""
    with pytest.raises(msgspec.ValidationError):
        settings(f"[redaction]\n{toml}")


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        (redaction.WITHHELD, True),
        (" [email]\n[phone] ", True),
        (" ", True),
        ("Write to [email].", False),
        ("[note]", False),
        ("withheld", False),
        ("👍", False),
    ],
)
def test_a_text_is_bare_when_nothing_is_left_of_its_words(text, bare):
    """What stands for words is none of them."""
    assert redaction.is_bare(text) is bare


def test_what_is_left_of_personal_data_alone_is_bare():
    """Whatever its kind."""
    assert redaction.is_bare(redaction.redact_text("anna.berg@example.org").value)
