"""Checkpoints: which is resumed from, which are thrown away, and what the disk must hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from store.errors import DoesNotFit, Unavailable
from trainer import checkpoints as module
from trainer.checkpoints import MARK, NEVER_KEPT, Checkpoints, checkpoint_bytes


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    """Three checkpoints of two files, all whole."""
    made = Checkpoints(tmp_path / "checkpoints", "job-1", limit=3)
    for step in (2, 10, 9):
        write(made, step)
        made.seal(step)
    return made


def write(checkpoints: Checkpoints, step: int) -> Path:
    """What transformers leaves, as far as it matters here."""
    folder = checkpoints.folder / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_bytes(b"moments %d" % step)
    (folder / "adapter_model.safetensors").write_bytes(b"weights %d" % step)
    (folder / NEVER_KEPT).write_bytes(b"a pickle")
    return folder


def test_the_newest_by_step_is_resumed_from(kept: Checkpoints) -> None:
    """By the number of the step, not by name or time; a pickle is in none of them."""
    newest = kept.newest()
    assert newest is not None
    assert newest.name == "checkpoint-10"
    assert not list(kept.folder.rglob(NEVER_KEPT))


Harm = Callable[[Path], Any]
HARMS: dict[str, Harm] = {
    "not finished": lambda folder: (folder / MARK).unlink(),
    "half a mark": lambda folder: (folder / MARK).write_bytes(b'{"job": "job-1", "st'),
    "a file gone": lambda folder: (folder / "optimizer.pt").unlink(),
    "a file cut": lambda folder: (folder / "optimizer.pt").write_bytes(b"mom"),
    "a bit flipped": lambda folder: (folder / "optimizer.pt").write_bytes(b"momentt 10"),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_one_that_is_not_whole_is_thrown_away_with_a_word(
    kept: Checkpoints, harm: Harm, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one before it is resumed from, and the log says why."""
    harm(kept.folder / "checkpoint-10")
    newest = kept.newest()
    assert newest is not None
    assert newest.name == "checkpoint-9"
    assert "checkpoint-10 is thrown away: " in capsys.readouterr().out
    assert not (kept.folder / "checkpoint-10").exists()


def test_those_of_another_job_are_not_resumed_from(
    kept: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another recipe, dataset or version: nothing is left to go on from."""
    assert Checkpoints(kept.folder, "job-2", limit=3).newest() is None
    assert "of another job" in capsys.readouterr().out


def test_none_is_no_error(tmp_path: Path) -> None:
    """A job that begins has none."""
    assert Checkpoints(tmp_path / "checkpoints", "job-1", limit=1).newest() is None


def test_the_oldest_go_when_the_newest_is_whole(kept: Checkpoints) -> None:
    """No more than the limit stay; until the mark is written, all earlier ones do."""
    kept.limit = 2
    write(kept, 12)
    assert len(list(kept.folder.iterdir())) == 4
    kept.seal(12)
    assert sorted(p.name for p in kept.folder.iterdir()) == ["checkpoint-10", "checkpoint-12"]


class Usage(NamedTuple):
    """As shutil.disk_usage tells."""

    total: int
    used: int
    free: int


@pytest.fixture
def model() -> torch.nn.Module:
    """A million trainable weights, and as many frozen ones."""
    made = torch.nn.Sequential(*(torch.nn.Linear(1000, 1000, bias=False) for _ in range(2)))
    made[0].requires_grad_(False)
    return made


def test_a_checkpoint_is_as_large_as_was_thought(tmp_path: Path, model: torch.nn.Module) -> None:
    """Weights and both moments of AdamW, as they are on disk."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    model(torch.ones(1, 1000)).sum().backward()
    optimizer.step()
    torch.save([trained, optimizer.state_dict()], tmp_path / "file")
    assert (tmp_path / "file").stat().st_size == pytest.approx(checkpoint_bytes(model), rel=0.01)


def test_a_disk_that_is_too_small_is_told_before_the_first_step(
    tmp_path: Path, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the megabytes that are needed and those that are free, and the knob."""
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(0, 0, 47_000_000))
    # (12 MB x (limit + 1) + an adapter of 4 MB) x 1.2
    with pytest.raises(DoesNotFit, match=r"47 MB free; .* need 48 MB.*save_total_limit"):
        Checkpoints(tmp_path / "c", "job", limit=2).require_space(model)
    Checkpoints(tmp_path / "c", "job", limit=1).require_space(model)


def test_a_disk_that_fills_up_stops_before_the_next_checkpoint(
    tmp_path: Path, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run can go on later from the checkpoint before; no half one is written."""
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(0, 0, 14_000_000))
    with pytest.raises(Unavailable, match=r"14 MB free; the next checkpoint needs 14 MB"):
        Checkpoints(tmp_path, "job", limit=2).require_space_for_next(model)


def test_what_earlier_tries_wrote_counts_as_there(
    tmp_path: Path, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on does not need the space of its own checkpoints twice."""
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(0, 0, 40_000_000))
    kept = Checkpoints(tmp_path / "c", "job", limit=2)
    folder = write(kept, 3)
    (folder / "optimizer.pt").write_bytes(bytes(9_000_000))
    kept.require_space(model)
