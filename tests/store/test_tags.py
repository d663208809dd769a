"""Tags: put on, taken off, counted, and erased with what they are on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from store import experiences, privacy, tags
from store.errors import NotFound, Rejected
from store.records import Tagging, new_id
from store.verify import verify

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


def _tag(store, name, tag, *, on=True):
    tagging = Tagging(
        id=new_id("tagging"),
        experience_id=name,
        tag=tag,
        on=on,
        reviewer="anna",
        tagged_at=MOMENT,
    )
    return tags.record(store, tagging, actor="test")


def _on(store, *names):
    with store.reading.connect() as connection:
        return tags.standing(connection, names)


def _tagged_with(store, tag):
    with store.reading.connect() as connection:
        return sorted(connection.execute(tags.tagged_with(tag)).scalars())


@pytest.fixture
def kept(store, make_experience):
    """Three experiences, the first two of one conversation."""
    some = [make_experience(f"e-{n}", conversation_id="talk") for n in (1, 2)]
    experiences.record(store, [*some, make_experience("e-3")])
    return store


def test_tags_stand_until_they_are_taken_off(kept):
    """The newest word on each tag counts; others are not touched."""
    for name, tag in (("e-1", "grief"), ("e-1", "a"), ("e-2", "grief"), ("e-3", "Überzeugung")):
        assert _tag(kept, name, tag).status == "recorded"
    assert _on(kept, "e-1", "e-2") == {"e-1": ("a", "grief"), "e-2": ("grief",)}
    _tag(kept, "e-1", "grief", on=False)
    assert _on(kept, "e-1", "e-2") == {"e-1": ("a",), "e-2": ("grief",)}
    assert tags.count(kept) == {"a": 1, "grief": 1, "Überzeugung": 1}
    assert _tagged_with(kept, "grief") == ["e-2"]
    _tag(kept, "e-1", "grief")
    assert _tagged_with(kept, "grief") == ["e-1", "e-2"]


def test_a_tag_that_is_on_already_is_no_event(kept):
    """So that a repeated word is no decision."""
    _tag(kept, "e-1", "grief")
    before = kept.position()
    assert _tag(kept, "e-1", "grief") is None
    assert kept.position() == before


def test_what_is_not_there_is_not_tagged(kept):
    """Neither what never came nor what was erased; and no tag is taken off that is not on."""
    privacy.erase(kept, "experience", "e-3", reason="asked", actor="test")
    for name in ("e-3", "never"):
        with pytest.raises(NotFound, match=name):
            _tag(kept, name, "grief")
    with pytest.raises(NotFound, match="no tag 'grief'"):
        _tag(kept, "e-1", "grief", on=False)


@pytest.mark.parametrize("tag", ["", "two words", "a\n", "-a", "x" * 65])
def test_a_tag_is_one_word(kept, tag):
    """Of at most 64 characters; a wrong one is refused with what is right."""
    with pytest.raises(Rejected, match="one word"):
        _tag(kept, "e-1", tag)
    assert tags.count(kept) == {}


def test_a_store_with_tags_verifies_and_can_be_rebuilt(kept):
    """The table follows from the log."""
    _tag(kept, "e-1", "grief")
    _tag(kept, "e-1", "grief", on=False)
    assert verify(kept).faults == ()
    before = kept.projections_digest()
    kept.rebuild()
    assert kept.projections_digest() == before


@pytest.mark.parametrize(("scope", "name"), [("experience", "e-1"), ("conversation", "talk")])
def test_erasing_takes_tags(kept, scope, name):
    """Those that were taken off, too; not those on other experiences."""
    _tag(kept, "e-1", "grief")
    _tag(kept, "e-1", "grief", on=False)
    _tag(kept, "e-3", "grief")
    found = privacy.find(kept, scope, name)
    assert len(found.tags) == 2
    privacy.erase(kept, scope, name, reason="asked", actor="test")
    assert tags.count(kept) == {"grief": 1}
    assert verify(kept).faults == ()
    left = [e for e in kept.follow(types=["experience.tagged"]) if e.body != b"null"]
    assert [b"e-3" in e.body for e in left] == [True]
