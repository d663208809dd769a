"""Revocation: what learned from what is gone, or is poison, is marked, and the policy is done."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from msgspec.structs import replace

from daemon import doctor, evaluations, report, revocation
from daemon import override as by_hand
from daemon.canary.settings import CanarySettings
from daemon.descent import begins_with, not_to_be_learned
from daemon.erasure import erase, retain
from daemon.lines import LineSettings
from daemon.rollback import roll_back
from daemon.settings import RetentionSettings, RevocationSettings, Settings
from daemon.wiring import Parts, open_target
from store import canaries, cursors, cycles, experiences, keys, schedule, sources, taints
from store.errors import Unavailable
from store.records import now
from tests.daemon.judging import answering, as_candidate, judged
from trainer.targets.local import LocalTarget
from trainer.targets.target import Traffic


@pytest.fixture
def parts(store, tmp_path):
    """What the daemon works with; the untouched base is in service, and marks are all there is."""
    settings = Settings(data_dir=str(tmp_path), canary=CanarySettings(hours=0))
    return Parts(settings=settings, store=store, target=open_target(settings, store))


@pytest.fixture
def promote(parts, monkeypatch):
    """Promotes a candidate that learned from these experiences, and maybe from a parent."""
    answering(monkeypatch, as_candidate)

    def run(name, learned=(), *, line="main", parent=None, on=parts):
        serving = cycles.current_release(on.store, "local", line)
        incumbent = serving.id if serving else parent
        judged(
            on, {}, name=name, incumbent=incumbent, ended="failed", line=line, parent=parent,
            members=tuple(_position(on.store, one) for one in learned),
        )  # fmt: skip
        return by_hand.finish(on, f"evaluation-{name}").id

    return run


@pytest.fixture
def said(parts, make_experience):
    """What people said: of web, and of a source called new."""
    for source in ("web", "new"):
        key, _ = keys.create(parts.store, name="k", scopes=("ingest",), source=source, actor="t")
        some = [make_experience(f"{source}-{n}", source=source, subject=f"p-{n}") for n in range(3)]
        experiences.record(parts.store, some, actor=f"key:{key.id}")


def _position(store, name):
    [position] = [
        e.position
        for e in store.follow(types=["experience.recorded"])
        if e.stream == f"experience/{name}"
    ]
    return position


def _by(parts, **policy):
    settings = replace(parts.settings, revocation=RevocationSettings(**policy))
    return replace(parts, settings=settings)


def _erase(parts, name):
    return erase(parts.store, "experience", name, reason="asked", actor="test")


def _marked(parts):
    return {name: [t.cause for t in found] for name, found in taints.every(parts.store).items()}


def _serves(parts, line="main"):
    release = cycles.current_release(parts.store, "local", line)
    name = None if release is None else release.id
    assert parts.target.active(line) == Traffic(release=name)
    return name


def test_an_erasure_marks_what_learned_from_the_words_and_nothing_else(parts, promote, said):
    """With those that were trained on from it; the mark says through whom."""
    first = promote("1", ["web-0", "web-1"])
    second = promote("2", ["web-1"])
    child = promote("3", ["web-2"], line="main", parent=first)
    receipt = _erase(parts, "web-0")
    marked = {taint.release: taint for taint in revocation.catch_up(parts)}
    assert marked.keys() == {first, child}
    assert second not in marked
    assert (marked[first].through, marked[child].through) == (None, first)
    assert {taint.of for taint in marked.values()} == {receipt.id}
    assert revocation.catch_up(parts) == ()
    assert _serves(parts) == child  # warn: it is told, and that is all


def test_poison_marks_what_learned_from_a_source(parts, promote, said):
    """Quarantine alone accuses nobody; a person's word does."""
    clean, poisoned = promote("1", ["web-0"]), promote("2", ["new-0"])
    sources.change(parts.store, "new", "quarantined", actor="t")
    assert revocation.catch_up(parts) == ()
    marked = revocation.tell_poison(parts, "source", "new", reason="a trigger", actor="t")
    assert [(t.release, t.cause) for t in marked] == [(poisoned, "poison")]
    assert clean not in taints.every(parts.store)


def test_poison_marks_what_learned_from_what_came_with_a_key(parts, promote, said):
    """And not from another key's words."""
    key = next(key for key in keys.listed(parts.store) if key.source == "new")
    poisoned, clean = promote("1", ["new-0"]), promote("2", ["web-0"])
    keys.revoke(parts.store, key.id, actor="t")
    marked = revocation.tell_poison(parts, "key", key.id, reason="stolen", actor="t")
    assert [taint.release for taint in marked] == [poisoned]
    assert clean not in taints.every(parts.store)


def test_age_is_no_accusation(parts, promote, said):
    """Words that were kept for as long as they may be leave no mark."""
    promote("1", ["web-0"])
    old = RetentionSettings(consented_days=1)
    assert retain(parts.store, old, moment=now(), actor="t").ids == ()
    assert retain(parts.store, old, moment=now() + timedelta(days=2), actor="t").ids
    assert revocation.catch_up(parts) == ()


def test_rolling_back_passes_over_what_is_tainted(parts, promote, said):
    """Now, to the newest that learned nothing of it; and to the base where there is none."""
    parts = _by(parts, on_erasure="roll_back")
    clean = promote("1", ["web-0"])
    promote("2", ["web-1"])
    promote("3", ["web-1", "web-2"])
    _erase(parts, "web-1")
    revocation.follow(parts)
    assert _serves(parts) == clean
    _erase(parts, "web-0")
    revocation.follow(parts)
    assert _serves(parts) is None
    actors = [e.actor for e in parts.store.follow(types=["release.activated"])]
    assert actors[-2:] == ["revocation", "revocation"]
    assert _marked(parts).keys() == {"release-1", "release-2", "release-3"}


def test_a_persons_way_back_passes_over_what_is_tainted_too(parts, promote, said):
    """`bhavana rollback` goes to the release before, if nothing is against that one."""
    clean = promote("1", ["web-0"])
    promote("2", ["web-1"])
    promote("3", ["web-2"])
    _erase(parts, "web-1")
    revocation.catch_up(parts)
    assert roll_back(parts, reason="worse", actor="anna").previous == clean
    assert _serves(parts) == clean


def test_only_lines_that_serve_it_go_back(parts, promote, said):
    """Another line serves on what it did, and one whose release is an older one, too."""
    lines = {"math": LineSettings()}
    parts = _by(parts, on_poison="roll_back")
    parts = replace(parts, settings=replace(parts.settings, lines=lines))
    promote("1", ["new-0"])
    main = promote("2", ["web-0"])
    promote("3", ["new-1"], line="math", on=parts)
    revocation.tell_poison(parts, "source", "new", reason="r", actor="t")
    assert (_serves(parts), _serves(parts, "math")) == (main, None)


def test_retraining_is_due_at_once_and_begins_from_the_base(parts, promote, said):
    """A line that goes on with its own adapter does not go on with this one."""
    own = LineSettings(parent="code")
    settings = replace(parts.settings, lines={"code": own})
    parts = replace(_by(replace(parts, settings=settings), on_poison="retrain"))
    release = promote("1", ["new-0"], line="code", on=parts)
    schedule.plan(parts.store, now(), "cycle")
    later = now().replace(year=now().year + 1)
    schedule.due_at(parts.store, later, schedule.of_line("code"))
    assert begins_with(parts, "code") == release
    revocation.tell_poison(parts, "source", "new", reason="r", actor="t")
    assert schedule.schedule(parts.store, schedule.of_line("code")).next_run_at <= now()
    assert begins_with(parts, "code") is None
    assert "poison" in not_to_be_learned(parts, release)
    assert _serves(parts, "code") == release


@pytest.mark.parametrize("policy", ["warn", "retrain", "roll_back"])
def test_nothing_is_trained_on_from_a_tainted_release(parts, promote, said, policy):
    """Whatever the policy is."""
    parts = _by(parts, on_poison=policy)
    release = promote("1", ["new-0"])
    assert not_to_be_learned(parts, release) is None
    revocation.tell_poison(parts, "source", "new", reason="r", actor="t")
    assert not_to_be_learned(parts, release) is not None


def test_what_comes_into_service_afterwards_is_marked_as_well(parts, promote, said):
    """A release that was on its way when its words were erased, and a child of a tainted one."""
    _erase(parts, "web-0")
    revocation.tell_poison(parts, "source", "new", reason="r", actor="t")
    parent = promote("1", ["new-0"])
    child = promote("2", ["web-1"], parent=parent)
    revocation.catch_up(parts)
    assert _marked(parts) == {parent: ["poison"], child: ["poison"]}
    assert taints.every(parts.store)[child][0].through == parent


def test_a_kill_at_any_point_is_made_good_by_the_next_look(parts, promote, said, monkeypatch):
    """Between mark and act, and between act and cursor: one mark, one way back."""
    parts = _by(parts, on_erasure="roll_back")
    clean = promote("1", ["web-0"])
    promote("2", ["web-1"])
    _erase(parts, "web-1")

    def killed(*_, **__):
        raise KeyboardInterrupt

    for module, name in ((revocation, "roll_back"), (cursors, "advance")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, killed)
            with pytest.raises(KeyboardInterrupt):
                revocation.follow(parts)
    revocation.follow(parts)
    assert _serves(parts) == clean
    assert _marked(parts) == {"release-2": ["erasure"]}
    assert len(list(parts.store.follow(types=["release.activated"]))) == 3


def test_a_target_that_is_away_is_asked_again(parts, promote, said, monkeypatch):
    """The mark stands, and what is to be done is not forgotten."""
    parts = _by(parts, on_erasure="roll_back")
    promote("1", ["web-0"])
    _erase(parts, "web-0")
    with monkeypatch.context() as patch:

        def away(*_):
            raise Unavailable("the target is away")

        patch.setattr(LocalTarget, "activate", away)
        revocation.follow(parts)
    assert _marked(parts) == {"release-1": ["erasure"]}
    revocation.follow(parts)
    assert _serves(parts) is None


def test_a_tainted_release_on_trial_goes_back_and_its_trial_ends(parts, promote, said):
    """As a trial that failed, with the reason."""
    parts = _by(parts, on_erasure="roll_back")
    on = replace(parts, settings=replace(parts.settings, canary=CanarySettings(share=0.5)))
    release = promote("1", ["web-0"], on=on)
    _erase(parts, "web-0")
    revocation.follow(parts)
    assert _serves(parts) is None
    ended = canaries.of_release(parts.store, release)
    assert (ended.state, "erased" in ended.detail) == ("failed", True)


def test_a_tainted_release_that_answers_beside_a_trial_goes_as_well(parts, promote, said):
    """It answers most of the traffic still; the trial ends, and neither answers any more."""
    parts = _by(parts, on_erasure="roll_back")
    promote("1", ["web-0"])
    on = replace(parts, settings=replace(parts.settings, canary=CanarySettings(share=0.1)))
    promote("2", ["web-1"], on=on)
    assert parts.target.active() == Traffic(release="release-1", canary="release-2", share=0.1)
    _erase(parts, "web-0")
    revocation.follow(parts)
    assert _serves(parts) is None
    assert canaries.undecided(parts.store) == []


def test_taints_are_shown_where_people_look(parts, promote, said):
    """Status, doctor, and the evaluations; they stay after a rebuild."""
    promote("1", ["web-0"])
    _erase(parts, "web-0")
    revocation.catch_up(parts)
    parts.store.rebuild()
    assert "tainted      release-1: erasure" in report.status_text(parts.store, parts.settings)
    check = doctor._releases(parts.settings, parts.store)
    assert (check.state, "release-1" in check.said) == ("warn", True)
    assert evaluations.listed(parts.store).evaluations[0].tainted
    assert evaluations.shown(parts.store, "evaluation-1").taints[0].cause == "erasure"


def test_a_reason_is_kept_without_what_must_not_be(parts, said):
    """It stays in the log for ever, where no erasure reaches."""
    reason = "wrote to bob@example.org"
    revocation.tell_poison(parts, "source", "new", reason=reason, actor="t")
    [event] = parts.store.follow(types=["poison.found"])
    assert b"example.org" not in event.body


def test_the_command_line_tells_of_poison(bhavana, data):
    """A source that is quarantined as poisoned, and a key; and what needs a quarantine."""
    made = bhavana("keys", "create", "--scope", "ingest", "--source", "web", "--json")
    key = json.loads(made.stdout)["id"]
    ran = bhavana("sources", "set", "web", "quarantined", "--poisoned", "a trigger")
    assert (ran.returncode, "No release learned from it" in ran.stdout) == (0, True)
    assert bhavana("sources", "set", "web", "trusted", "--poisoned", "r").returncode == 2
    ran = bhavana("keys", "revoke", key, "--poisoned", "stolen")
    assert (ran.returncode, "source web" in ran.stderr) == (0, True)
    assert bhavana("canary", "show").returncode == 2
