"""Whether a run fits: what is free, what is estimated, what one real step measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from store.errors import DoesNotFit, Misconfigured
from trainer.base import Base, locate
from trainer.demand import Demand, demand, weights_of
from trainer.free import Memory, free_ram
from trainer.jobs import FinetuneManifest
from trainer.memory import Thrift
from trainer.model import compute_dtype, for_training, materialise
from trainer.preflight import plan, tries
from trainer.recipe import Recipe
from trainer.rehearsal import checkpointed, rehearse, taken

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")

Finetune = Callable[..., tuple[FinetuneManifest, Path]]
GIB = 2**30
MEMINFO = "MemTotal: 33554432 kB\nMemAvailable:   8388608 kB\n"
PLENTY = Memory(kind="ram", free_bytes=1 << 50, source="a test")
FACTOR = 2.0
"""The estimate is at most so many times too high or too low."""


# --- what is free -------------------------------------------------------------------------


def machine(folder: Path, cgroup: str, files: dict[str, str]) -> Memory:
    """What is free on a machine with these files."""
    proc, groups = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(MEMINFO)
    (proc / "self" / "cgroup").write_text(cgroup)
    for name, content in files.items():
        path = groups / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return free_ram(proc, groups)


def test_free_is_what_the_machine_has(tmp_path: Path) -> None:
    """Without a tighter group MemAvailable counts, also where no group is mounted."""
    memory = machine(tmp_path, "0::/user.slice/ours\n", {})
    assert (memory.free_bytes, memory.source, memory.kind) == (8 * GIB, "MemAvailable", "ram")


def test_free_is_what_the_tightest_group_leaves(tmp_path: Path) -> None:
    """Cgroup v2: ours or one above it; pages of files count as free, "max" is no limit."""
    memory = machine(
        tmp_path,
        "0::/a/b\n",
        {
            "a/b/memory.max": "max\n",
            "a/b/memory.current": "1",
            "a/b/memory.stat": "inactive_file 1\n",
            "a/memory.max": f"{4 * GIB}\n",
            "a/memory.current": f"{3 * GIB}\n",
            "a/memory.stat": f"anon 7\ninactive_file {GIB}\n",
        },
    )
    assert memory.free_bytes == 2 * GIB
    assert memory.source.endswith("a/memory.max")


def test_free_in_a_group_of_the_first_version(tmp_path: Path) -> None:
    """Cgroup v1: its own files, and another number for "no limit"."""
    files = {
        "memory/j/memory.limit_in_bytes": f"{3 * GIB}\n",
        "memory/j/memory.usage_in_bytes": f"{2 * GIB}\n",
        "memory/j/memory.stat": "total_inactive_file 0\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.usage_in_bytes": "0\n",
        "memory/memory.stat": "total_inactive_file 0\n",
    }
    memory = machine(tmp_path, "4:cpu,memory:/j\n1:cpu:/\n0::/\n", files)
    assert memory.free_bytes == GIB


def test_group_that_is_over_its_limit_has_nothing_free(tmp_path: Path) -> None:
    """Never less than nothing."""
    files = {"a/memory.max": "1", "a/memory.current": "99", "a/memory.stat": ""}
    assert machine(tmp_path, "0::/a\n", files).free_bytes == 0


def test_this_machine_has_something_free() -> None:
    """The real files can be read."""
    assert 0 < free_ram().free_bytes < 1 << 50


# --- what is planned ----------------------------------------------------------------------


def as_asked(recipe: dict[str, Any]) -> Thrift:
    """With what a recipe begins."""
    wanted = Recipe(**recipe)
    return Thrift(
        micro_batch_size=wanted.micro_batch_size,
        activation_checkpointing=wanted.activation_checkpointing,
    )


FULL = as_asked({})


def asked(folder: Path, **recipe: Any) -> Demand:
    """A demand over sequences of 300 tokens, 100 of them supervised."""
    return demand(Recipe(**recipe), folder, [(300, 50), (200, 100)], 4)


def test_weights_are_counted_from_the_files(tiny_base: Base) -> None:
    """Matrices of the blocks, and the rest; the tied head is in the file once."""
    weights = weights_of(Path(tiny_base.location))
    block = 4 * 32 * 32 + 3 * 32 * 64
    assert weights.linear == 2 * block
    assert weights.other == weights.vocabulary * 32 + 5 * 32
    assert weights.vocabulary == 49_152


@pytest.mark.parametrize("content", [b"", b"\x10" + b"\0" * 7 + b"no json, surely"])
def test_broken_weights_are_misconfigured(tmp_path: Path, content: bytes) -> None:
    """A cut file is told with its name."""
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(Misconfigured, match=r"model\.safetensors"):
        weights_of(tmp_path)


@pytest.mark.parametrize(
    ("recipe", "tried"),
    [
        ({}, [(4, False), (2, False), (1, False), (1, True)]),
        ({"activation_checkpointing": True}, [(4, True), (2, True), (1, True)]),
        (
            {"micro_batch_size": 9, "effective_batch_size": 18},
            [(9, False), (3, False), (1, False), (1, True)],
        ),
        ({"micro_batch_size": 1}, [(1, False), (1, True)]),
    ],
)
def test_smaller_batches_are_tried_before_checkpointing(
    recipe: dict[str, Any], tried: list[tuple[int, bool]]
) -> None:
    """Each divides the effective batch, which stays as it is."""
    found = [(t.micro_batch_size, t.activation_checkpointing) for t in tries(as_asked(recipe))]
    assert found == tried


def test_plan_begins_with_what_is_estimated_to_fit(tiny_base: Base) -> None:
    """As configured where there is room; with a smaller micro-batch where there is little."""
    wanted = asked(Path(tiny_base.location), lora_layer_share=1.0)
    estimates = [wanted.estimate(thrift) for thrift in tries(FULL)]
    assert estimates == sorted(estimates, reverse=True)
    assert plan(wanted, PLENTY, FULL).as_configured
    little = Memory(kind="ram", free_bytes=int(estimates[1] / 0.9) + 2, source="a test")
    found = plan(wanted, little, FULL)
    assert not found.as_configured
    assert found.tries[0] == Thrift(micro_batch_size=2, activation_checkpointing=False)


def test_what_cannot_fit_is_refused_with_the_knobs(tiny_base: Base) -> None:
    """What is needed, what is free and by whose word, and what to turn."""
    with pytest.raises(DoesNotFit) as refused:
        plan(
            asked(Path(tiny_base.location)), Memory(kind="ram", free_bytes=1000, source="Mem"), FULL
        )
    told = str(refused.value)
    assert all(word in told for word in ("load_in_4bit", "max_length below 300", "(Mem)"))


def test_four_bits_take_less_than_eight_and_than_none(tiny_base: Base) -> None:
    """The base alone, by its kinds of weights."""
    folder = Path(tiny_base.location)
    four, whole = asked(folder, load_in_4bit=True), asked(folder)
    eight = asked(folder, load_in_8bit=True)
    assert four.base_bytes() < eight.base_bytes() < whole.base_bytes()
    assert asked(folder, optim="adamw_8bit").adapter_bytes() < whole.adapter_bytes()


# --- the estimate against what is kept ----------------------------------------------------


def kept_bytes(model: Any, length: int, dtype: torch.dtype) -> int:
    """What autograd keeps for the backward pass of one sequence, weights left out."""
    weights = {p.data_ptr() for p in model.parameters()}
    storages: dict[int, int] = {}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)  # else its place would be given to the next
        return tensor

    tokens = torch.arange(length)[None]
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16),
    ):
        logits = model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits
        cross_entropy(logits[0].float(), tokens[0, :1])
    return sum(storages.values())


@pytest.mark.parametrize(
    "recipe",
    [
        {"dtype": "float32"},
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "lora_dropout": 0.1},
        {"dtype": "bfloat16", "load_in_4bit": True},
        {"dtype": "float32", "load_in_8bit": True},
        {"dtype": "bfloat16", "activation_checkpointing": True},
        {"dtype": "bfloat16", "lora_layer_share": 0.5},
    ],
    ids=lambda recipe: " ".join(f"{k}={v}" for k, v in recipe.items()),
)
@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_activations_are_estimated_within_a_factor(
    tmp_path: Path, family: str, recipe: dict[str, Any]
) -> None:
    """By the bytes that autograd keeps, for shapes of both families."""
    sizes: dict[str, Any] = {
        "vocab_size": 512,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    }
    if family == "llama":
        LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(tmp_path)
    else:
        GPTNeoXForCausalLM(GPTNeoXConfig(**sizes)).save_pretrained(tmp_path)
    wanted = Recipe(**({"lora_layer_share": 1.0} | recipe))
    dtype = compute_dtype(wanted.dtype)
    model = for_training(tmp_path, wanted).train()
    checkpointed(model, wanted.activation_checkpointing)
    thrift = Thrift(micro_batch_size=1, activation_checkpointing=wanted.activation_checkpointing)
    estimated = demand(wanted, tmp_path, [(512, 1)], dtype.itemsize).activation_bytes(thrift)
    kept = kept_bytes(model, 512, dtype)
    if wanted.activation_checkpointing:  # one layer at a time is computed anew on top
        single = msgspec.structs.replace(thrift, activation_checkpointing=False)
        whole = demand(wanted, tmp_path, [(512, 1)], dtype.itemsize).activation_bytes(single)
        kept += int(whole / 4)
    assert kept / FACTOR < estimated < kept * FACTOR


# --- the real step ------------------------------------------------------------------------


def stepping(model: Any, length: int) -> Callable[[int], tuple[torch.Tensor, int]]:
    """The loss of so many sequences of one length, supervised in their second half."""

    def worst(count: int) -> tuple[torch.Tensor, int]:
        tokens = torch.arange(length)[None].expand(count, -1)
        half = torch.arange(length // 2, length)
        logits = model(input_ids=tokens, use_cache=False, logits_to_keep=half).logits
        loss = cross_entropy(logits.flatten(0, 1).float(), tokens[:, half].flatten())
        return loss, count * length

    return worst


def test_rehearsal_leaves_the_model_as_it_was(tiny_base: Base) -> None:
    """Weights, random state, mode and gradients: a run with it is the run without it."""
    folder = Path(tiny_base.location)
    recipe = Recipe(lora_dropout=0.5, lora_layer_share=1.0)
    before = taken()
    model = for_training(folder, recipe).eval()
    weights = {name: p.clone() for name, p in model.named_parameters()}
    wanted = demand(recipe, folder, [(64, 32)], 4)
    state = torch.random.get_rng_state()
    found = rehearse(
        model,
        wanted,
        plan(wanted, PLENTY, FULL),
        stepping(model, 64),
        before=before,
        tokens=640.0,
        dtype=torch.float32,
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())
    assert not model.training
    assert found.verdict == "fits"
    assert found.thrift.micro_batch_size == 4
    assert found.eta_seconds == pytest.approx(found.step_seconds * 640 / 256)


def test_measured_peak_overrules_the_estimate(tiny_base: Base) -> None:
    """A plan that was too hopeful goes on to smaller thrifts, or is refused."""
    folder = Path(tiny_base.location)
    recipe = Recipe(micro_batch_size=2, lora_layer_share=1.0)
    model = for_training(folder, recipe)
    wanted = demand(recipe, folder, [(64, 32)], 4)
    hopeful = plan(wanted, PLENTY, as_asked({"micro_batch_size": 2}))
    sizes = []

    def short_of_memory(count: int) -> tuple[torch.Tensor, int]:
        sizes.append(count)
        if count > 1:
            raise torch.OutOfMemoryError("CUDA out of memory, as a GPU says it")
        return stepping(model, 64)(count)

    found = rehearse(
        model, wanted, hopeful, short_of_memory, before=taken(), tokens=1.0, dtype=torch.float32
    )
    assert sizes == [2, 1]
    assert found.verdict == "tight"
    assert found.thrift == Thrift(micro_batch_size=1, activation_checkpointing=False)
    tiny = msgspec.structs.replace(hopeful, memory=Memory(kind="ram", free_bytes=1, source="t"))
    with pytest.raises(DoesNotFit, match="max_length"):
        rehearse(
            model, wanted, tiny, stepping(model, 64), before=0, tokens=1.0, dtype=torch.float32
        )


def test_run_is_planned_and_its_plan_recorded(
    run_finetune: Finetune,
    rows: list[Any],
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where little is free the micro-batch shrinks, the effective batch and its steps stay.

    What was found is in the manifest; where nothing fits, no adapter is made.
    """
    quick = msgspec.structs.replace(recipe, num_train_epochs=1)
    whole, _ = run_finetune(rows, None, quick, name="whole")
    assert whole.preflight is not None
    assert whole.preflight.verdict == "fits"
    assert whole.preflight.measured_bytes > 0

    def little(bytes_free: int) -> None:
        memory = Memory(kind="ram", free_bytes=bytes_free, source="a test")
        monkeypatch.setattr("trainer.rehearsal.free_memory", lambda: memory)

    little(1 << 20)
    with pytest.raises(DoesNotFit):
        run_finetune(rows, None, quick, name="refused")

    little(1 << 40)
    monkeypatch.setattr(
        Demand, "estimate", lambda _, thrift: thrift.micro_batch_size << 38
    )  # as if two sequences were all that fits
    half, folder = run_finetune(rows, None, quick, name="half")
    assert half.preflight is not None
    assert half.preflight.verdict == "tight"
    assert half.preflight.thrift.micro_batch_size == 2
    assert half.metrics["optimizer_steps"] == whole.metrics["optimizer_steps"] == 3
    assert half.metrics["train_loss"] == pytest.approx(whole.metrics["train_loss"], rel=1e-4)
    assert (folder / "adapter").is_dir()


def test_estimate_of_the_embedded_base_is_near_its_measured_peak(tmp_path: Path) -> None:
    """SmolLM2-135M on this processor: one worst step of 4 times 256 tokens."""
    torch.set_num_threads(1)
    folder = materialise(locate("smollm2-135m"), tmp_path)
    recipe = Recipe()
    dtype = compute_dtype(recipe.dtype)
    before = taken()
    model = for_training(folder, recipe)
    wanted = demand(recipe, folder, [(256, 128)], dtype.itemsize)
    found = rehearse(
        model,
        wanted,
        plan(wanted, PLENTY, FULL),
        stepping(model, 256),
        before=before,
        tokens=1.0,
        dtype=dtype,
    )
    assert found.measured_bytes / FACTOR < found.estimated_bytes < found.measured_bytes * FACTOR
