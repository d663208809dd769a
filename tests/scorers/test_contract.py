"""What every scorer on the roster promises, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scorers import chosen, versions
from scorers.guards import FAMILIES
from scorers.scorer import Scorer
from scorers.settings import PanelSettings
from store.records import PRINCIPLES, Experience, Finding

MakeExperience = Callable[..., Experience]

ODD = {
    "plain": ("What is the capital of Peru?", "Lima."),
    "no user turn": ("", "Hello, how can I help?"),
    "emoji and marks": (
        "hi \u202e\u200d 👩\u200d👩\u200d👧",
        "Zalgo h\u0335\u0321e\u0337, \u0000 and 🙂🙂🙂",
    ),
    "another script": ("你好吗？", "我很好，谢谢。你今天怎么样？"),
    "only marks": ("Why?", "...!?"),
    "blank": ("Why?", " \n\t "),
    "very long": ("Tell me about rivers.", "The river flows on to the sea. " * 1_936),
}


@pytest.fixture(scope="module", params=[*sorted(PanelSettings().scorers), *FAMILIES])
def at_work(
    request: pytest.FixtureRequest,
    scorers: dict[str, Scorer],
    tiny_guard: Callable[..., PanelSettings],
    one_thread: None,
) -> tuple[Scorer, PanelSettings]:
    """Each scorer of the default panel in turn, and each family of guards; with its panel."""
    if request.param in scorers:
        return scorers[request.param], PanelSettings()
    panel = tiny_guard(request.param, most_tokens=512)
    return chosen(panel)["guard"].load(panel), panel


@pytest.fixture
def scorer(at_work: tuple[Scorer, PanelSettings]) -> Scorer:
    """The scorer that is tested."""
    return at_work[0]


@pytest.fixture
def odd(experience: MakeExperience) -> list[Experience]:
    """Exchanges that no scorer was made for."""
    return [experience(u, r, name=f"e-{i}") for i, (u, r) in enumerate(ODD.values())]


def _ceiling(finding: Finding) -> float:
    return 10.0 if finding.dimension in PRINCIPLES else 1.0


def test_answers_every_experience_in_range(scorer: Scorer, odd: list[Experience]) -> None:
    """One tuple per experience; values and confidences in range, evidence inside the text."""
    found = scorer.score(odd)
    assert len(found) == len(odd)
    for experience, findings in zip(odd, found, strict=True):
        assert findings
        for finding in findings:
            assert finding.value is None or 0.0 <= finding.value <= _ceiling(finding)
            assert 0.0 <= finding.confidence <= 1.0
            for span in finding.evidence:
                assert 0 <= span.start <= span.end <= len(experience.response)


def test_abstains_only_with_a_reason(scorer: Scorer, odd: list[Experience]) -> None:
    """A missing value always says why."""
    for findings in scorer.score(odd):
        assert all(finding.reason for finding in findings if finding.value is None)


def test_is_deterministic_and_independent_of_company(scorer: Scorer, odd: list[Experience]) -> None:
    """The same experience gets the same findings again, alone or in a batch."""
    together = scorer.score(odd)
    assert scorer.score(odd) == together
    alone = [scorer.score([experience])[0] for experience in reversed(odd)]
    assert list(reversed(alone)) == together


def test_signs_with_name_and_version(
    at_work: tuple[Scorer, PanelSettings], odd: list[Experience]
) -> None:
    """Findings carry the scorer's name and the version that the roster tells without loading it."""
    scorer, panel = at_work
    for finding in scorer.score(odd)[0]:
        assert finding.scorer == scorer.name
        assert finding.version == scorer.version == versions(panel)[scorer.name]


def test_has_nothing_to_say_about_nothing(scorer: Scorer) -> None:
    """No experiences, no findings."""
    assert scorer.score([]) == []


@pytest.mark.parametrize("name", ["harm", "principles"])
@pytest.mark.parametrize("case", ["no user turn", "another script", "only marks", "blank"])
def test_heads_abstain_where_they_were_not_fitted(
    scorers: dict[str, Scorer], experience: MakeExperience, name: str, case: str
) -> None:
    """Without a question, in another language, or without words, a fitted head does not guess."""
    [findings] = scorers[name].score([experience(*ODD[case])])
    assert all(finding.value is None for finding in findings)
