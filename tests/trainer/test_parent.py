"""Training that begins with a parent's adapter instead of a fresh one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file

from store.errors import IntegrityError, Rejected
from trainer import sft
from trainer.adapter import FILES, Parent, adapter_hash, begin_with
from trainer.base import Base
from trainer.finetune import finetune
from trainer.job import read_record, write_record
from trainer.jobs import FinetuneJob, FinetuneManifest
from trainer.model import for_training
from trainer.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")
Write = Callable[..., Path]


@pytest.fixture
def release(trained: Path, tmp_path: Path) -> Parent:
    """A release: a copy of the trained adapter."""
    folder = Path(shutil.copytree(trained / "adapter", tmp_path / "release-1"))
    return Parent(release="release-1", adapter=str(folder), adapter_hash=adapter_hash(folder))


@pytest.fixture
def job(
    release: Parent, tiny_base: Base, recipe: Recipe, rows: list[Any], tmp_path: Path,
    write_dataset: Any,
) -> Write:  # fmt: skip
    """Writes a job of six steps that begins with the parent; its folder."""
    dataset = write_dataset(tmp_path / "dataset", rows, rows[:2])

    def write(name: str, *, hash: str | None = None, alone: bool = False, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        wanted = {"num_train_epochs": 2.0, "save_steps": 2.0, "lora_dropout": 0.1} | changes
        start = msgspec.structs.replace(release, adapter_hash=hash or release.adapter_hash)
        order = FinetuneJob(
            base=tiny_base,
            recipe=msgspec.structs.replace(recipe, **wanted),
            dataset=dataset,
            cache=str(tmp_path / "cache"),
            parent=None if alone else start,
        )
        write_record(folder / "job.json", order)
        return folder

    return write


def test_the_adapter_begins_with_the_parents_weights(
    tiny_base: Base, recipe: Recipe, release: Parent
) -> None:
    """All of them, to the bit; a fresh one's B is zero, and its model is the base."""
    model = for_training(Path(tiny_base.location), recipe)
    fresh = get_peft_model_state_dict(model)
    assert not any(fresh[name].any() for name in fresh if "lora_B" in name)
    begin_with(model, release)
    begun, given = get_peft_model_state_dict(model), load_file(Path(release.adapter) / FILES[1])
    assert begun.keys() == given.keys()
    assert all(torch.equal(begun[name], given[name]) for name in given)


def test_it_goes_on_from_the_parent_and_says_so(job: Write) -> None:
    """It ends nearer to the parent than a training from the base, which is another adapter."""
    continued, alone = job("continued"), job("alone", alone=True)
    for folder in (continued, alone):
        finetune(folder)
    manifest = read_record(continued / "manifest.json", FinetuneManifest)
    order = read_record(continued / "job.json", FinetuneJob)
    assert manifest.parent == order.parent
    assert read_record(alone / "manifest.json", FinetuneManifest).parent is None
    losses = {
        folder.name: read_record(folder / "manifest.json", FinetuneManifest).metrics["train_loss"]
        for folder in (continued, alone)
    }
    assert losses["continued"] < losses["alone"] - 0.5  # it knew these rows


def test_killed_and_resumed_it_ends_with_the_same_adapter(
    job: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a checkpoint, not from the parent again: the same bytes as in one go."""

    class Killed(sft.Beat):
        """Stands in for SIGKILL in the fifth step."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 4:
                raise KeyboardInterrupt

    folder, peaceful = job("killed"), job("peaceful")
    with monkeypatch.context() as patch:
        patch.setattr("trainer.sft.Beat", Killed)
        with pytest.raises(KeyboardInterrupt):
            finetune(folder)
    assert finetune(folder).adapter_hash == finetune(peaceful).adapter_hash  # type: ignore[union-attr]
    assert capsys.readouterr().out.count("goes on from step 4 of 6") == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora_r": 8}, "r 4, not 8"),
        ({"lora_alpha": 16}, "lora_alpha 8, not 16"),
        ({"use_rslora": True}, "use_rslora False, not True"),
        ({"lora_target_modules": ("q_proj",)}, "target_modules"),
        ({"lora_layer_share": 0.5}, "other layers or modules"),
        ({"init_lora_weights": "pissa"}, "pissa"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_parent_of_another_shape_is_refused(
    job: Write, changes: dict[str, Any], said: str
) -> None:
    """The sentence names what differs; nothing is trained."""
    folder = job("run", **changes)
    with pytest.raises(Rejected, match=said):
        finetune(folder)
    assert not (folder / "adapter").exists()


def test_a_parent_of_other_bytes_is_refused(job: Write) -> None:
    """The job is bound to the hash of the release that it names."""
    with pytest.raises(IntegrityError, match="release-1"):
        finetune(job("run", hash="0" * 64))
