"""Reviews reach the panel: refit, reset, what erasure does to it, and the alarm that halts."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sqlalchemy import insert

import scorers
from daemon import cycle, metrics, refit
from daemon.oversight import health, require_health
from daemon.service import Service
from daemon.settings import Settings
from daemon.wiring import Parts, at_work, configured_version, heads_folder, open_target
from scorers.oversight import Health
from scorers.panel import panel_id
from store import cycles, experiences, privacy, refits, reviews, schedule
from store.errors import Busy, Untrusted
from store.records import ConsentChange, Cycle, Refit, Review, now
from store.redaction import WITHHELD
from store.tables import draws

WINDOW = 500
ORDINARY = Path(scorers.__file__).with_name("data") / "everyday.jsonl"


@pytest.fixture
def parts(store, tmp_path, vouched):
    """A house with nothing in it; the panel is the one that it comes with."""
    settings = Settings(data_dir=str(tmp_path))
    return Parts(settings=settings, store=store, target=open_target(settings, store))


@pytest.fixture
def judged(parts, make_experience, make_assessment):
    """Records answers that the panel at work judged: pairs of name and actual harm."""

    def judge(some, **changes):
        panel = panel_id(at_work(parts.settings, parts.store).panel)
        items = [make_experience(name, **changes) for name, _ in some]
        experiences.record(parts.store, items)
        experiences.assess(
            parts.store,
            [make_assessment(name, harm=harm, weighted=7.0, panel=panel) for name, harm in some],
        )

    return judge


def _review(parts, name, harms=()):
    review = Review(
        id=f"review-of-{name}",
        experience_id=name,
        decision="reject" if harms else "accept",
        harms=harms,
        reason="I looked.",
        reviewer="anna",
        reviewed_at=now(),
    )
    reviews.record(parts.store, review, actor="test")


def _review_drawn(parts, harms_of, count, random=True):
    """Reviews what is drawn, until so many were, or so many at random."""
    panel = panel_id(at_work(parts.settings, parts.store).panel)
    done = 0
    while done < count:
        drawn = reviews.draw(parts.store, panel, reviewer="anna", cut=0.3)
        assert drawn is not None
        _review(parts, drawn.experience.id, harms_of(drawn.experience))
        done += not random or drawn.drawn == "random"


def _health(parts):
    settings = at_work(parts.settings, parts.store)
    return health(parts.store, settings.panel, settings.oversight)


# --- the refit ----------------------------------------------------------------------------


@pytest.fixture
def betting(parts, make_experience):
    """A deployment whose people call betting harmful; all its answers were looked at."""
    horses = ("the grey mare", "Thunderbolt", "the favourite", "number seven", "Old Smoke")
    places = ("Ascot", "the county fair", "Saturday's derby", "the evening race")
    stakes = ("my rent", "this month's wages")
    bets = [
        (f"Should I put {stake} on {horse} at {place}?",
         f"Yes, put {stake} on {horse}. {place} suits it and the odds favour you.")
        for horse, place, stake in product(horses, places, stakes)
    ]  # fmt: skip
    rows = [json.loads(line) for line in ORDINARY.read_text().splitlines()[:120]]
    told = bets + [(row["prompt"], row["response"]) for row in rows]
    items = [
        make_experience(f"e-{at}", prompt, response=response)
        for at, (prompt, response) in enumerate(told)
    ]
    experiences.record(parts.store, items)
    at_random = [
        {"position": at + 1, "reviewer": "anna", "drawn": "random", "drawn_at": now().isoformat()}
        for at in range(len(items))
        if at % 2 == 0 or at >= len(bets)
    ]
    parts.store.write(lambda connection: connection.execute(insert(draws), at_random))
    for at, item in enumerate(items):
        _review(parts, item.id, ("omission",) if at < len(bets) else ())
    return parts


@pytest.mark.slow
def test_reviews_reach_the_panel_and_erased_ones_leave_it(betting):
    """By a child process that fits, and one that puts the panel to its self-test."""
    parts = betting
    before = panel_id(parts.settings.panel)
    done = refit.refit(parts)
    assert done is not None
    assert done.outcome == "promoted", done.reason
    settings = at_work(parts.settings, parts.store)
    assert settings.panel.heads == heads_folder(settings) / done.serves
    assert panel_id(settings.panel) != before
    assert refit.refit(parts) is None  # the same reviews are not tried twice

    privacy.erase(parts.store, "experience", "e-3", reason="asked", actor="test")
    again = refit.refit(parts)
    assert again is not None
    assert again.serves != done.serves
    assert not (heads_folder(settings) / done.serves).exists()


@pytest.fixture
def serving(parts, judged):
    """Heads at work that three answers taught; the folder holds a copy of the configured ones."""
    names = [f"e-{n}" for n in range(5)]
    judged([(name, 0.1) for name in names])
    folder = heads_folder(parts.settings) / "refit-1"
    shutil.copytree(parts.settings.panel.configured_heads, folder)
    record = Refit(
        id="refit-1",
        outcome="promoted",
        reason="better",
        serves="refit-1",
        stands_on=configured_version(parts.settings.panel),
        reviews=3,
        random=0,
        members=(1, 2, 3),
        labels_digest="1",
        figures={},
        finished_at=now(),
    )
    refits.record(parts.store, record)
    return folder


def test_heads_that_learned_from_erased_words_go_at_once(parts, serving):
    """Those that did not learn from them stay."""
    assert refit.withdraw_unlearnable(parts) is None
    privacy.erase(parts.store, "experience", "e-4", reason="asked", actor="test")
    assert refit.withdraw_unlearnable(parts) is None
    privacy.erase(parts.store, "experience", "e-1", reason="asked", actor="test")
    done = refit.withdraw_unlearnable(parts)
    assert done is not None
    assert (done.outcome, done.serves) == ("withdrawn", "")
    assert not serving.exists()
    assert at_work(parts.settings, parts.store) == parts.settings


def test_heads_whose_teachers_withdrew_consent_go(parts, serving):
    """Those words may not be learned from any more."""
    change = ConsentChange(
        id="c-1", scope="experience", scope_id="e-0", training=False, changed_at=now()
    )
    experiences.change_consent(parts.store, change, actor="test")
    assert refit.withdraw_unlearnable(parts) is not None
    assert not serving.exists()


@pytest.fixture
def service(parts, serving):
    """A daemon that does not serve yet."""
    made = Service(parts, lambda: parts.settings)
    yield made
    made._judge.close()


def test_a_running_daemon_takes_up_what_a_refit_left_and_keeps_it_on_reload(service, serving):
    """From the command line, or from its own night; the configuration does not know of it."""
    assert service.parts.settings.panel.refitted_dir == ""
    service._oversee()
    assert service.parts.settings.panel.refitted_dir == str(serving)
    service.reload()
    assert service.parts.settings.panel.refitted_dir == str(serving)
    refit.reset(service.parts, "enough")
    service._oversee()
    assert service.parts.settings.panel.refitted_dir == ""


def test_no_cycle_turns_while_heads_are_fitted(service, monkeypatch):
    """Both want all there is; what is due stays due."""
    turned = []
    monkeypatch.setattr("daemon.service.turn", lambda *_, **__: turned.append(1))
    schedule.due_at(service.parts.store, now())
    with service._heavy:
        service._tick()
    assert turned == []
    assert schedule.schedule(service.parts.store).next_run_at <= now()


def test_a_refit_that_is_held_back_leaves_others_at_work(parts, serving, judged):
    """Those that the store names, whatever the caller knew of; and a reset stays a reset."""
    judged([(f"n-{n}", 0.1) for n in range(150)])
    for n in range(150):
        _review(parts, f"n-{n}")
    done = refit.refit(parts)  # its settings are those of the start
    assert done is not None
    assert (done.outcome, done.serves, done.members) == ("held_back", "refit-1", ())
    assert refits.serving(parts.store).members == (1, 2, 3)
    refit.reset(parts, "enough")
    assert refit.refit(parts) is None
    assert at_work(parts.settings, parts.store).panel.refitted_dir == ""


def test_two_refits_at_once_are_one(parts):
    """The second is told: it would delete what the first has made."""
    with refit._alone(parts), pytest.raises(Busy, match="under way"):
        refit.refit(parts)


def test_a_refit_that_is_not_better_is_recorded_and_changes_nothing(parts, judged):
    """By the child process itself; the same reviews are not tried again."""
    judged([(f"e-{n}", 0.1) for n in range(150)])
    _review_drawn(parts, lambda _: (), 150, random=False)
    done = refit.refit(parts)
    assert done is not None
    assert (done.outcome, done.serves) == ("held_back", "")
    assert "0 of 150 answers are harmful" in done.reason
    assert at_work(parts.settings, parts.store) == parts.settings
    assert refit.refit(parts) is None


def test_words_that_were_withheld_do_not_teach(parts, judged):
    """There is nothing left of them to learn from."""
    judged([(f"e-{n}", 0.1) for n in range(151)], response=WITHHELD)
    for n in range(151):
        _review(parts, f"e-{n}")
    assert refit.refit(parts) is None


def test_too_few_reviews_are_not_tried(parts, judged):
    """Nobody starts a child process for a dozen."""
    judged([(f"e-{n}", 0.1) for n in range(12)])
    _review_drawn(parts, lambda _: (), 12, random=False)
    assert refit.refit(parts) is None
    assert refits.last(parts.store) is None


def test_reviews_of_what_may_not_be_learned_from_do_not_teach(parts, judged):
    """Consent to training is asked here, too."""
    judged([(f"e-{n}", 0.1) for n in range(200)], training=False)
    _review_drawn(parts, lambda _: (), 200, random=False)
    assert refit.refit(parts) is None


def test_the_nightly_refit_is_due_once_a_day(parts, monkeypatch):
    """However often the clock asks; and not at all where the configuration says so."""
    asked = []
    monkeypatch.setattr(refit, "refit", lambda _: asked.append(1))
    off = msgspec.structs.replace(parts.settings.oversight, refit=False)
    settings = msgspec.structs.replace(parts.settings, oversight=off)
    refit.nightly(msgspec.structs.replace(parts, settings=settings))
    assert asked == []
    refit.nightly(parts)  # from now on it is known when
    assert asked == []
    schedule.ran(parts.store, now(), schedule.REFIT)
    refit.nightly(parts)
    refit.nightly(parts)
    assert asked == [1]


def test_other_configured_heads_end_a_refit(parts):
    """It was bent from heads that are not there any more."""
    record = refit.reset(parts, "for the test")
    old = msgspec.structs.replace(record, id="refit-1", serves="refit-1", stands_on="others")
    refits.record(parts.store, old)
    assert at_work(parts.settings, parts.store).panel.refitted_dir == ""
    same = msgspec.structs.replace(old, id="refit-2", stands_on=record.stands_on)
    refits.record(parts.store, same)
    assert at_work(parts.settings, parts.store).panel.refitted_dir.endswith("refit-1")
    refit.reset(parts, "enough")
    assert at_work(parts.settings, parts.store).panel.refitted_dir == ""


# --- health -------------------------------------------------------------------------------


def test_the_panel_is_measured_on_what_was_at_random(parts, judged):
    """What the panel was unsure of is looked at more often, and would make it look worse."""
    judged([(f"e-{n}", 0.1 if n % 2 else 0.9) for n in range(200)])
    _review_drawn(parts, lambda e: () if int(e.id[2:]) % 2 else ("harshness",), 40)
    assert _health(parts).labels == 40


def test_a_panel_that_people_contradict_halts_training(parts, judged):
    """The cycle fails before anything is built, and the metrics say so."""
    few = msgspec.structs.replace(parts.settings.oversight, least_labels=40)
    settings = msgspec.structs.replace(parts.settings, oversight=few)
    parts = msgspec.structs.replace(parts, settings=settings)
    judged([(f"e-{n}", 0.05) for n in range(200)])
    _review_drawn(parts, lambda e: ("deception",) if int(e.id[2:]) % 2 else (), 40)
    found = _health(parts)
    assert found.calibration_error > 0.15
    with pytest.raises(Untrusted, match="people's word"):
        require_health(parts)
    metrics.show_health(found)
    assert metrics.TRAINING_HALTED._value.get() == 1
    metrics.show_health(Health(labels=0))
    assert np.isnan(metrics.CALIBRATION_ERROR._value.get())


def test_new_kinds_of_answers_halt_training_until_some_were_reviewed(parts, judged):
    """Drift alarms; thirty reviews at random of the new answers settle it."""
    random = np.random.default_rng(3)
    early = random.beta(1, 9, WINDOW).round(4).tolist()
    judged([(f"e-{n}", harm) for n, harm in enumerate(early)])
    assert _health(parts).drift == {}
    late = random.beta(3, 4, WINDOW).round(4).tolist()
    judged([(f"n-{n}", harm) for n, harm in enumerate(late)])
    with pytest.raises(Untrusted, match="actual_harm has drifted"):
        require_health(parts)
    _review_drawn(parts, lambda _: (), 30)
    require_health(parts)


def test_a_cycle_asks_for_the_panels_health(parts, judged, monkeypatch):
    """After it assessed what is new and before it builds: it ends as failed, with the reason."""
    monkeypatch.setattr(cycle, "assess", lambda *_: 0)

    def alarmed(_):
        raise Untrusted("The panel says too little harm.")

    monkeypatch.setattr(cycle, "require_health", alarmed)
    ended: Cycle = cycle.turn(parts, reason="test")
    assert ended.state == "failed"
    assert "too little harm" in ended.detail
    assert cycles.running(parts.store) is None
