"""What a cycle does about words that were erased while it turned."""

from __future__ import annotations

import msgspec
import pytest

from daemon import cycle, descent
from daemon.settings import Settings, StoreSettings
from daemon.wiring import Parts, open_target
from scorers.panel import panel_id
from store import cycles, experiences, privacy, reviews, sources
from store.errors import Halted, Misconfigured, Rejected
from store.records import Cycle, Dataset, Policy, Release, Review, now
from tests.converters.building import ALIKE
from trainer.base import locate
from trainer.recipe import Recipe
from trainer.targets.limits import Limits

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
    return Parts(settings=settings, store=store, target=open_target(settings, store))


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
    descent.require_unerased(parts, dataset)
    _erase(parts.store)
    with pytest.raises(Halted, match="erased"):
        descent.require_unerased(parts, dataset)


def test_what_the_target_cannot_serve_is_not_trained(parts, begun, monkeypatch, tmp_path):
    """The step ends before a child is started, and says which knob to turn."""
    dataset = cycle.build(parts, begun)
    monkeypatch.setattr(type(parts.target), "limits", Limits(max_rank=8))
    with pytest.raises(Misconfigured, match="highest rank is 8, this adapter's is 16"):
        cycle.train(parts, begun, dataset)
    assert not (tmp_path / "runs").exists()


def test_a_method_that_learns_from_preferences_gets_its_dataset(parts, begun, tmp_path):
    """Built from what a reviewer said; another method does not train on it, and says why."""
    review = Review(
        id="r-1", experience_id="canary", decision="correct", text="I do not know.",
        reason="seen", reviewer="ann", reviewed_at=now(),
    )  # fmt: skip
    reviews.record(parts.store, review, actor="test")
    begun = msgspec.structs.replace(begun, position=parts.store.position())
    settings = msgspec.structs.replace(
        parts.settings,
        trainer=msgspec.structs.replace(parts.settings.trainer, recipe=Recipe(method="dpo")),
        policy=msgspec.structs.replace(parts.settings.policy, holdout_share=0.0, test_share=0.0),
    )
    preferring = msgspec.structs.replace(parts, settings=settings)
    dataset = cycle.build(preferring, begun)
    assert (dataset.format, dataset.counts) == ("dpo", {"train": 1})
    assert cycles.of_cycle(parts.store, Dataset, begun.id) == dataset
    with pytest.raises(Rejected, match=r"built as dpo; trainer\.recipe\.method sft learns"):
        cycle.train(parts, begun, dataset)
    assert not (tmp_path / "runs").exists()
    _erase(parts.store)
    with pytest.raises(Halted, match="erased"):
        descent.require_unerased(preferring, dataset)


@pytest.mark.parametrize(("name", "said"), [("smollm2-135m", "its bytes"), ("other", "not to")])
def test_release_of_another_base_stops_the_cycle(parts, monkeypatch, name, said):
    """Another name, or the same name with other bytes: a hub branch moves, a file is replaced."""
    hash = "0" * 64
    assert locate("smollm2-135m").hash != hash
    release = Release(
        id="release-1", cycle_id="cycle-0", run_id="run-0", evaluation_id="evaluation-0",
        target="local", location="", adapter_hash="1" * 64, base=name, base_hash=hash,
        previous=None, published_at=now(),
    )  # fmt: skip
    monkeypatch.setattr(cycles, "current_release", lambda *_: release)
    with pytest.raises(Rejected, match=said) as refused:
        descent.incumbent_of(parts)
    assert "data_dir of its own" in str(refused.value)
    monkeypatch.setattr(
        cycles,
        "current_release",
        lambda *_: msgspec.structs.replace(release, base_hash=locate("smollm2-135m").hash),
    )
    assert descent.incumbent_of(parts) is not None
