"""What every target of the roster promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from store.errors import IntegrityError, NotFound
from trainer.adapter import FILES, adapter_hash
from trainer.targets import TARGETS
from trainer.targets.target import Target

WriteAdapter = Callable[[str], Path]


@pytest.fixture(params=sorted(TARGETS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Target]:
    """Opens the target, each time anew on the same place."""
    return lambda: TARGETS[request.param](tmp_path / "releases")


@pytest.fixture
def target(make: Callable[[], Target]) -> Target:
    """The target, opened once."""
    return make()


@pytest.fixture
def write(tmp_path: Path) -> WriteAdapter:
    """Writes an adapter whose weights say this."""

    def adapter(weights: str) -> Path:
        folder = tmp_path / "adapters" / weights
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (folder / name).write_bytes(f"{name} {weights}".encode())
        return folder

    return adapter


def publish(target: Target, release_id: str, adapter: Path) -> str:
    """Publishes the adapter under its own hash."""
    return target.publish(release_id, adapter, adapter_hash(adapter))


def test_has_a_name(target: Target) -> None:
    """A target says its name, by which releases remember it, and it is that of the roster."""
    assert TARGETS[target.name]


def test_untouched_base_serves_at_first(target: Target) -> None:
    """Where nothing was ever published, the base serves, and asking for it is no error."""
    assert target.active() is None
    target.activate(None)
    assert target.active() is None


def test_publish_is_idempotent(target: Target, write: WriteAdapter) -> None:
    """The same bytes under the same id are one release; publishing alone does not serve it."""
    adapter = write("one")
    location = publish(target, "release-1", adapter)
    assert publish(target, "release-1", adapter) == location
    assert target.active() is None
    assert adapter_hash(target.adapter("release-1")) == adapter_hash(adapter)


def test_release_is_a_copy(target: Target, write: WriteAdapter) -> None:
    """What happens to the training folder afterwards does not reach the release."""
    adapter = write("one")
    expected = adapter_hash(adapter)
    publish(target, "release-1", adapter)
    (adapter / FILES[1]).unlink()
    assert adapter_hash(target.adapter("release-1")) == expected


def test_other_bytes_under_the_same_id_are_refused(target: Target, write: WriteAdapter) -> None:
    """A release is immutable: a second adapter under its id changes nothing."""
    first, second = write("one"), write("two")
    publish(target, "release-1", first)
    with pytest.raises(IntegrityError):
        publish(target, "release-1", second)
    assert adapter_hash(target.adapter("release-1")) == adapter_hash(first)


def test_bytes_that_were_not_evaluated_leave_nothing(target: Target, write: WriteAdapter) -> None:
    """An adapter unlike its hash is refused, and the right one can still be published."""
    right, wrong = write("right"), write("wrong")
    with pytest.raises(IntegrityError):
        target.publish("release-1", wrong, adapter_hash(right))
    with pytest.raises(NotFound):
        target.adapter("release-1")
    publish(target, "release-1", right)
    assert adapter_hash(target.adapter("release-1")) == adapter_hash(right)


def test_activation_switches_and_is_remembered(
    target: Target, write: WriteAdapter, make: Callable[[], Target]
) -> None:
    """What was activated last is active, for whoever opens the target next, too."""
    publish(target, "release-1", write("one"))
    publish(target, "release-2", write("two"))
    for release in ("release-1", "release-2", "release-2", None, None, "release-1"):
        target.activate(release)
        assert target.active() == release
        assert make().active() == release


def test_lines_are_served_apart(
    target: Target, write: WriteAdapter, make: Callable[[], Target]
) -> None:
    """Each line has one release in service; what one serves, and its way back, is its own."""
    publish(target, "release-1", write("one"))
    publish(target, "release-2", write("two"))
    target.activate("release-1")
    assert target.active("math") is None
    target.activate("release-2", "math")
    assert (make().active(), make().active("math")) == ("release-1", "release-2")
    target.activate(None)
    assert (make().active(), make().active("math")) == (None, "release-2")
    target.activate(None, "math")
    assert make().active("math") is None


def test_previous_release_stays_loadable(target: Target, write: WriteAdapter) -> None:
    """A rollback needs no trainer and no upload: the old bytes are still there."""
    old = write("old")
    publish(target, "release-1", old)
    target.activate("release-1")
    publish(target, "release-2", write("new"))
    target.activate("release-2")
    assert adapter_hash(target.adapter("release-1")) == adapter_hash(old)
    target.activate("release-1")
    assert target.active() == "release-1"


def test_missing_release_is_not_found(target: Target, write: WriteAdapter) -> None:
    """A release that was never published cannot be read or served; the old one stays."""
    publish(target, "release-1", write("one"))
    target.activate("release-1")
    with pytest.raises(NotFound, match="release-9"):
        target.adapter("release-9")
    with pytest.raises(NotFound, match="release-9"):
        target.activate("release-9")
    assert target.active() == "release-1"


def test_adapter_that_is_not_there_is_told(target: Target, tmp_path: Path) -> None:
    """A folder without the two files is an integrity error, not a crash, and leaves no release."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(IntegrityError):
        target.publish("release-1", tmp_path / "empty", "0" * 64)
    with pytest.raises(NotFound):
        target.adapter("release-1")


def test_leftovers_of_a_killed_publish_are_no_obstacle(
    target: Target, write: WriteAdapter, tmp_path: Path
) -> None:
    """A publish that was killed midway is simply repeated."""
    partial = tmp_path / "releases" / ".release-1.partial"
    partial.mkdir(parents=True)
    (partial / FILES[0]).write_bytes(b"half")
    (partial / "other").write_bytes(b"older version's file")
    adapter = write("one")
    publish(target, "release-1", adapter)
    assert adapter_hash(target.adapter("release-1")) == adapter_hash(adapter)
    assert {p.name for p in target.adapter("release-1").iterdir()} == set(FILES)
