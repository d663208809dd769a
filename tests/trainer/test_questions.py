"""Questions for a model, read from lines of JSONL."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import Rejected
from store.records import Message
from trainer.questions import Question, read_questions


def write(folder: Path, *lines: bytes) -> Path:
    """A file of these lines."""
    path = folder / "questions.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path


def test_reads_prompts_and_messages_in_order(tmp_path: Path) -> None:
    """Both forms, blank lines and further fields are fine; the order is the file's."""
    path = write(
        tmp_path,
        b'{"id": "b", "prompt": "Why?", "category": "other tools write more"}',
        b"",
        b'{"id": "a", "messages": [{"role": "user", "content": "\xe2\x80\xa8 How?"}]}\r',
    )
    asked, second = read_questions(path)
    assert asked == Question(id="b", prompt="Why?")
    assert second.messages == (Message(role="user", content="\u2028 How?"),)
    assert asked.conversation() == [{"role": "user", "content": "Why?"}]
    assert second.conversation() == [{"role": "user", "content": "\u2028 How?"}]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"not json", "line 2"),
        (b'{"prompt": "no id"}', "id"),
        (b'{"id": 7, "prompt": "x"}', "id"),
        (b'{"id": "x", "messages": [{"role": "robot", "content": "x"}]}', "role"),
        (b'{"id": "x", "prompt": "\xff\xfe"}', "line 2"),
        (b'["id"]', "line 2"),
    ],
)
def test_line_that_is_no_question_is_named(tmp_path: Path, line: bytes, fault: str) -> None:
    """The error gives file, line and fault, and shows what a line looks like."""
    path = write(tmp_path, b'{"id": "good", "prompt": "Why?"}', line)
    with pytest.raises(Rejected, match=fault) as caught:
        read_questions(path)
    assert f"{path}, line 2" in caught.value.message
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    "line", [b'{"id": "x"}', b'{"id": "x", "prompt": ""}', b'{"id": "x", "messages": []}']
)
def test_question_without_words_is_rejected(tmp_path: Path, line: bytes) -> None:
    """Neither prompt nor messages is nothing to answer."""
    with pytest.raises(Rejected, match="line 1: neither prompt nor messages"):
        read_questions(write(tmp_path, line))


def test_id_given_twice_is_rejected(tmp_path: Path) -> None:
    """Answers are matched by id, so an id is there once."""
    line = b'{"id": "same", "prompt": "Why?"}'
    with pytest.raises(Rejected, match="line 3: the id 'same' is there twice"):
        read_questions(write(tmp_path, line, b"", line))


def test_missing_and_empty_files_are_rejected(tmp_path: Path) -> None:
    """A file that is not there, a folder and a file without a question are told apart."""
    with pytest.raises(Rejected, match="No such file"):
        read_questions(tmp_path / "none.jsonl")
    with pytest.raises(Rejected, match="cannot be read"):
        read_questions(tmp_path)
    with pytest.raises(Rejected, match="holds no question"):
        read_questions(write(tmp_path, b"", b"  "))
