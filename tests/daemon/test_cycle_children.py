"""What a cycle does about a child that dies, and about one that did harm."""

from __future__ import annotations

import pytest

from daemon import cycle
from daemon.settings import Settings, TrainerSettings
from daemon.wiring import Parts, open_target
from store import cycles
from store.errors import EthicsHalt, Halted
from store.records import Cycle, Dataset, Policy, TrainingRun, now
from tests.trainer.children import maker
from trainer import attempts, launch
from trainer.attempts import MOST_ATTEMPTS, read_attempts
from trainer.isolation import ResourceLimits


@pytest.fixture
def parts(store, tmp_path):
    """What a cycle works with; its children get one processor."""
    trainer = TrainerSettings(limits=ResourceLimits(cpus=1))
    settings = Settings(data_dir=str(tmp_path), trainer=trainer)
    return Parts(settings=settings, store=store, target=open_target(settings, store))


@pytest.fixture
def train(parts, tmp_path, monkeypatch):
    """Has a cycle train with a small child that does this, in the place of the trainer."""
    make = maker(tmp_path / "modules", monkeypatch)
    monkeypatch.setattr(attempts, "FIRST_BACKOFF_SECONDS", 0.01)
    begun = Cycle(id="cycle-1", state="running", reason="test", position=0, started_at=now())
    cycles.start(parts.store, begun)
    dataset = Dataset(
        id="dataset-1", cycle_id=begun.id, position=0, path=str(tmp_path), content_hash="0",
        policy=Policy(), panel="p", counts={}, funnel={}, built_at=now(),
    )  # fmt: skip

    def does(work):
        name = make(work)
        monkeypatch.setattr(cycle, "run_job", lambda _, *a, **k: launch.run_job(name, *a, **k))
        return cycle.train(parts, begun, dataset)

    return does


def test_a_child_that_dies_is_started_again_within_its_limits(train, tmp_path):
    """As often as it may get on, each time as the settings hold it; then the cycle halts."""
    with pytest.raises(Halted, match=f"{MOST_ATTEMPTS} attempts in a row"):
        train("print(len(os.sched_getaffinity(0)), 'processor'); os.kill(os.getpid(), 9)")
    folder = tmp_path / "runs" / "run-1"
    assert [a.outcome for a in read_attempts(folder).attempts] == ["crashed"] * MOST_ATTEMPTS
    assert (folder / "log.txt").read_text().count("1 processor\n") == MOST_ATTEMPTS


def test_harm_in_training_ends_the_step_and_leaves_no_run(train, parts, tmp_path):
    """No record of a run, so nothing to evaluate or promote; what it did is kept beside."""
    with pytest.raises(EthicsHalt, match="quarantined"):
        train("print('error: it told somebody to hurt themselves'); sys.exit(7)")
    assert cycles.of_cycle(parts.store, TrainingRun, "cycle-1") is None
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run-1.quarantined"]
