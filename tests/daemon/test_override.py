"""A person promotes what gates held back: only what may be overruled, and for all to see."""

from __future__ import annotations

import msgspec
import pytest

from daemon import override as by_hand
from daemon import report
from daemon.canary.settings import CanarySettings
from daemon.settings import Settings
from daemon.wiring import Parts, open_target
from store import cycles, schedule
from store.errors import Busy, Halted, IntegrityError, NotFound, ProbeFailed, Rejected
from store.records import Cycle, Outcome, Override, Release
from store.verify import verify
from tests.daemon.judging import MOMENT, answering, as_base, as_candidate, judged, write_adapter
from trainer.base import locate
from trainer.promote import require_admitted
from trainer.targets.target import Traffic

REASON = "I read every answer: what it declines is what it should decline."
HELD = {"principles": Outcome.FAIL, "forgetting": Outcome.INCONCLUSIVE}


@pytest.fixture
def parts(store, tmp_path):
    """What a cycle works with; the untouched base is in service."""
    settings = Settings(data_dir=str(tmp_path), canary=CanarySettings(hours=0))
    return Parts(settings=settings, store=store, target=open_target(settings, store))


@pytest.fixture
def override(parts, monkeypatch):
    """Overrides an evaluation; its release answers as the candidate did, unless told otherwise."""

    def run(evaluation="evaluation-1", *, actor="anna", reason=REASON, says=as_candidate):
        answering(monkeypatch, says)
        return by_hand.override(parts, evaluation, actor=actor, reason=reason)

    return run


def _serves(parts):
    release = cycles.current_release(parts.store, "local")
    assert parts.target.active() == Traffic(release=None if release is None else release.id)
    return release


def _recorded(parts):
    """What the log says, but for the journal of what was tried."""
    return [e.key for e in parts.store.follow() if e.type != "release.step"]


def _nothing_happened(parts, before):
    """Nothing was recorded, and what served before serves still."""
    assert _recorded(parts) == before
    assert _serves(parts) is None


def test_what_failed_is_promoted_by_a_persons_word(parts, override):
    """Published and probed like any other; the event and the release name who, why and which."""
    judged(parts, HELD)
    release = override()
    assert _serves(parts) == release
    word = release.overridden
    assert (word.actor, word.reason, word.evaluation_id) == ("anna", REASON, "evaluation-1")
    assert word.verdicts == {
        "principles": "fail: 20 points worse",
        "forgetting": "inconclusive: 20 points worse",
    }
    [event] = parts.store.follow(types=["evaluation.overridden"])
    assert msgspec.json.decode(event.body, type=Override) == word
    assert verify(parts.store).faults == ()


def test_an_override_is_there_for_ever(parts, override):
    """After a rebuild of every projection, and when the next release has come."""
    judged(parts, HELD)
    release = override()
    before = parts.store.projections_digest()
    parts.store.rebuild()
    assert parts.store.projections_digest() == before
    assert cycles.by_id(parts.store, Release, release.id) == release
    judged(parts, {}, name="2", incumbent=release.id, ended="failed")
    by_hand.finish(parts, "evaluation-2")
    assert [r.overridden for r in cycles.every(parts.store, Release)] == [release.overridden, None]


def test_a_release_of_before_there_were_overrides_is_read(parts):
    """Records of older versions say nothing of it, and mean none."""
    old = {
        "id": "r", "cycle_id": "c", "run_id": "x", "evaluation_id": "e", "target": "local",
        "location": "", "adapter_hash": "", "base": "", "base_hash": "", "previous": None,
        "published_at": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(old), type=Release).overridden is None


@pytest.mark.parametrize("others", [{}, {"principles": Outcome.FAIL}])
def test_an_error_is_not_a_matter_of_opinion(parts, override, others):
    """A gate that was not heard said nothing that a person could overrule."""
    judged(parts, {"refusal": Outcome.ERROR, **others})
    before = _recorded(parts)
    with pytest.raises(Rejected, match=r"An error is no verdict.*refusal"):
        override()
    _nothing_happened(parts, before)


def test_an_evaluation_without_verdicts_is_not_promoted(parts, override):
    """Nothing was asked, so there is nothing to overrule either."""
    judged(parts, {}, verdicts=())
    with pytest.raises(Rejected, match="no gate was asked"):
        override()


def test_promotion_itself_refuses_an_error(parts):
    """Whoever calls it with whatever word: the last door is shut, too."""
    evaluation = judged(parts, {"refusal": Outcome.ERROR})
    word = Override(
        evaluation_id=evaluation.id, cycle_id="cycle-1", actor="anna", reason=REASON,
        verdicts={}, overridden_at=MOMENT,
    )  # fmt: skip
    with pytest.raises(IntegrityError):
        require_admitted(
            evaluation,
            parts.settings.data / "runs" / "run-1" / "adapter",
            locate(parts.settings.trainer.base),
            word,
        )


@pytest.mark.parametrize(
    ("actor", "reason"),
    [("anna", ""), ("anna", " \n\t"), ("", REASON), ("anna", "x" * 2_001), ("anna", "a\u202eb")],
    ids=["none", "blank", "nobody", "endless", "unprintable"],
)
def test_an_override_needs_a_name_and_a_reason(parts, override, actor, reason):
    """Both stay for ever, so both must say something, in words that can be shown."""
    judged(parts, HELD)
    before = _recorded(parts)
    with pytest.raises(Rejected):
        override(actor=actor, reason=reason)
    _nothing_happened(parts, before)


def test_a_reason_is_kept_without_personal_data(parts, override):
    """No erasure reaches a release, so an address does not come that far."""
    judged(parts, HELD)
    release = override(reason="Ask mira.lindt@example.org, she read it.")
    assert release.overridden.reason == "Ask [email], she read it."


def test_what_passed_needs_no_override(parts, override):
    """It is refused with the way to go on: a word that was not needed must not stand there."""
    judged(parts, {}, ended="failed")
    with pytest.raises(Rejected, match="nothing to override"):
        override()
    assert by_hand.finish(parts, "evaluation-1").overridden is None
    assert _serves(parts).id == "release-1"


def test_what_did_not_pass_is_not_promoted_without_a_word(parts):
    """The plain verb says which gates, and how a person answers for it."""
    judged(parts, HELD)
    with pytest.raises(Rejected, match=r"principles, forgetting.*--override --reason"):
        by_hand.finish(parts, "evaluation-1")
    assert _serves(parts) is None


def test_an_evaluation_is_promoted_once(parts, override):
    """The second time says under which name it was."""
    judged(parts, HELD)
    override()
    with pytest.raises(Rejected, match="already, as release-1"):
        override()
    with pytest.raises(NotFound):
        override("evaluation-9")


def test_another_incumbent_makes_the_verdict_void(parts, override):
    """It was compared with what served then; what serves now it may be worse than."""
    judged(parts, HELD)
    judged(parts, HELD, name="2")
    release = override("evaluation-2")
    with pytest.raises(Halted, match="release-2 serves now"):
        override("evaluation-1")
    assert _serves(parts) == release


def test_a_changed_adapter_is_not_promoted(parts, override):
    """Its bytes are not those that were judged."""
    judged(parts, HELD)
    write_adapter(parts.settings.data / "runs" / "run-1" / "adapter", b"other")
    before = _recorded(parts)
    with pytest.raises(IntegrityError):
        override()
    _nothing_happened(parts, before)


@pytest.mark.parametrize("changes", [{"gates_hash": "0"}, {"base_hash": "0"}])
def test_other_gates_or_another_base_make_the_verdict_void(parts, override, changes):
    """What was judged, or by what, is not what there is today."""
    judged(parts, HELD, **changes)
    before = _recorded(parts)
    with pytest.raises(IntegrityError):
        override()
    _nothing_happened(parts, before)


def test_what_learned_from_erased_words_is_not_promoted(parts, override, monkeypatch):
    """A person's wish goes before another person's word."""
    judged(parts, HELD)
    monkeypatch.setattr("daemon.descent.erased_among", lambda *_: {1})
    with pytest.raises(Halted, match="erased"):
        override()
    assert _serves(parts) is None


def test_a_release_that_answers_otherwise_does_not_serve(parts, override):
    """The former one is put back and nothing is recorded; a better probe later may promote it."""
    judged(parts, HELD)
    before = _recorded(parts)
    with pytest.raises(ProbeFailed):
        override(says=as_base)
    _nothing_happened(parts, before)
    assert override() == _serves(parts)


def test_nobody_overrides_while_the_loop_turns(parts, override):
    """Neither while another holds the lease, nor while a killed cycle waits to go on."""
    judged(parts, HELD)
    with schedule.holding(parts.store, parts.holder), pytest.raises(Busy):
        override()
    cycles.start(parts.store, Cycle(id="cycle-2", reason="t", started_at=MOMENT, position=0))
    with pytest.raises(Busy, match="cycle-2 is under way"):
        override()
    assert _serves(parts) is None


def test_no_cycle_turns_while_somebody_overrides(parts, override, monkeypatch):
    """The daemon of this very folder is kept out as well."""
    judged(parts, HELD)
    refused = []

    def says(n):
        if not refused:
            with pytest.raises(Busy):
                schedule.acquire(parts.store, parts.holder)
            refused.append(n)
        return as_candidate(n)

    override(says=says)
    assert refused


def test_a_release_whose_record_is_refused_does_not_serve(parts, override, monkeypatch):
    """The lease went to another while it was probed: what serves is what is recorded."""
    judged(parts, HELD)
    before = _recorded(parts)

    def lost(*_, **__):
        raise Busy("another took it")

    monkeypatch.setattr(cycles, "activate", lost)
    with pytest.raises(Busy):
        override()
    _nothing_happened(parts, before)


def test_status_tells_of_an_override_as_long_as_it_serves(parts, override):
    """Who, why, and which gates did not pass: in words and for programs."""
    judged(parts, HELD)
    assert "overridden" not in report.status_text(parts.store, parts.settings)
    release = override()
    text = report.status_text(parts.store, parts.settings)
    assert f"overridden   by anna: {REASON}" in text
    assert "forgetting, principles held it back" in text
    plain = report.status(parts.store, parts.settings)["current_release"]
    assert plain["overridden"]["actor"] == release.overridden.actor
