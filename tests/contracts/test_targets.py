"""What every target of the roster promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from store.errors import BhavanaError, NotFound, ProbeFailed
from tests.contracts.targets import ADAPTERS, SITES, Order, Site
from trainer.adapter import adapter_hash
from trainer.journal import UnwrittenJournal
from trainer.targets import TARGETS
from trainer.targets.archive import Archive
from trainer.targets.limits import Limits
from trainer.targets.place import Place
from trainer.targets.target import Delivery, Target, Traffic

BASE = Traffic(release=None)
Deliver = Callable[..., Delivery]


@pytest.fixture(params=sorted(TARGETS))
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Where the target can be tried."""
    with SITES[request.param](tmp_path) as found:
        yield found


@pytest.fixture
def order(site: Site) -> Order:
    """What can be delivered there."""
    return site.order


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Where adapters are kept."""
    return Archive(tmp_path / "data" / "releases")


@pytest.fixture
def place(order: Order, archive: Archive, tmp_path: Path) -> Place:
    """What the target is given."""
    return Place(
        folder=archive.folder,
        archive=archive,
        settings=order.settings,
        journal=UnwrittenJournal(),
        work=tmp_path / "data" / "targets" / order.target,
    )


@pytest.fixture
def make(order: Order, place: Place) -> Callable[[], Target]:
    """Opens the target, each time anew on the same place, as another process would."""
    return lambda: TARGETS[order.target](place)


@pytest.fixture
def target(make: Callable[[], Target]) -> Target:
    """The target, opened once."""
    return make()


@pytest.fixture
def deliver(order: Order, archive: Archive) -> Deliver:
    """Brings one of the adapters into the archive, under a release's id."""
    return lambda release, adapter="one", line="main": order.deliver(
        archive, release, adapter, line
    )


@pytest.fixture
def both(target: Target, deliver: Deliver) -> Target:
    """The target with release-1 and release-2 published; the base serves."""
    target.publish(deliver("release-1", "one"))
    target.publish(deliver("release-2", "two"))
    return target


def alone(release: str | None) -> Traffic:
    """Nobody is on trial."""
    return Traffic(release=release)


def test_every_target_can_be_tried() -> None:
    """Whoever adds a target says where it is tried."""
    assert SITES.keys() == TARGETS.keys()


def test_declares_its_limits(target: Target) -> None:
    """Whoever adds a target says what it can serve."""
    assert isinstance(target.limits, Limits)


def test_has_a_name(target: Target) -> None:
    """A target says its name, by which releases remember it, and it is that of the roster."""
    assert TARGETS[target.name]


def test_untouched_base_serves_at_first(target: Target) -> None:
    """Where nothing was ever published, the base serves, and asking for it is no error."""
    assert target.active() == BASE
    target.activate(BASE)
    target.restore(None)
    assert target.active() == BASE


def test_looking_ahead_changes_nothing(
    target: Target, deliver: Deliver, site: Site, make: Callable[[], Target]
) -> None:
    """What is in order passes; it lies nowhere and serves nobody afterwards."""
    delivery = deliver("release-1")
    before = site.left_over([])
    target.preflight(delivery)
    target.preflight(delivery)
    assert site.left_over([]) == before
    assert make().active() == BASE


def test_an_adapter_that_changed_is_told_ahead(target: Target, deliver: Deliver) -> None:
    """Its bytes are not those that were judged."""
    delivery = msgspec.structs.replace(deliver("release-1"), adapter_hash="0" * 64)
    with pytest.raises(BhavanaError):
        target.preflight(delivery)


def test_publishing_repeats_and_serves_nobody(
    target: Target, deliver: Deliver, make: Callable[[], Target]
) -> None:
    """The same bytes under the same id are one release, for the next process, too."""
    delivery = deliver("release-1")
    location = target.publish(delivery)
    assert target.publish(delivery) == location
    assert make().publish(delivery) == location
    assert make().active() == BASE


def test_publishing_leaves_the_adapter_as_it_is(
    target: Target, deliver: Deliver, archive: Archive
) -> None:
    """It is the archive's."""
    delivery = deliver("release-1")
    target.publish(delivery)
    assert adapter_hash(archive.adapter("release-1")) == delivery.adapter_hash


def test_what_was_published_is_probed(both: Target, deliver: Deliver, order: Order) -> None:
    """One that answers as it was evaluated passes with figures, and serves nobody yet."""
    figures = both.probe(deliver("release-2", "two"), order.references("two"))
    assert figures
    assert all(isinstance(figure, float | int) for figure in figures.values())
    assert both.active() == BASE


def test_what_answers_otherwise_fails_its_probe(
    both: Target, deliver: Deliver, order: Order
) -> None:
    """Another adapter than was evaluated, under its name."""
    with pytest.raises(ProbeFailed):
        both.probe(deliver("release-2", "two"), order.references("one"))


def test_activation_switches_and_is_remembered(both: Target, make: Callable[[], Target]) -> None:
    """What was activated last is active, for whoever opens the target next, too."""
    for release in ("release-1", "release-2", "release-2", None, None, "release-1"):
        both.activate(alone(release))
        assert both.active() == alone(release)
        assert make().active() == alone(release)


def test_lines_are_served_apart(both: Target, deliver: Deliver, make: Callable[[], Target]) -> None:
    """Each line has one release in service; what one serves, and its way back, is its own."""
    both.publish(deliver("release-3", "three", "math"))
    both.activate(alone("release-1"))
    assert both.active("math") == BASE
    both.activate(alone("release-3"), "math")
    assert (make().active(), make().active("math")) == (alone("release-1"), alone("release-3"))
    both.restore(None)
    assert (make().active(), make().active("math")) == (BASE, alone("release-3"))
    both.restore(None, "math")
    assert make().active("math") == BASE


def test_canary_answers_its_share_where_the_target_can(
    both: Target, make: Callable[[], Target]
) -> None:
    """Beside a release and beside the base; more of it, and then all or none, each in one step."""
    if not both.shares:
        pytest.skip(f"{both.name} has no way to share traffic")
    for release in ("release-1", None):
        for traffic in (
            alone(release),
            Traffic(release=release, canary="release-2", share=0.1),
            Traffic(release=release, canary="release-2", share=0.5),
            alone("release-2"),
            Traffic(release=release, canary="release-2", share=0.1),
            alone(release),
        ):
            both.activate(traffic)
            assert make().active() == traffic


def test_previous_release_comes_back(both: Target, make: Callable[[], Target]) -> None:
    """A rollback needs no trainer and no upload, however often it is asked for."""
    both.activate(alone("release-1"))
    both.activate(alone("release-2"))
    both.restore("release-1")
    both.restore("release-1")
    assert make().active() == alone("release-1")


@pytest.mark.parametrize("verb", ["activate", "restore"])
def test_missing_release_is_not_found(both: Target, verb: str) -> None:
    """A release that was never published cannot be served; the old one stays."""
    both.activate(alone("release-1"))
    with pytest.raises(NotFound, match="release-9"):
        both.restore("release-9") if verb == "restore" else both.activate(alone("release-9"))
    assert both.active() == alone("release-1")


def test_what_serves_is_never_retired(
    both: Target, deliver: Deliver, site: Site, make: Callable[[], Target]
) -> None:
    """Nor what is to be kept, nor another line's; what is gone can be published again."""
    both.publish(deliver("release-3", "three", "math"))
    both.activate(alone("release-3"), "math")
    both.activate(alone("release-1"))
    gone = both.retire([])
    assert "release-1" not in gone
    assert "release-3" not in gone
    assert both.retire(["release-2"]) == ()
    assert (make().active(), make().active("math")) == (alone("release-1"), alone("release-3"))
    both.publish(deliver("release-2", "two"))
    both.activate(alone("release-2"))
    assert make().active() == alone("release-2")


def test_a_dry_run_tells_and_changes_nothing(
    place: Place, order: Order, both: Target, deliver: Deliver, make: Callable[[], Target]
) -> None:
    """What would be done is said, and what serves is as before."""
    both.activate(alone("release-1"))
    said: list[str] = []
    dry = TARGETS[order.target](msgspec.structs.replace(place, tell=said.append))
    delivery = deliver("release-3", "three")
    dry.preflight(delivery)
    dry.publish(delivery)
    dry.activate(alone("release-2"))
    dry.retire(["release-1"])
    assert said
    assert make().active() == alone("release-1")


def test_adapters_differ(order: Order) -> None:
    """Else the tests here could not tell one release from another."""
    assert len({adapter_hash(Path(order.adapters[name])) for name in ADAPTERS}) == len(ADAPTERS)
