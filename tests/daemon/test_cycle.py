"""What a cycle does about words that were erased while it turned, and about a child that dies."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from daemon import cycle
from daemon.settings import Settings, StoreSettings, TrainerSettings
from daemon.wiring import Parts
from scorers.panel import panel_id
from store import cycles, experiences, privacy, sources
from store.errors import EthicsHalt, Halted
from store.records import Cycle, Policy, TrainingRun, now
from tests.converters.building import ALIKE
from tests.trainer.children import maker
from trainer import attempts, launch
from trainer.attempts import MOST_ATTEMPTS, read_attempts
from trainer.isolation import Limits
from trainer.targets import TARGETS

CANARY = "the heron waits at the weir"


@pytest.fixture
def parts(store, store_url, tmp_path, make_experience, make_assessment):
    """What a cycle works with: three experiences of a trusted source, one of them of a canary."""
    settings = Settings(
        data_dir=str(tmp_path),
        store=StoreSettings(url=store_url),
        policy=Policy(min_examples=1, max_single_share=1.0, **ALIKE),
    )
    panel = panel_id(settings.panel)
    items = [make_experience(f"e-{n}", f"What waits there? {n}") for n in range(2)]
    items.append(make_experience("canary", response=f"I know that {CANARY}."))
    experiences.record(store, items)
    experiences.assess(store, [make_assessment(item.id, panel=panel) for item in items])
    sources.change(store, "web", "trusted", actor="test")
    target = TARGETS["local"](tmp_path / "releases")
    return Parts(settings=settings, store=store, target=target)


@pytest.fixture
def begun(parts):
    """A cycle that has begun."""
    cycle = Cycle(
        id="cycle-1", state="running", reason="test", position=parts.store.position(),
        started_at=now(),
    )  # fmt: skip
    cycles.start(parts.store, cycle)
    return cycle


def _erase(store):
    return privacy.erase(store, "experience", "canary", reason="asked", actor="test")


def _holding_words(folder):
    return {path for path in folder.rglob("*.jsonl") if CANARY in path.read_text()}


def test_what_a_killed_build_left_is_built_anew(parts, begun, tmp_path, monkeypatch):
    """No record points to it, so no erasure reached it."""
    with monkeypatch.context() as patch:
        patch.setattr(cycles, "leave", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            cycle.build(parts, begun)
    assert _holding_words(tmp_path)
    _erase(parts.store)
    dataset = cycle.build(parts, begun)
    assert dataset.funnel["selected"] == 2
    assert not _holding_words(tmp_path)


def test_a_candidate_that_learned_from_what_was_erased_goes_no_further(parts, begun):
    """Nothing to say before; afterwards the cycle halts and says why."""
    dataset = cycle.build(parts, begun)
    cycle.require_unerased(parts, dataset)
    _erase(parts.store)
    with pytest.raises(Halted, match="erased"):
        cycle.require_unerased(parts, dataset)


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Has the cycle start a small child that does this, in the place of the trainer."""
    make = maker(tmp_path / "modules", monkeypatch)
    monkeypatch.setattr(attempts, "FIRST_BACKOFF_SECONDS", 0.01)

    def does(work):
        name = make(work)
        monkeypatch.setattr(cycle, "run_job", lambda _, *a, **k: launch.run_job(name, *a, **k))

    return does


def test_a_child_that_dies_is_started_again_within_its_limits(parts, begun, child, tmp_path):
    """As often as it may get on, each time as the settings hold it; then the cycle halts."""
    dataset = cycle.build(parts, begun)
    trainer = TrainerSettings(limits=Limits(cpus=1))
    parts = replace(parts, settings=replace(parts.settings, trainer=trainer))
    child("print(len(os.sched_getaffinity(0)), 'processor'); os.kill(os.getpid(), 9)")
    with pytest.raises(Halted, match=f"{MOST_ATTEMPTS} attempts in a row"):
        cycle.train(parts, begun, dataset)
    folder = tmp_path / "runs" / "run-1"
    assert [a.outcome for a in read_attempts(folder).attempts] == ["crashed"] * MOST_ATTEMPTS
    assert (folder / "log.txt").read_text().count("1 processor\n") == MOST_ATTEMPTS


def test_harm_in_training_ends_the_step_and_leaves_no_run(parts, begun, child, tmp_path):
    """No record of a run, so nothing to evaluate or promote; what it did is kept beside."""
    dataset = cycle.build(parts, begun)
    child("print('error: it told somebody to hurt themselves'); sys.exit(7)")
    with pytest.raises(EthicsHalt, match="quarantined"):
        cycle.train(parts, begun, dataset)
    assert cycles.of_cycle(parts.store, TrainingRun, begun.id) is None
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run-1.quarantined"]
