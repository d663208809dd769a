"""What every format of the roster promises."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from converters import FORMATS
from converters.selection import Format
from store.experiences import Assessed
from store.records import Assessment, Context, Experience, Label, Message

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MESSAGES = {
    "one turn": (("user", "Why?"),),
    "system and turns": (
        ("system", "Be brief."),
        ("user", "Why?"),
        ("assistant", "Because."),
        ("user", "And then?"),
    ),
    "odd characters": (("user", 'भावना 😀 "quoted" \\ \u2028 </s><|im_end|>\0'),),
}


def assessed(kind: str, response: str, context: Context | None = None) -> Assessed:
    """An experience with an assessment."""
    experience = Experience(
        id="e-1",
        occurred_at=MOMENT,
        source="test",
        messages=tuple(Message(role=r, content=c) for r, c in MESSAGES[kind]),  # type: ignore[arg-type]
        response=response,
        context=context or Context(),
        subject="person-7",
    )
    assessment = Assessment(
        id="a-1",
        experience_id="e-1",
        panel="p",
        findings=(),
        harm={},
        principles={},
        actual_harm=0.0,
        weighted=8.0,
        label=Label.EXCELLENT,
        abstained=(),
        assessed_at=MOMENT,
    )
    return Assessed(
        experience=experience,
        assessment=assessment,
        position=1,
        consented=True,
        tier="trusted",
    )


@pytest.fixture(params=sorted(FORMATS))
def row(request: pytest.FixtureRequest) -> Format:
    """A format."""
    return FORMATS[request.param]


@pytest.mark.parametrize("kind", sorted(MESSAGES))
@pytest.mark.parametrize("response", ["Just so.", " spaces\n\nand lines ", "😀 “said” \u2029"])
def test_ends_with_the_response(row: Format, kind: str, response: str) -> None:
    """The messages are the conversation as received, then the response as the last turn."""
    messages = row(assessed(kind, response))["messages"]
    expected = [{"role": r, "content": c} for r, c in MESSAGES[kind]]
    assert messages == [*expected, {"role": "assistant", "content": response}]


@pytest.mark.parametrize("kind", sorted(MESSAGES))
def test_survives_json(row: Format, kind: str) -> None:
    """A row written as a line of JSON is read as the same row."""
    context = Context(category="truth", difficulty="hard", facts=("a", "b"))
    made: dict[str, Any] = row(assessed(kind, "Just so.", context))
    line = json.dumps(made, allow_nan=False)
    assert "\n" not in line
    assert json.loads(line) == made


def test_same_experience_gives_the_same_row(row: Format) -> None:
    """Nothing of the moment or of chance is in a row, so that a dataset can be built again."""
    first, second = (row(assessed("one turn", "Just so.")) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)


def test_names_no_person(row: Format) -> None:
    """Not even the pseudonym of the person goes into a dataset."""
    assert "person-7" not in json.dumps(row(assessed("one turn", "Just so.")))
