"""What every import of the roster promises, and what each format holds."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from converters import FORMATS
from converters.formats.format import Example
from converters.imports import IMPORTS
from converters.imports.exchange import UNDATED, Unreadable, experience, named
from converters.imports.files import read
from store.errors import Rejected
from store.records import Consent, Experience

NO = Consent()
TALK = (
    ("user", "Why is the heron still?"),
    ("assistant", "It waits.\nFor “fish” 🐟."),
    ("user", "How long?"),
    ("assistant", "As long as it takes."),
)
Documents = dict[str, Any]


def _messages(talk: Any) -> Documents:
    said = [{"role": role, "content": text} for role, text in talk]
    return {"messages": said, "metadata": {"category": "truth", "rating": 4}}


def _sharegpt(talk: Any) -> Documents:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {
        "id": "row_1",
        "conversations": [{"from": names[role], "value": text} for role, text in talk],
    }


def _openwebui(talk: Any) -> Documents:
    messages: Documents = {}
    for at, (role, text) in enumerate(talk):
        messages[f"m{at}"] = {
            "id": f"m{at}",
            "parentId": f"m{at - 1}" if at else None,
            "childrenIds": [],
            "role": role,
            "content": text,
            "timestamp": 1_700_000_000 + at,
            "model": "llama3:8b",
        }
    history = {"messages": messages, "currentId": f"m{len(talk) - 1}" if talk else None}
    return {"id": "chat-1", "user_id": "person-7", "chat": {"title": "t", "history": history}}


def _librechat(talk: Any) -> Documents:
    first = "00000000-0000-0000-0000-000000000000"
    said = [
        {
            "messageId": f"m{at}",
            "parentMessageId": f"m{at - 1}" if at else first,
            "sender": "User" if role == "user" else "GPT",
            "text": text,
            "isCreatedByUser": role == "user",
            "createdAt": f"2024-03-01T10:00:0{at % 10}.000Z",
            "error": False,
        }
        for at, (role, text) in enumerate(talk)
    ]
    return {"conversationId": "libre-1", "title": "t", "messages": said}


WRITERS = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "openwebui": _openwebui,
    "librechat": _librechat,
}


@pytest.fixture(params=sorted(IMPORTS))
def name(request: pytest.FixtureRequest) -> str:
    """The name of an import."""
    found: str = request.param
    return found


def _said(e: Experience) -> list[tuple[str, str]]:
    return [*((m.role, m.content) for m in e.messages), ("assistant", e.response)]


def _experiences(document: Documents, name: str = "auto", source: str = "old") -> list[Experience]:
    """The experiences of a document that can be read."""
    chosen = (
        next(one for one in IMPORTS.values() if one.fits(document))
        if name == "auto"
        else IMPORTS[name]
    )
    return [named(experience(e, source=source, consent=NO)) for e in chosen.read(document)]


def test_each_answer_to_the_user_is_an_experience(name: str) -> None:
    """With all that was said before it, to the character; nobody consents."""
    first, second = _experiences(WRITERS[name](TALK), name)
    assert _said(first) == list(TALK[:2])
    assert _said(second) == list(TALK)
    assert first.conversation_id == second.conversation_id
    assert {first.source, second.source} == {"old"}
    assert not first.consent.training


def test_what_is_no_answer_to_the_user_is_none(name: str) -> None:
    """A greeting, a second answer in a row, silence, a question that nobody answered."""
    talk = (
        ("assistant", "Welcome."),
        ("user", "One?"),
        ("assistant", "First."),
        ("assistant", "And more."),
        ("user", "Two?"),
        ("assistant", " \n"),
        ("user", "Three?"),
    )
    [only] = _experiences(WRITERS[name](talk), name)
    assert _said(only) == list(talk[:3])
    assert _experiences(WRITERS[name](()), name) == []


def test_an_import_knows_its_own_and_no_other(name: str) -> None:
    """So that `auto` finds the right one."""
    document = WRITERS[name](TALK)
    assert next(other for other, one in IMPORTS.items() if one.fits(document)) == name
    assert not IMPORTS[name].fits({"other": 1})


def test_the_same_document_gives_the_same_experiences(name: str) -> None:
    """Whatever is appended later; another source, or other words, give others."""
    document = WRITERS[name](TALK)
    again = WRITERS[name]((*TALK, ("user", "Thanks."), ("assistant", "Gladly.")))
    before = _experiences(document, name)
    assert _experiences(again, name)[:2] == before
    ids = {e.id for e in before}
    assert ids.isdisjoint(e.id for e in _experiences(document, name, source="other"))
    changed = WRITERS[name]((*TALK[:3], ("assistant", "Not long.")))
    assert [e.id in ids for e in _experiences(changed, name)] == [True, False]


def test_documents_may_be_lines_or_one_piece(name: str, tmp_path: Any) -> None:
    """JSON lines, a list, or one object over several lines; with the mark some programs write."""
    documents = [WRITERS[name](TALK), WRITERS[name](TALK[:2])]
    expected = [_experiences(document, name) for document in documents]
    path = tmp_path / "f"
    written = {
        "line": "\n\n".join(json.dumps(d) for d in documents) + "\n",
        "item": json.dumps(documents, indent=1),
        "mark": "\ufeff" + json.dumps(documents),
    }
    for text in written.values():
        path.write_text(text, encoding="utf-8")
        found = list(read(path, source="old", consent=NO))
        assert [list(map(named, one.experiences)) for one in found] == expected
        assert [one.fault for one in found] == [None, None]
    path.write_text(json.dumps(documents[0], indent=2))
    [found_one] = read(path, format=name, source="old", consent=NO)
    assert (found_one.place, list(map(named, found_one.experiences))) == (
        "the document",
        expected[0],
    )


BROKEN = [None, 3, "text", [], [3], {}, [{}], [None], {"role": "user"}, [{"role": ["user"]}]]


@pytest.mark.parametrize("value", BROKEN, ids=str)
def test_a_broken_document_is_unreadable_and_no_traceback(name: str, value: Any) -> None:
    """Wherever it is broken: read as what is left, or refused in words."""
    whole = WRITERS[name](TALK)
    for path in _paths(whole):
        document = copy.deepcopy(whole)
        place = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        if IMPORTS[name].fits(document):
            with suppress(Unreadable):
                assert all(isinstance(e, Experience) for e in _experiences(document, name))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, ...]] = []
    for step, child in items:
        found.append((*path, step))
        if isinstance(child, dict | list):
            found += _paths(child, (*path, step))
    return found


def test_says_what_it_is(name: str) -> None:
    """In one line, for `bhavana import --help`; and this contract can write it."""
    assert IMPORTS[name].about
    assert "\n" not in IMPORTS[name].about
    assert name in WRITERS


# --- one by one ---------------------------------------------------------------------------


def test_rows_of_our_own_datasets_come_back() -> None:
    """With their words and conversation, as other experiences than those they were made from."""
    row = {
        "id": "e-1",
        "conversation": "talk-1",
        "messages": [{"role": r, "content": c} for r, c in TALK[:2]],
        "source": "web",
        "category": "truth",
        "difficulty": "",
    }
    written = FORMATS["chat"].write([FORMATS["chat"].row(Example(row))])  # type: ignore[arg-type]
    [found] = _experiences(json.loads(written))
    assert _said(found) == list(TALK[:2])
    assert (found.conversation_id, found.source) == ("talk-1", "old")
    assert (found.context.category, found.context.difficulty) == ("truth", None)
    assert found.occurred_at == UNDATED


def test_messages_keep_what_is_known_of_them() -> None:
    """Model, time and category where they are ours, the rest as metadata."""
    document = _messages(TALK[:2]) | {
        "created_at": "2024-05-01T12:00:00+02:00",
        "model": "gpt-x",
        "difficulty": "unheard of",
        "metadata": {"category": "upaya", "scores": {"harm": 0.1}, "n": None},
    }
    [found] = _experiences(document)
    assert found.occurred_at == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert (found.model, found.context.category) == ("gpt-x", "upaya")
    assert found.metadata == {"scores": '{"harm":0.1}', "n": None, "difficulty": "unheard of"}


def test_a_response_beside_the_messages_is_the_last_answer() -> None:
    """As frontends post it."""
    document = {"messages": [{"role": "user", "content": "Why?"}], "response": "Because."}
    [found] = _experiences(document)
    assert _said(found) == [("user", "Why?"), ("assistant", "Because.")]


def test_parts_of_a_message_are_text_or_it_is_unreadable() -> None:
    """An answer to a picture that nobody kept teaches nothing; thoughts were not said."""
    parts = [{"type": "reasoning", "text": "Hm."}, {"type": "text", "text": "Because."}]
    document = {"messages": [{"role": "user", "content": "Why?"}], "response": parts}
    assert _experiences(document)[0].response == "Because."
    document["messages"] = [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]
    with pytest.raises(Unreadable, match="image_url"):
        _experiences(document)


def test_sharegpt_may_have_a_system_prompt_beside() -> None:
    """It is said first; who speaks besides is refused."""
    [found] = _experiences(_sharegpt(TALK[:2]) | {"system": "Be brief."})
    assert _said(found)[0] == ("system", "Be brief.")
    with pytest.raises(Unreadable, match="'observation'"):
        _experiences({"conversations": [{"from": "observation", "value": "x"}]})


def test_open_webui_is_read_along_the_current_branch() -> None:
    """An answer that was made again and left is not there; whose chat it is, and when, is."""
    document = _openwebui(TALK[:2])
    said = document["chat"]["history"]["messages"]
    said["left"] = said["m1"] | {"id": "left", "content": "An answer that was left."}
    [found] = _experiences(document)
    assert _said(found) == list(TALK[:2])
    assert (found.conversation_id, found.subject) == ("chat-1", "person-7")
    assert found.model == "llama3:8b"
    assert found.occurred_at == datetime.fromtimestamp(1_700_000_001, UTC)
    document["chat"]["params"] = {"system": "Be brief."}
    assert _said(_experiences(document)[0])[0] == ("system", "Be brief.")
    said["m0"]["parentId"] = "m1"
    with pytest.raises(Unreadable, match="ancestor"):
        _experiences(document)


def test_librechat_is_read_along_every_branch() -> None:
    """Each answer once, after what was said on its own branch; nested or flat, it is the same."""
    flat = _librechat(TALK)
    other = flat["messages"][1] | {"messageId": "other", "text": "It sleeps."}
    flat["messages"].append(other)
    found = _experiences(flat)
    assert sorted(e.response for e in found) == sorted([TALK[1][1], TALK[3][1], "It sleeps."])
    asleep = next(e for e in found if e.response == "It sleeps.")
    assert asleep.messages == found[0].messages
    m0, m1, m2, m3, other = copy.deepcopy(flat["messages"])
    for one in (m0, m1, m2, m3, other):
        del one["parentMessageId"]
    m0["children"], m1["children"], m2["children"] = [m1, other], [m2], [m3]
    nested = flat | {"messages": [m0]}
    assert sorted(e.id for e in _experiences(nested)) == sorted(e.id for e in found)


def test_librechat_without_parents_is_read_as_it_stands() -> None:
    """And an error that was shown is no answer."""
    document = _librechat(TALK)
    for one in document["messages"]:
        del one["parentMessageId"]
    assert _said(_experiences(document)[1]) == list(TALK)
    document["messages"][3]["error"] = True
    assert [_said(e) for e in _experiences(document)] == [list(TALK[:2])]
    document["messages"][1]["content"] = [{"type": "text", "text": {"value": "In parts."}}]
    document["messages"][1]["text"] = ""
    assert _experiences(document)[0].response == "In parts."


def test_what_opens_alike_and_is_answered_alike_is_one_conversation() -> None:
    """Where none is named; another answer begins another one."""
    longer, other = TALK, (TALK[0], ("assistant", "It sleeps."))
    names = [_experiences(_sharegpt(t))[-1].conversation_id for t in (TALK[:2], longer, other)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('{"messages": []}\n{"messages": [}\n[]\n', {"line 2": "JSON", "line 3": "object"}),
        ("nonsense\n", {"line 1": "JSON"}),
        ('nonsense\n{"messages": []}\n', {"line 1": "JSON"}),
        ('{"messages": []}\n{"else": 1}\n', {"line 2": "any format"}),
        ('[{"messages": []},\n {"messages": 3}]', {"item 2": "not a list"}),
        ('{"a": "\\ud800"}\n', {"line 1": "JSON"}),
        ("[" * 100_000, {"line 1": "JSON"}),
        (b"\xff\xfe\n", {"line 1": "JSON"}),
        ("", {}),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Any, text: str | bytes, faults: Any) -> None:
    """And what is sound beside it is read."""
    path = tmp_path / "f.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = list(read(path, source="old", consent=NO))
    told = {one.place: one.fault for one in found if one.fault is not None}
    assert told.keys() == faults.keys()
    assert all(word in told[place] for place, word in faults.items())


def test_a_text_that_is_too_long_is_a_fault(tmp_path: Any) -> None:
    """Of its place alone, with what is allowed."""
    path = tmp_path / "f.jsonl"
    long = _sharegpt((("user", "Why?"), ("assistant", "x" * 65_537)))
    path.write_text(f"{json.dumps(long)}\n{json.dumps(_sharegpt(TALK))}\n")
    first, second = read(path, source="old", consent=NO)
    assert first.fault is not None
    assert "65536" in first.fault
    assert len(second.experiences) == 2


def test_a_file_that_cannot_be_read_is_told(tmp_path: Any) -> None:
    """And a format that nobody knows, with those that there are."""
    with pytest.raises(Rejected, match="cannot be read"):
        list(read(tmp_path / "none", source="old", consent=NO))
    with pytest.raises(Rejected, match="openwebui"):
        list(read(tmp_path, format="docx", source="old", consent=NO))
