"""The watch end to end: real store, local target, assessed answers; models are stood in for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from daemon import override as by_hand
from daemon import report
from daemon.canary import watch
from daemon.canary.settings import CanarySettings
from daemon.cycle import turn
from daemon.rollback import roll_back
from daemon.service import Service
from daemon.settings import Settings
from daemon.webhooks import message
from daemon.wiring import Parts, open_target
from scorers.panel import panel_id
from store import canaries, cycles, experiences, schedule
from store.errors import ChildFailed, Conflict, NotFound, Rejected, Unavailable
from store.projections import Activation
from store.records import Canary, now
from store.verify import verify
from tests.daemon.judging import answering, as_candidate, judged
from trainer.targets.local import LocalTarget
from trainer.targets.target import Traffic

ON = CanarySettings(share=0.5, least_answers=400, harm_margin=0.01)
ENOUGH = 600


@pytest.fixture(autouse=True)
def _panel(monkeypatch):
    """The panel is trusted, and has assessed already what it is to assess."""
    monkeypatch.setattr(watch, "vouch_for_panel", lambda *_: None)
    monkeypatch.setattr(watch, "assess_pending", lambda *_, **__: 0)


@pytest.fixture
def parts(store, tmp_path):
    """What the daemon works with; the untouched base is in service."""
    settings = Settings(data_dir=str(tmp_path), canary=ON)
    return Parts(settings=settings, store=store, target=open_target(settings, store))


@pytest.fixture
def promote(parts, monkeypatch):
    """Promotes a candidate that passed every gate; it answers as it was evaluated."""
    answering(monkeypatch, as_candidate)

    def run(name="1", incumbent=None):
        judged(parts, {}, name=name, incumbent=incumbent, ended="failed")
        return by_hand.finish(parts, f"evaluation-{name}")

    return run


@pytest.fixture
def say(parts, make_experience, make_assessment):
    """Records so many answers of a model and what the panel says of them: these rates of harm."""
    panel, count = panel_id(parts.settings.panel), iter(range(10**6))

    def record(model, n=ENOUGH, *, harm=0.05, judged=True):
        draw = np.random.default_rng([next(count), 7])
        harms = draw.random(n) < harm
        names = [f"e-{next(count)}" for _ in range(n)]
        some = [make_experience(name, model=model, training=False) for name in names]
        experiences.record(parts.store, some)
        if judged:
            experiences.assess(
                parts.store,
                [
                    make_assessment(name, panel=panel, harm=0.9 if bad else 0.05)
                    for name, bad in zip(names, harms, strict=True)
                ],
            )

    return record


@pytest.fixture
def later(monkeypatch):
    """Lets the watch look so many hours from now."""

    def at(hours):
        monkeypatch.setattr(watch, "now", lambda: now() + timedelta(hours=hours))

    return at


BASE = "smollm2-135m"


def _states(store):
    return [
        msgspec.json.decode(event.body, type=Canary).state
        for event in store.follow(types=["canary.changed"])
    ]


def _activations(store):
    return [
        msgspec.json.decode(event.body, type=Activation)
        for event in store.follow(types=["release.activated"])
    ]


def _serves_alone(parts, name):
    """By the store's word and by the target's; and the store is whole."""
    release = cycles.current_release(parts.store, "local")
    assert (None if release is None else release.id) == name
    assert parts.target.active() == Traffic(release=name)
    before = parts.store.projections_digest()
    parts.store.rebuild()
    assert parts.store.projections_digest() == before


def test_a_new_release_begins_on_trial_with_its_share(parts, promote):
    """Beside its predecessor; one transaction says that it serves and that it is on trial."""
    first = promote()
    assert parts.target.active() == Traffic(release=None, canary=first.id, share=0.5)
    canary = canaries.open_on(parts.store, "local")
    assert (canary.release, canary.predecessor, canary.share) == (first.id, BASE, 0.5)
    published, activated, began = (
        [e.position for e in parts.store.follow(types=[kind])][-1]
        for kind in ("release.published", "release.activated", "canary.changed")
    )
    assert (activated, began) == (published + 1, published + 2)
    assert _activations(parts.store)[-1].share == 0.5
    assert verify(parts.store).faults == ()


def test_without_a_trial_it_serves_for_good(parts, promote, monkeypatch):
    """Where the settings ask for none."""
    settings = replace(parts.settings, canary=CanarySettings(hours=0))
    monkeypatch.setattr(by_hand, "promote", lambda p, *a: real(replace(p, settings=settings), *a))
    from daemon.cycle import promote as real

    _serves_alone(parts, promote().id)
    assert _states(parts.store) == []


def test_a_release_that_does_more_harm_is_rolled_back_by_itself(parts, promote, say):
    """At the next look, and the event holds the evidence."""
    first = promote()
    say(BASE)
    say(first.id, harm=0.2)
    watch.look(parts)
    _serves_alone(parts, None)
    failed = canaries.of_release(parts.store, first.id)
    assert (failed.state, failed.answers) == ("failed", ENOUGH)
    harm = next(c for c in failed.contrasts if c.measure == "harm" and c.other is not None)
    assert harm.crossed
    assert harm.value > 0.15 > 0.1 > harm.other
    last = _activations(parts.store)[-1]
    assert last.reason == failed.detail
    assert "harm 0." in last.reason
    assert [e.actor for e in parts.store.follow(types=["canary.changed"])][-1] == "watch"
    watch.look(parts)
    assert _states(parts.store) == ["watching", "failed"]
    told = [message.of(event) for event in parts.store.follow(types=message.TOLD)]
    assert [one.type for one in told if one is not None] == [
        *("cycle.failed", "release.promoted", "canary.started"),  # the one that was made by hand
        *("release.rolled_back", "canary.failed"),
    ]


def test_a_release_that_is_no_worse_gets_all_of_the_traffic(parts, promote, say, later):
    """When its time is over, and not before."""
    first = promote()
    say(BASE)
    say(first.id)
    watch.look(parts)
    assert _states(parts.store) == ["watching"]
    later(25)
    watch.look(parts)
    _serves_alone(parts, first.id)
    assert _states(parts.store) == ["watching", "passed"]
    assert _activations(parts.store)[-1].share == 1.0


def test_a_release_is_compared_with_the_release_before_it(parts, promote, say, later):
    """And it is that one that serves again, whatever the base once said."""
    first = promote()
    watch.accept(parts, reason="the first", actor="anna")
    second = promote("2", incumbent=first.id)
    assert parts.target.active() == Traffic(release=first.id, canary=second.id, share=0.5)
    say(first.id)
    say(BASE, harm=0.5)
    say(second.id, harm=0.2)
    watch.look(parts)
    _serves_alone(parts, first.id)


def test_where_a_target_cannot_share_all_answers_are_compared_with_those_before(
    parts, promote, say, later, monkeypatch
):
    """The release answers everybody for a while, and is watched."""
    monkeypatch.setattr(LocalTarget, "shares", False)
    say(BASE)
    first = promote()
    assert parts.target.active() == Traffic(release=first.id)
    assert canaries.open_on(parts.store, "local").share == 1.0
    say(first.id)
    later(25)
    watch.look(parts)
    assert _states(parts.store) == ["watching", "passed"]
    second = promote("2", incumbent=first.id)
    say(second.id, harm=0.2)
    watch.look(parts)
    _serves_alone(parts, first.id)


def test_a_base_that_nobody_talked_to_is_no_success(parts, promote, say, later):
    """There is nothing to compare with: it is extended, then asked of a person."""
    first = promote()
    say(first.id)
    for hours in (25, 50, 75, 100, 125):
        later(hours)
        watch.look(parts)
    assert _states(parts.store) == ["watching", *["extended"] * 3, "asked"]
    assert parts.target.active() == Traffic(release=None, canary=first.id, share=0.5)
    assert "0 judged answers" in canaries.open_on(parts.store, "local").detail


def test_what_the_panel_cannot_assess_is_no_success(parts, promote, say, later, monkeypatch):
    """Its failure is told, and missing data extends the trial."""

    def fails(*_, **__):
        raise ChildFailed("the panel is away")

    monkeypatch.setattr(watch, "assess_pending", fails)
    first = promote()
    for model in (BASE, first.id):
        say(model, judged=False)
    later(25)
    watch.look(parts)
    assert _states(parts.store) == ["watching", "extended"]
    assert canaries.open_on(parts.store, "local").answers == ENOUGH


def test_a_person_accepts_what_could_not_be_decided(parts, promote):
    """With name and reason, for all to see."""
    first = promote()
    watch.accept(parts, reason="I read them", actor="anna")
    _serves_alone(parts, first.id)
    assert canaries.of_release(parts.store, first.id).detail == "accepted by anna: I read them"
    with pytest.raises(NotFound, match="No release is on trial"):
        watch.accept(parts, reason="again", actor="anna")


def test_a_person_who_rolls_back_ends_the_trial(parts, promote):
    """With the usual command."""
    promote()
    roll_back(parts, reason="I do not like it", actor="anna")
    _serves_alone(parts, None)
    assert _states(parts.store) == ["watching", "failed"]
    watch.look(parts)
    assert len(_activations(parts.store)) == 2


@pytest.mark.parametrize(("harm", "hours", "step"), [(0.2, 1, "roll_back"), (0.05, 25, "settle")])
def test_a_kill_between_the_act_and_its_record_is_made_good_by_the_next_look(
    parts, promote, say, later, monkeypatch, harm, hours, step
):
    """People are served first; the same is found again, and recorded once."""
    first = promote()
    say(BASE)
    say(first.id, harm=harm)
    later(hours)
    with monkeypatch.context() as patch:

        def killed(*_, **__):
            raise KeyboardInterrupt

        patch.setattr(cycles, step, killed)
        with pytest.raises(KeyboardInterrupt):
            watch.look(parts)
    alone = None if step == "roll_back" else first.id
    assert parts.target.active() == Traffic(release=alone)
    assert _states(parts.store) == ["watching"]
    watch.look(parts)
    _serves_alone(parts, alone)
    assert len(_states(parts.store)) == len(_activations(parts.store)) == 2


def test_a_target_that_is_away_is_asked_again(parts, promote, say, monkeypatch):
    """What was to be rolled back is rolled back at the next look, and nothing is said before."""
    first = promote()
    say(BASE)
    say(first.id, harm=0.2)
    with monkeypatch.context() as patch:

        def away(*_):
            raise Unavailable("the target is away")

        patch.setattr(LocalTarget, "activate", away)
        watch.look(parts)
    assert _states(parts.store) == ["watching"]
    watch.look(parts)
    _serves_alone(parts, None)


def test_of_two_daemons_one_acts(parts, promote, say):
    """Both look at the same moment; there is one way back and one end."""
    first = promote()
    say(BASE)
    say(first.id, harm=0.2)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: watch.look(parts), range(4)))
    _serves_alone(parts, None)
    assert _states(parts.store) == ["watching", "failed"]
    assert len(_activations(parts.store)) == 2


def test_nobody_settles_what_serves_no_more(parts, promote, say):
    """A late look at a trial that ended meanwhile changes nothing."""
    promote()
    stale = canaries.open_on(parts.store, "local")
    roll_back(parts, reason="meanwhile", actor="anna")
    with pytest.raises(Conflict):
        watch.settled(parts, replace(stale, state="passed"))
    with pytest.raises(Conflict):
        roll_back(parts, reason="late", actor="watch", only=stale.release, canary=stale)
    _serves_alone(parts, None)


def test_the_line_waits_while_its_release_is_on_trial(parts, promote):
    """No cycle begins on it, nor does a person put another candidate beside it."""
    first = promote()
    with pytest.raises(Rejected, match="is on trial on the line main"):
        turn(parts, reason="test")
    judged(parts, {}, name="2", incumbent=first.id, ended="failed")
    with pytest.raises(Rejected, match="is on trial"):
        by_hand.finish(parts, "evaluation-2")
    service = Service(parts, lambda: parts.settings)
    service._judge.close()
    schedule.due_at(parts.store, now())
    assert service._due() is None
    watch.accept(parts, reason="fine", actor="anna")
    assert service._due() == ("schedule", "main", True)


def test_status_tells_of_the_trial(parts, promote, say, later):
    """What is on trial, until when, and that a person is asked."""
    first = promote()
    told = report.status(parts.store, parts.settings)["lines"]["main"]["canary"]
    assert (told["release"], told["state"]) == (first.id, "watching")
    assert f"on trial     {first.id}" in report.status_text(parts.store, parts.settings)
    for hours in (25, 50, 75, 100, 125):
        later(hours)
        watch.look(parts)
    text = report.status_text(parts.store, parts.settings)
    assert "asked" in text
    assert "`bhavana canary" in text


def test_the_watch_has_assessed_what_both_said(parts, promote, say, monkeypatch, make_assessment):
    """And nothing else: a backlog of other answers does not keep harm waiting."""
    asked = []
    monkeypatch.setattr(watch, "assess_pending", lambda *_, **given: asked.append(given))
    first = promote()
    watch.look(parts)
    assert asked[0]["models"] == (first.id, BASE)
    assert asked[0]["holder"] != parts.holder
