"""Adapters as GGUF files: names, rows and scales; what is refused; and that a file is whole."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import save_file

from store.errors import IntegrityError, Rejected, Unavailable
from tests.trainer.children import ROOT
from tests.trainer.gguf_adapters import (
    ALPHA,
    ONE,
    RANK,
    make_adapter,
    make_base,
    modules,
    random_weights,
)
from tests.trainer.tiny_gguf import ARCHITECTURES, Matrix, converted
from trainer.base import Base
from trainer.gguf import lora
from trainer.gguf.lora import write_lora
from trainer.gguf.pairs import read_pairs
from trainer.gguf.readback import Stored, require_same
from trainer.job import EXIT_RETRYABLE
from trainer.shape import shape_of

FAMILIES = tuple(ARCHITECTURES)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """The shape of a small Llama."""
    return make_base(tmp_path / "base")


def deltas(path: Path) -> dict[str, Matrix]:
    """What llama.cpp adds to each weight: alpha / rank * B @ A, where an alpha of 0 is none."""
    reader = GGUFReader(path)
    alpha = reader.fields["adapter.lora.alpha"].contents()
    halves = {t.name: t.data.astype(np.float64) for t in reader.tensors}
    found = {}
    for name in (n.removesuffix(".lora_a") for n in halves if n.endswith(".lora_a")):
        a, b = halves[f"{name}.lora_a"], halves[f"{name}.lora_b"]
        found[name] = (alpha / b.shape[1] if alpha else 1.0) * b @ a
    return found


# --- what is written ----------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_adds_to_each_weight_what_peft_adds_where_llama_cpp_keeps_it(
    family: str, tmp_path: Path
) -> None:
    """Names and rows as llama.cpp's converter has them for the base's own weights."""
    base = make_base(tmp_path / "base", family)
    weights = random_weights(family)
    adapter = make_adapter(tmp_path / "adapter", base, weights)
    written = write_lora(adapter, base, tmp_path / "a.gguf")
    meant = {}
    for module in modules(family):
        a, b = (weights[f"base_model.model.{module}.lora_{half}.weight"] for half in "AB")
        delta = ALPHA / RANK * b.astype(np.float64) @ a
        name, rows = converted(f"{module}.weight", delta, shape_of(base))
        meant[name] = rows
    found = deltas(tmp_path / "a.gguf")
    assert set(found) == set(meant)
    for name, delta in meant.items():
        np.testing.assert_allclose(found[name], delta, rtol=1e-12, err_msg=name)
    assert (written.architecture, written.tensors) == (ARCHITECTURES[family], 2 * len(meant))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"v_proj": 2, "layers.1.mlp.up_proj": 8}},
        {"rank_pattern": {"v_proj": 2}, "use_rslora": True},
        {"alpha_pattern": {"q_proj": 1, r"layers\.0\.self_attn\..*": 30}},
        {"rank_pattern": {".*_proj": 6, "q_proj": 3}, "alpha_pattern": {"(gate|up)_proj": 5}},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:::peft")
def test_scales_are_those_of_peft(tiny_base: Base, tmp_path: Path, changes: dict[str, Any]) -> None:
    """With rsLoRA and patterns for some modules: each weight's change is what PEFT merges."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    from trainer.adapter import save

    def model() -> Any:
        return AutoModelForCausalLM.from_pretrained(tiny_base.location)

    config = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", **changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = get_peft_model(model(), config)
        torch.manual_seed(1)
        for name, parameter in trained.named_parameters():
            if "lora_" in name:
                parameter.data.normal_()
        save(trained, tmp_path / "adapter", tiny_base)
        loaded = PeftModel.from_pretrained(model(), tmp_path / "adapter")
    write_lora(tmp_path / "adapter", tiny_base, tmp_path / "a.gguf")
    found = deltas(tmp_path / "a.gguf")
    layers = {n: m for n, m in loaded.named_modules() if hasattr(m, "get_delta_weight")}
    assert len(layers) == len(found) == 14
    for name, layer in layers.items():
        delta = layer.get_delta_weight("default").detach().numpy()
        gguf_name, rows = converted(f"{name}.weight", delta, shape_of(tiny_base))
        np.testing.assert_allclose(found[gguf_name], rows, rtol=1e-4, atol=1e-4, err_msg=name)


def test_weights_in_bfloat16_lose_nothing(base: Base, tmp_path: Path) -> None:
    """A file of bfloat16, which numpy does not know, gives the numbers that it holds."""
    import torch
    from safetensors.torch import save_file as save_torch

    rounded = {n: torch.from_numpy(w).bfloat16() for n, w in random_weights().items()}
    adapter = make_adapter(tmp_path / "adapter", base)
    save_torch(rounded, adapter / "adapter_model.safetensors")
    pair = next(p for p in read_pairs(adapter, shape_of(base)) if ONE.endswith(p.module))
    assert (pair.a == rounded[f"{ONE}.lora_A.weight"].float().numpy()).all()


def test_the_same_adapter_gives_the_same_bytes(base: Base, tmp_path: Path) -> None:
    """Whatever the order of its tensors; another one gives others."""
    weights = random_weights()
    backwards = dict(reversed(weights.items()))
    adapters = [
        make_adapter(tmp_path / "a", base, weights),
        make_adapter(tmp_path / "b", base, backwards),
        make_adapter(tmp_path / "c", base, weights, lora_alpha=7),
    ]
    hashes = [write_lora(a, base, tmp_path / f"{a.name}.gguf").sha256 for a in adapters]
    assert hashes[0] == hashes[1] != hashes[2]


def test_half_precision_halves_the_numbers_bytes_and_rounds_them(
    base: Base, tmp_path: Path
) -> None:
    """F16: an eleventh bit less of each number, half the bytes."""
    adapter = make_adapter(tmp_path / "adapter", base)
    exact = write_lora(adapter, base, tmp_path / "exact.gguf")
    rounded = write_lora(adapter, base, tmp_path / "rounded.gguf", dtype="F16")
    saved = 2 * sum(w.size for w in random_weights().values())
    assert exact.bytes - rounded.bytes == saved
    few, many = deltas(tmp_path / "rounded.gguf"), deltas(tmp_path / "exact.gguf")
    assert all(0 < np.abs(few[n] - many[n]).max() < 0.03 for n in many)


def test_the_adapter_is_described(base: Base, tmp_path: Path) -> None:
    """What the noun says is what the file is."""
    adapter = make_adapter(tmp_path / "adapter", base)
    written = write_lora(adapter, base, tmp_path / "a.gguf")
    assert (written.alpha, written.rank, written.dtype) == (ALPHA, RANK, "F32")
    assert written.bytes == (tmp_path / "a.gguf").stat().st_size
    keys = GGUFReader(tmp_path / "a.gguf").fields
    assert [keys[k].contents() for k in ("general.type", "adapter.type")] == ["adapter", "lora"]


# --- what is refused ----------------------------------------------------------------------


def _without(name: str) -> dict[str, Matrix]:
    return {n: w for n, w in random_weights().items() if n != name}


def _with(name: str, weight: Matrix) -> dict[str, Matrix]:
    return random_weights() | {name: weight}


def _spoilt(number: float) -> dict[str, Matrix]:
    weights = random_weights()
    weights[f"{ONE}.lora_B.weight"][0, 0] = number
    return weights


ODD = np.zeros((2, 2), np.float32)


@pytest.mark.parametrize(
    ("config", "weights", "said"),
    [
        ({"use_dora": True}, None, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, None, "modules_to_save"),
        ({"trainable_token_indices": [1]}, None, "embeddings"),
        ({"bias": "lora_only"}, None, "bias lora_only"),
        ({"lora_bias": True}, None, "biases"),
        ({"peft_type": "LOHA"}, None, "LOHA"),
        ({"init_lora_weights": "pissa_niter_4"}, None, "pissa_niter_4 has changed"),
        ({"lora_alpha": 0}, None, "a scale of 0"),
        ({"alpha_pattern": {"q_proj": 0}}, None, "a scale of 0"),
        ({"lora_alpha": 1e39}, None, "a scale too large"),
        ({"lora_alpha": "six"}, None, "is not an adapter's"),
        ({"alpha_pattern": {"(": 1}}, None, "no pattern"),
        ({"r": 8}, None, "not (8, 64) and (64, 8)"),
        ({}, {}, "holds no weights"),
        ({}, _without(f"{ONE}.lora_A.weight"), "without its lora_A"),
        ({}, _without(f"{ONE}.lora_B.weight"), "without its lora_B"),
        ({}, _with(f"{ONE}.lora_B.weight", ODD), "A and B are (4, 64) and (2, 2)"),
        ({}, _with("base_model.model.lm_head.lora_A.weight", ODD), "lm_head: no linear layer"),
        ({}, _with("base_model.model.lm_head.weight", ODD), "lm_head.weight: no half"),
        ({}, _with("base_model.model.model.embed_tokens.lora_embedding_A", ODD), "no half"),
        ({}, _with(f"{ONE}.lora_magnitude_vector", ODD), "no half"),
        (
            {},
            _with(f"{ONE.replace('layers.0', 'layers.2')}.lora_A.weight", ODD),
            "layers.2.self_attn.q_proj: no linear layer",
        ),
        ({}, _spoilt(float("nan")), "not finite"),
        ({}, _spoilt(float("inf")), "not finite"),
    ],
)
def test_refuses_what_servers_would_add_otherwise_or_not_at_all(
    base: Base, tmp_path: Path, config: dict[str, Any], weights: Any, said: str
) -> None:
    """The fault is named and nothing is written."""
    adapter = make_adapter(tmp_path / "adapter", base, weights, **config)
    with pytest.raises(Rejected) as refused:
        write_lora(adapter, base, tmp_path / "a.gguf")
    assert said in str(refused.value)
    assert not (tmp_path / "a.gguf").exists()


def test_tells_all_faults_together(base: Base, tmp_path: Path) -> None:
    """One try shows everything; of many modules with one fault the first are named."""
    adapter = make_adapter(tmp_path / "adapter", base, use_dora=True, bias="all", r=8)
    with pytest.raises(Rejected) as refused:
        write_lora(adapter, base, tmp_path / "a.gguf")
    for part in ("DoRA", "bias all", "not (8, 64)", "and 1 more", "trainer.recipe"):
        assert part in str(refused.value)


def test_refuses_a_family_whose_rows_are_not_known(tmp_path: Path) -> None:
    """A base of another build than those that were looked at."""
    base = make_base(tmp_path / "base", "phi3")
    adapter = make_adapter(tmp_path / "adapter", base)
    with pytest.raises(Rejected, match="of phi3 bases we do not know"):
        write_lora(adapter, base, tmp_path / "a.gguf")


def test_refuses_numbers_too_large_for_half_precision(base: Base, tmp_path: Path) -> None:
    """Beyond 65504 there is only infinity in F16; F32 takes them."""
    adapter = make_adapter(tmp_path / "adapter", base, _spoilt(7e4))
    with pytest.raises(Rejected, match="too large for F16"):
        write_lora(adapter, base, tmp_path / "a.gguf", dtype="F16")
    assert write_lora(adapter, base, tmp_path / "a.gguf").dtype == "F32"


def test_refuses_files_that_are_no_adapter(base: Base, tmp_path: Path) -> None:
    """Torn or missing files are a refusal, too, not a crash."""
    adapter = make_adapter(tmp_path / "adapter", base)
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(Rejected, match="no adapter that can be read"):
        write_lora(adapter, base, tmp_path / "a.gguf")
    save_file({f"{ONE}.lora_A.weight": np.zeros((4, 64), np.int8)}, weights)
    with pytest.raises(Rejected, match="weights of type I8"):
        write_lora(adapter, base, tmp_path / "a.gguf")


def test_refuses_an_adapter_of_another_base(base: Base, tmp_path: Path) -> None:
    """It would load and answer, and be another model than the evaluated one."""
    adapter = make_adapter(tmp_path / "adapter", base, base_model_name_or_path="other")
    with pytest.raises(IntegrityError, match="belongs to the base other"):
        write_lora(adapter, base, tmp_path / "a.gguf")


# --- a whole file or none -----------------------------------------------------------------


@pytest.fixture
def stored(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Stored]:
    """What was meant to be in a.gguf, which is there."""
    adapter = make_adapter(tmp_path / "adapter", base)
    seen: list[Stored] = []

    def look(path: Path, architecture: str, alpha: float, stored: list[Stored]) -> None:
        seen.extend(stored)
        require_same(path, architecture, alpha, stored)

    with monkeypatch.context() as patch:
        patch.setattr(lora, "require_same", look)
        write_lora(adapter, base, tmp_path / "a.gguf")
    return seen


def test_every_flipped_byte_of_a_weight_is_seen(stored: list[Stored], tmp_path: Path) -> None:
    """In the first, the last and some byte of each tensor; untouched it passes."""
    path = tmp_path / "a.gguf"
    require_same(path, "llama", ALPHA, stored)
    whole = path.read_bytes()
    places = [
        (t.data_offset, t.data_offset + t.n_bytes - 1, t.data_offset + 3 * int(t.n_bytes) // 7)
        for t in GGUFReader(path).tensors
    ]
    for place in {p for three in places for p in map(int, three)}:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(IntegrityError):
            require_same(path, "llama", ALPHA, stored)


def test_another_head_is_seen(stored: list[Stored], tmp_path: Path) -> None:
    """Another family, another alpha, a tensor less or more, or half of the file."""
    path = tmp_path / "a.gguf"
    more = msgspec.structs.replace(stored[0], tensor="blk.7.attn_q.weight")
    for wrong in (
        ("qwen2", ALPHA, stored),
        ("llama", ALPHA + 1e-5, stored),
        ("llama", ALPHA, stored[1:]),
        ("llama", ALPHA, [*stored, more]),
    ):
        lora._write(path, *wrong)
        with pytest.raises(IntegrityError):
            require_same(path, "llama", ALPHA, stored)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(IntegrityError, match="cannot be read back"):
        require_same(path, "llama", ALPHA, stored)


def test_rows_in_peft_order_are_seen(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that forgets to reorder does not get past the check."""
    adapter = make_adapter(tmp_path / "adapter", base)
    monkeypatch.setattr(lora, "_ordered", lambda one: one.b)
    with pytest.raises(IntegrityError, match=r"attn_q.weight has other numbers"):
        write_lora(adapter, base, tmp_path / "a.gguf")


def test_a_failed_check_leaves_the_file_that_was_there(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a bad file in its place nor anything beside it."""
    adapter = make_adapter(tmp_path / "adapter", base)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.gguf").write_text("the one before")

    def fail(*_: Any) -> None:
        raise IntegrityError

    monkeypatch.setattr(lora, "require_same", fail)
    with pytest.raises(IntegrityError):
        write_lora(adapter, base, folder / "a.gguf")
    assert [p.name for p in folder.iterdir()] == ["a.gguf"]
    assert (folder / "a.gguf").read_text() == "the one before"


def test_a_folder_that_is_not_there_is_said(base: Base, tmp_path: Path) -> None:
    """As an error of ours, with what to look at."""
    adapter = make_adapter(tmp_path / "adapter", base)
    with pytest.raises(Unavailable, match="Look at the disk and the folder"):
        write_lora(adapter, base, tmp_path / "none" / "a.gguf")


# --- by hand ------------------------------------------------------------------------------


def by_hand(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """`python -m trainer.gguf` with these arguments."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.gguf", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def whole_base(base: Base) -> Base:
    """The base with a file of weights, as `locate` asks for one."""
    save_file({"none": ODD}, Path(base.location) / "model.safetensors")
    return base


def test_two_at_once_both_end_well(whole_base: Base, tmp_path: Path) -> None:
    """Two commands write one file: each describes the same bytes, which are there."""
    adapter = make_adapter(tmp_path / "adapter", whole_base)
    output = tmp_path / "a.gguf"
    command = (str(adapter), "--base", whole_base.name, "--output", str(output))
    both = [by_hand(*command), by_hand(*command)]
    said = [child.communicate(timeout=120)[0] for child in both]
    assert [child.returncode for child in both] == [0, 0]
    assert said[0] == said[1]
    described = msgspec.json.decode(said[0], type=lora.GgufAdapter)
    assert described == write_lora(adapter, whole_base, output)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gguf", "adapter", "base"]


def test_a_full_disk_leaves_nothing(whole_base: Base, tmp_path: Path) -> None:
    """No more than 4000 bytes fit: it is said, may be tried again, and no file is left."""
    adapter = make_adapter(tmp_path / "adapter", whole_base)
    output = tmp_path / "out" / "a.gguf"
    output.parent.mkdir()
    child = by_hand(
        str(adapter),
        "--base",
        whole_base.name,
        "--output",
        str(output),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)),
    )
    _, said = child.communicate(timeout=120)
    assert child.returncode == EXIT_RETRYABLE
    assert "only 4,000 bytes were taken" in said
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "for servers that load no adapters"),
        (["x", "--base", "smollm2-135m", "--output", "y", "--type", "Q8_0"], 2, "only F32 or F16"),
        (["x", "--base", "smollm2-135m", "--output", "y", "--gguf", "z"], 2, "goes with --merged"),
        (["x", "--base", "nothing", "--output", "y"], 2, "There is no base model 'nothing'"),
    ],
)
def test_the_command_says_what_it_takes(arguments: list[str], code: int, said: str) -> None:
    """Help that teaches, and faults with their next step."""
    child = by_hand(*arguments)
    assert said in " ".join("".join(child.communicate(timeout=120)).split())
    assert child.returncode == code


def test_writes_without_torch() -> None:
    """The daemon's process may write adapters: nothing heavy is imported."""
    code = (
        "import trainer.gguf.__main__, trainer.targets.agreement, sys, json;"
        "print(json.dumps([m for m in ('torch', 'transformers', 'peft') if m in sys.modules]))"
    )
    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(seen.stdout) == []
