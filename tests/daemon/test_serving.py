"""What serves on a line: one at a time changes it, and the store's word stands."""

from __future__ import annotations

import msgspec
import pytest

from daemon import doctor
from daemon import override as by_hand
from daemon import rollback as back
from daemon.service import Service
from daemon.serving import recorded_traffic, serve_what_is_recorded, settle, sole
from daemon.settings import Settings, TrainerSettings
from daemon.wiring import Parts, open_target
from store import cycles, journal
from store.errors import Busy, Halted, NotFound, Rejected, Unavailable
from store.projections import Activation
from tests.contracts.targets import taking_files_up_to, write_adapter, write_base
from tests.daemon.judging import answering, as_candidate, judged
from trainer.targets.local import LocalTarget
from trainer.targets.target import Traffic, traffic_of


@pytest.fixture
def parts(store, tmp_path):
    """What a cycle works with, on a base that is quickly read."""
    trainer = TrainerSettings(base=str(write_base(tmp_path / "base")))
    settings = Settings(data_dir=str(tmp_path / "data"), trainer=trainer)
    settings.data.mkdir()
    return Parts(settings=settings, store=store, target=open_target(settings, store))


@pytest.fixture
def promote(parts, monkeypatch):
    """Promotes the next candidate, which answers as it was evaluated; returns the release."""
    count = iter(range(1, 10))

    def run(says=as_candidate):
        name, before = str(next(count)), cycles.current_release(parts.store, "local")
        judged(parts, {}, name=name, incumbent=before and before.id, ended="failed")
        answering(monkeypatch, says)
        return by_hand.finish(parts, f"evaluation-{name}")

    return run


def steps(parts, release):
    """The release's journal, in short."""
    return [f"{line.step} {line.state}" for line in journal.of_release(parts.store, release.id)]


def served(parts):
    """What serves, where target and store say the same."""
    found = parts.target.active()
    assert found == recorded_traffic(parts.store, parts.target)
    return found.release


def test_a_promotion_is_written_down_to_its_end(parts, promote):
    """Five steps, each before and after."""
    release = promote()
    order = ("preflight", "publish", "probe", "activate", "retire")
    assert steps(parts, release) == [f"{s} {state}" for s in order for state in ("begun", "done")]


def test_a_rollback_is_written_down(parts, promote):
    """On the journal of the release that was taken out, with what serves instead."""
    promote()
    release = promote()
    back.roll_back(parts, reason="worse", actor="me")
    assert steps(parts, release)[-2:] == ["restore begun", "restore done"]
    assert journal.of_release(parts.store, release.id)[-1].facts == {"serves": release.previous}
    assert served(parts) == release.previous


@pytest.fixture
def patient(monkeypatch):
    """Whoever finds a line locked gives up at once."""
    monkeypatch.setattr("daemon.serving.LOCK_SECONDS", 0.0)


def test_the_second_who_changes_a_line_is_told(parts, promote, patient):
    """A rollback in the middle of another's change says what to do; nothing is changed by it."""
    release = promote()
    with sole(parts, "main"):
        with pytest.raises(Busy, match=r"line main.*bhavana status"):
            back.roll_back(parts, reason="worse", actor="me")
        with pytest.raises(Busy), sole(parts, "main"):
            pass
        with sole(parts, "math"):
            pass
    assert served(parts) == release.id
    back.roll_back(parts, reason="worse", actor="me")
    assert served(parts) is None


def test_another_machine_is_kept_out_by_the_store(parts, promote, tmp_path):
    """It has a data folder, and so a lock, of its own."""
    promote()
    settings = msgspec.structs.replace(parts.settings, data_dir=str(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    other = msgspec.structs.replace(parts, settings=settings)
    with sole(other, "main"), pytest.raises(Busy, match="changes local/main"):
        back.roll_back(parts, reason="worse", actor="me")


def test_whose_lease_went_to_another_records_nothing(parts, promote):
    """The way back is recorded by who holds the line, and by nobody else."""
    promote()
    with sole(parts, "main") as held:
        taken = "UPDATE leases SET holder = 'another' WHERE name = 'local/main'"
        parts.store.write(lambda connection: connection.exec_driver_sql(taken))
        with pytest.raises(Busy, match="took over"):
            parts.store.write(held.fence)


def test_two_promotions_at_once_end_in_one(parts, promote, patient):
    """The second hears that it is busy; the first one serves."""
    judged(parts, {}, name="9", ended="failed")
    refused = []

    def says(n):
        if not refused:
            refused.append(n)
            with pytest.raises(Busy, match="promotes at this moment"):
                by_hand.finish(parts, "evaluation-9")
        return as_candidate(n)

    assert served(parts) is None
    release = promote(says)
    assert refused
    assert served(parts) == release.id


def test_a_full_disk_leaves_the_old_release_serving(parts, promote, monkeypatch, tmp_path):
    """What to do is said, half an adapter is not left, and when there is room it goes on."""
    first = promote()
    large = write_adapter(tmp_path / "large", "two", 4_000_000)
    judged(parts, {}, name="2", incumbent=first.id, ended="failed", adapter=large)
    answering(monkeypatch, as_candidate)
    with taking_files_up_to(2_000_000), pytest.raises(Unavailable, match=r"written.*Make room"):
        by_hand.finish(parts, "evaluation-2")
    assert served(parts) == first.id
    assert not list((parts.settings.data / "releases").glob("*release-2*"))
    by_hand.finish(parts, "evaluation-2")
    assert served(parts) == "release-2"


def test_who_goes_back_need_not_wait_for_a_probe(parts, promote):
    """A release that does harm goes at once; what was compared with it is not put in its place."""
    first = promote()
    gone = []

    def says(n):
        if not gone:
            gone.append(back.roll_back(parts, reason="harm", actor="me"))
        return as_candidate(n)

    with pytest.raises(Halted, match=r"the base serves now.*void"):
        promote(says)
    assert [release.id for release in gone] == [first.id]
    assert served(parts) is None


def test_what_a_kill_left_at_the_target_is_put_back(parts, promote):
    """The store's word stands, whatever serves; it is written down."""
    first, second = promote(), promote()
    back.roll_back(parts, reason="worse", actor="me")
    parts.target.activate(Traffic(release=second.id))
    serve_what_is_recorded(parts)
    assert served(parts) == first.id
    parts.target.activate(Traffic(release=None))
    serve_what_is_recorded(parts)
    assert served(parts) == first.id
    assert steps(parts, first)[-2:] == ["restore begun", "restore done"]


def test_a_release_that_the_target_lost_is_published_again(parts, promote, monkeypatch):
    """A server that was set up anew gets it from the archive."""
    release = promote()
    published = []
    publish, activate = LocalTarget.publish, LocalTarget.activate

    def lost(self, traffic, line="main"):
        if not published:
            raise NotFound("There is no such release here.")
        activate(self, traffic, line)

    def noted(self, delivery):
        published.append(delivery.release)
        return publish(self, delivery)

    parts.target.activate(Traffic(release=None))
    monkeypatch.setattr(LocalTarget, "activate", lost)
    monkeypatch.setattr(LocalTarget, "publish", noted)
    serve_what_is_recorded(parts)
    assert published == [release.id]
    assert served(parts) == release.id


def test_a_target_that_is_down_does_not_keep_a_cycle_from_its_end(parts, promote, monkeypatch):
    """It is told; the daemon's clock looks again."""
    release = promote()

    def down(*_):
        raise Unavailable("connection refused")

    monkeypatch.setattr(LocalTarget, "active", down)
    settle(parts, "main", release.id)
    service = Service(parts, lambda: parts.settings)
    service._judge.close()
    service._keep_serving()
    assert service._unserved == {"main": "connection refused"}
    monkeypatch.undo()
    parts.target.activate(Traffic(release=None))
    service._keep_serving()
    assert service._unserved == {}
    assert served(parts) == release.id


def test_a_canary_is_recorded_with_its_share(parts, promote):
    """Beside its predecessor where the target shares, alone where it cannot."""
    first, second = promote(), promote()
    beside = Traffic(release=first.id, canary=second.id, share=0.1)
    assert traffic_of(second, 0.1, shares=True) == beside
    assert traffic_of(second, 0.1, shares=False) == Traffic(release=second.id)
    assert traffic_of(None, 0.1, shares=True) == Traffic(release=None)
    third = msgspec.structs.replace(second, id="release-x", cycle_id="cycle-x", previous=second.id)
    cycles.activate(parts.store, third, share=0.25)
    parts.store.rebuild()
    assert cycles.activation(parts.store, "local") == Activation(
        target="local", release_id="release-x", reason="promoted", share=0.25
    )
    wanted = Traffic(release=second.id, canary="release-x", share=0.25)
    assert recorded_traffic(parts.store, parts.target) == wanted


def test_a_dry_run_of_a_promotion_tells_every_step(parts, monkeypatch):
    """Files and records, in order; nothing is there or said otherwise afterwards."""
    judged(parts, {}, ended="failed")
    said, before = [], parts.store.position()
    target = open_target(parts.settings, parts.store, tell=said.append)
    dry = msgspec.structs.replace(parts, target=target)
    by_hand.foretell(dry, "evaluation-1", said.append)
    text = "\n".join(said)
    for step in ("archive:", "preflight:", "publish:", "probe:", "activate:", "record:", "retire:"):
        assert step in text
    assert "current at release-1" in text
    assert (parts.store.position(), served(parts)) == (before, None)
    assert not (parts.settings.data / "releases" / "release-1").exists()


def test_a_dry_run_of_a_rollback_tells_what_would_serve(parts, promote):
    """And refuses what the rollback would refuse."""
    first, second = promote(), promote()
    said, before = [], parts.store.position()
    target = open_target(parts.settings, parts.store, tell=said.append)
    dry = msgspec.structs.replace(parts, target=target)
    back.foretell(dry, said.append)
    assert f"current at {first.id}" in "\n".join(said)
    assert said[-1] == f"record: {first.id} serves on main, not {second.id}"
    assert (parts.store.position(), served(parts)) == (before, second.id)
    with pytest.raises(Rejected, match="nothing to go back to"):
        back.foretell(dry, said.append, line="math")


def test_the_doctor_asks_the_target(parts, promote, tmp_path):
    """What serves on each line; where it is not what is recorded, and where nobody answers."""
    url = {"url": parts.store.url}
    settings = msgspec.structs.replace(
        parts.settings, store=msgspec.structs.replace(parts.settings.store, **url)
    )
    [check] = doctor._targets(settings)
    assert (check.state, check.said) == ("ok", "local serves the base on main")
    release = promote()
    [check] = doctor._targets(settings)
    assert (check.state, check.said) == ("ok", f"local serves {release.id} on main")
    parts.target.activate(Traffic(release=None))
    [check] = doctor._targets(settings)
    assert check.state == "warn"
    assert f"recorded is {release.id}" in check.said
