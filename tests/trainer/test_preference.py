"""Learning from what people prefer: DPO from pairs, KTO from marks, as any other training."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from daemon.settings import load
from store.errors import Misconfigured, Rejected
from tests.trainer.children import ROOT, Nursery, wait_for_step
from tests.trainer.conftest import RECIPE, _finetune, write_dataset
from trainer.adapter import adapter_hash
from trainer.base import Base
from trainer.checkpoints import MARK
from trainer.choice import PREFERENCE_LOSS
from trainer.evaluate import evaluate
from trainer.finetune import _arguments
from trainer.gates import GATES
from trainer.job import read_record, write_record
from trainer.jobs import FinetuneJob, FinetuneManifest
from trainer.memory import Thrift, learned
from trainer.methods import method_of
from trainer.model import for_training, tokenizer_of
from trainer.progress import curves
from trainer.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")
Finetune = Callable[..., tuple[FinetuneManifest, Path]]
GOOD, BAD = "Gladly. Let us look at it together.", "No idea, leave me alone."


def asked(n: int) -> list[dict[str, str]]:
    """A prompt."""
    return [{"role": "user", "content": f"Question {n}: why is the sky blue?"}]


def said(text: str) -> list[dict[str, str]]:
    """An answer."""
    return [{"role": "assistant", "content": text}]


def pairs(start: int, count: int) -> list[dict[str, Any]]:
    """Rows for DPO: friendly answers are better than rude ones."""
    return [
        {
            "id": f"e-{n}",
            "conversation": f"c-{n}",
            "prompt": asked(n),
            "chosen": said(f"{GOOD} {n}"),
            "rejected": said(f"{BAD} {n} {n}"),
        }
        for n in range(start, start + count)
    ]


def marks(start: int, count: int) -> list[dict[str, Any]]:
    """Rows for KTO: every other answer is a friendly, desirable one."""
    return [
        {
            "id": f"e-{n}",
            "conversation": f"c-{n}",
            "prompt": asked(n),
            "completion": said(f"{BAD if n % 2 else GOOD} {n}"),
            "label": n % 2 == 0,
        }
        for n in range(start, start + count)
    ]


ROWS = {"dpo": pairs, "kto": marks}
EPOCHS = 3
TRAINED_ON = 12


def preferring(method: str, **changes: Any) -> Recipe:
    """A recipe of a method, by which the tiny base learns in seconds."""
    wanted = {"learning_rate": 5e-3, "num_train_epochs": float(EPOCHS), "micro_batch_size": 2}
    return msgspec.structs.replace(RECIPE, method=method, **wanted | changes)


@pytest.fixture(scope="module")
def preferred(
    tiny_base: Base, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[FinetuneManifest, Path]]:
    """By method: the manifest and the folder of a whole job. Read-only."""
    made: dict[str, tuple[FinetuneManifest, Path]] = {}

    def train(method: str) -> tuple[FinetuneManifest, Path]:
        if method not in made:
            folder = tmp_path_factory.mktemp(method)
            rows = ROWS[method]
            dataset = write_dataset(folder / "dataset", rows(0, TRAINED_ON), rows(20, 4))
            recipe = preferring(method, save_steps=4.0, ethics_check_steps=4.0)
            made[method] = _finetune(folder, tiny_base, dataset, recipe), folder
        return made[method]

    return train


def test_dpo_starts_at_ln_2_and_raises_the_margin(preferred: Any) -> None:
    """Before the first step the policy is the reference; held-out pairs are told apart after it."""
    manifest, folder = preferred("dpo")
    told = curves(folder)
    assert told["loss"][1] == pytest.approx(math.log(2), abs=1e-4)
    assert told["rewards/margins"][1] == pytest.approx(0, abs=1e-3)
    metrics = manifest.metrics
    assert metrics["validation_rewards/margins"] > 0.1
    assert metrics["validation_rewards/accuracies"] == 1.0
    assert metrics["preference_loss"] < math.log(2)
    assert metrics["rewards/margins"] > 0.1


def test_kto_starts_at_a_half_and_raises_what_is_desirable(preferred: Any) -> None:
    """1 - sigmoid(0) at first; then desirable answers gain on undesirable ones, held out, too."""
    manifest, folder = preferred("kto")
    assert curves(folder)["loss"][1] == pytest.approx(0.5, abs=1e-4)
    metrics = manifest.metrics
    assert metrics["validation_rewards/chosen"] > metrics["validation_rewards/rejected"]
    assert metrics["validation_rewards/margins"] > 0.1
    assert metrics["preference_loss"] < 0.5


@pytest.mark.parametrize("method", sorted(ROWS))
def test_the_job_leaves_what_every_training_leaves(preferred: Any, method: str) -> None:
    """Manifest, preflight, ethics, a chosen checkpoint, one adapter in float32, and no more."""
    manifest, folder = preferred(method)
    assert manifest == read_record(folder / "manifest.json", FinetuneManifest)
    assert manifest.preflight is not None
    assert manifest.chosen is not None
    assert manifest.chosen.of == 3
    assert {"ethics_compliance", "kl_to_base", "train_loss", "tokens"} <= set(manifest.metrics)
    assert manifest.metrics["optimizer_steps"] == EPOCHS * TRAINED_ON / 4
    assert "trl" in manifest.versions
    assert list(curves(folder)[PREFERENCE_LOSS]) == [4, 8, 9]
    assert not (folder / "checkpoints").exists()
    assert adapter_hash(folder / "adapter") == manifest.adapter_hash
    assert not (folder / "adapter" / "ref").exists()
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_the_gates_take_the_adapter(preferred: Any, evaluate_job: Callable[..., Path]) -> None:
    """Every gate says something of it, as of any other."""
    manifest, folder = preferred("dpo")
    job = evaluate_job(candidate=str(folder / "adapter"), candidate_hash=manifest.adapter_hash)
    found = evaluate(job)
    assert found.adapter_hash == manifest.adapter_hash
    assert {verdict.gate for verdict in found.verdicts} == set(GATES)


# --- the losses ---------------------------------------------------------------------------


@pytest.fixture
def prepared(tiny_base: Base, tmp_path: Path) -> Callable[..., tuple[Any, Any, Any]]:
    """(method, model, TRL's arguments) for a recipe; the model's adapter is not its start."""

    def make(recipe: Recipe) -> tuple[Any, Any, Any]:
        source = Path(tiny_base.location)
        method = method_of(recipe)(recipe, tokenizer_of(source))
        torch.manual_seed(3)
        model = for_training(source, recipe)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        arguments = _arguments(method, learned(tmp_path, recipe), tmp_path / "checkpoints", ())
        return method, model.eval(), arguments

    return make


@pytest.mark.parametrize(
    "recipe",
    [
        preferring("dpo", beta=0.3),
        preferring("kto", beta=0.3, desirable_weight=1.5, undesirable_weight=0.5),
    ],
    ids=["dpo", "kto"],
)
def test_what_is_measured_on_held_out_rows_is_trls_loss(prepared: Any, recipe: Recipe) -> None:
    """By formulas of our own, one answer at a time; and the model is left as it was."""
    method, model, arguments = prepared(recipe)
    rows, left_out = method.read(ROWS[recipe.method](0, 5))
    assert left_out == ()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with method.rehearsing(model, arguments, rows) as loss_of, torch.no_grad():
        theirs = float(loss_of(method.collate(rows)))
    assert theirs != pytest.approx(math.log(2) if recipe.method == "dpo" else 0.5, abs=1e-3)
    assert method.measured(model, rows)[PREFERENCE_LOSS] == pytest.approx(theirs, abs=1e-5)
    assert list(model.peft_config) == ["default"]
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert [n for n, p in after.items() if p.requires_grad] == [n for n in before if "lora_" in n]


def test_each_pair_counts_alike_however_they_are_accumulated(run_finetune: Finetune) -> None:
    """Six pairs in effective batches of four, at once or one by one: the same adapter."""
    found = []
    for size in (1, 4):
        recipe = preferring("dpo", micro_batch_size=size, num_train_epochs=1.0)
        _, folder = run_finetune(pairs(0, 6), None, recipe, name=f"by-{size}")
        found.append(load_file(folder / "adapter" / "adapter_model.safetensors"))
    one_by_one, at_once = found
    assert all((one_by_one[name] - at_once[name]).abs().max() < 1e-4 for name in at_once)


def test_the_adapter_of_a_quantized_base_stays_in_float32(prepared: Any) -> None:
    """TRL would make it bfloat16, in which small steps are lost."""
    method, model, arguments = prepared(preferring("dpo", load_in_4bit=True))
    before = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    method.trainer(model, arguments, method.read(pairs(0, 2))[0], None)
    after = dict(model.named_parameters())
    assert before
    for name, weight in before.items():
        assert after[name].dtype is torch.float32
        assert torch.equal(after[name], weight)


# --- never lost ---------------------------------------------------------------------------


@pytest.fixture
def job(tiny_base: Base, tmp_path: Path) -> Callable[..., Path]:
    """Writes a job of eighteen steps; its folder."""

    def write(name: str, method: str) -> Path:
        rows = ROWS[method]
        dataset = write_dataset(tmp_path / f"{name}-dataset", rows(0, TRAINED_ON), rows(20, 2))
        folder = tmp_path / name
        folder.mkdir()
        recipe = preferring(
            method, num_train_epochs=6.0, save_steps=3.0, lora_dropout=0.1, ethics_check_steps=9.0
        )
        order = FinetuneJob(
            base=tiny_base, recipe=recipe, dataset=dataset, cache=str(tmp_path / "cache")
        )
        write_record(folder / "job.json", order)
        return folder

    return write


@pytest.mark.parametrize(
    ("method", "number", "code"),
    [
        ("dpo", signal.SIGKILL, -signal.SIGKILL),
        pytest.param("kto", signal.SIGTERM, 75, marks=pytest.mark.slow),
    ],
)
def test_interrupted_it_ends_with_the_same_adapter(
    nursery: Nursery, job: Callable[..., Path], method: str, number: int, code: int
) -> None:
    """With dropout, too: killed halfway, or asked to stop, the same bytes as when left alone."""
    folder, peaceful = job("interrupted", method), job("peaceful", method)
    pid = nursery.start(folder)
    wait_for_step(folder, 7, 0)
    os.kill(pid, number)
    assert nursery.ended() == code, (folder / "log.txt").read_text()[-2000:]
    assert not (folder / "manifest.json").exists()
    assert list((folder / "checkpoints").glob(f"checkpoint-*/{MARK}"))
    for one in (folder, peaceful):
        nursery.start(one)
        assert nursery.ended() == 0, (one / "log.txt").read_text()[-2000:]
    assert "goes on from step" in (folder / "log.txt").read_text()
    interrupted, whole = (
        read_record(one / "manifest.json", FinetuneManifest) for one in (folder, peaceful)
    )
    assert interrupted.adapter_hash == whole.adapter_hash
    told = ("train_loss", "preference_loss", "kl_to_base", "rewards/margins")
    assert {n: interrupted.metrics[n] for n in told} == {n: whole.metrics[n] for n in told}


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "kind", "said"),
    [
        ("dpo", "sft", "row e-0 has no prompt, chosen, rejected, but is one for method sft"),
        ("kto", "dpo", "row e-0 has no completion, label, but is one for method dpo"),
        ("sft", "kto", "row e-0 has no messages, but is one for method kto"),
    ],
)
def test_a_dataset_of_another_kind_is_refused_before_anything_is_loaded(
    tmp_path: Path, tiny_base: Base, method: str, kind: str, said: str
) -> None:
    """With its reason and a next step; the base is not even there."""
    rows = [{"id": "e-0", "messages": asked(0)}] if kind == "sft" else ROWS[kind](0, 4)
    nowhere = msgspec.structs.replace(tiny_base, location=str(tmp_path / "nowhere"))
    dataset = write_dataset(tmp_path / "dataset", rows)
    with pytest.raises(Rejected, match=said) as refused:
        _finetune(tmp_path / "run", nowhere, dataset, preferring(method))
    assert "trainer.recipe.method" in (refused.value.hint or "")


def test_rows_without_anything_to_learn_are_named(
    run_finetune: Finetune, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty answer is refused by id; a pair that is alike up to max_length is left out."""
    rows = pairs(0, 5)
    rows[3]["rejected"] = said("  ")
    with pytest.raises(Rejected, match=r"1 rows have no assistant token to learn from: e-3\."):
        run_finetune(rows, None, preferring("dpo"), name="empty")
    rows[3] |= {"chosen": said("word " * 200 + "yes"), "rejected": said("word " * 200 + "no")}
    recipe = preferring("dpo", num_train_epochs=1.0)
    manifest, _ = run_finetune(rows, rows[:1], recipe, name="alike")
    assert manifest.left_out == {"train": ("e-3",), "validation": ()}
    assert manifest.metrics["train_rows"] == 4
    assert "1 of 5 train rows are left out" in capsys.readouterr().out


WITHOUT_TRL = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "trl":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from trainer.finetune import main
sys.exit(main())
"""


def test_without_trl_it_says_what_to_install(tmp_path: Path, tiny_base: Base) -> None:
    """By the child with exit code 2; other methods never ask for it."""
    nowhere = msgspec.structs.replace(tiny_base, location=str(tmp_path / "nowhere"))
    dataset = write_dataset(tmp_path / "dataset", pairs(0, 4))
    order = FinetuneJob(
        base=nowhere, recipe=preferring("dpo"), dataset=dataset, cache=str(tmp_path / "cache")
    )
    write_record(tmp_path / "job.json", order)
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRL, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr[-2000:]
    [said] = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert "trainer.recipe.method dpo needs TRL" in said
    assert "pip install 'bhavana[preference]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_settings_name_what_the_method_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where TRL is not installed the daemon does not start with such a recipe."""
    monkeypatch.setattr(
        "trainer.recipe.importlib.util.find_spec", lambda name: None if name == "trl" else object()
    )
    path = tmp_path / "bhavana.toml"
    path.write_text('[trainer.recipe]\nmethod = "kto"\n')
    with pytest.raises(Misconfigured, match=r"kto needs TRL\. Run `pip install 'bhavana\[pref"):
        load(path, {})
    path.write_text('[trainer.recipe]\nmethod = "sft"\n')
    assert load(path, {}).trainer.recipe.learns_from == "chat"


def test_kto_is_never_tried_with_one_answer_at_a_time(tmp_path: Path) -> None:
    """Where memory is short, activations are computed twice before that."""
    thrift: Thrift | None = learned(
        tmp_path, preferring("kto", micro_batch_size=4, effective_batch_size=4)
    )
    tried = []
    while thrift is not None:
        tried.append((thrift.micro_batch_size, thrift.activation_checkpointing))
        thrift = thrift.more()
    assert tried == [(4, False), (2, False), (2, True)]
