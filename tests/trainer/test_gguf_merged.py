"""Whole models with an adapter in them: what changes, what does not, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize

from store.errors import DoesNotFit, IntegrityError, Misconfigured, Rejected
from tests.trainer.gguf_adapters import (
    ALPHA,
    HEAD_SIZE,
    HEADS,
    HIDDEN,
    INTERMEDIATE,
    KV_HEADS,
    LAYERS,
    ONE,
    RANK,
    make_adapter,
    make_base,
    modules,
    random_weights,
)
from tests.trainer.test_gguf_lora import by_hand
from tests.trainer.tiny_gguf import converted
from trainer import base as bases
from trainer.base import Base
from trainer.gguf import merged
from trainer.gguf.merged import write_merged
from trainer.shape import shape_of

Q4_1 = GGMLQuantizationType.Q4_1


def write_gguf(path: Path, base: Base, *, heads: int = HEADS) -> Path:
    """A base's blocks in 4 bits with an odd vocabulary: nothing that could answer."""
    writer = GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_file_type(3)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(heads)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_SIZE)
    writer.add_token_list([b"a", b"\xff\xfe", "é".encode()])
    writer.add_token_scores([0.5, -1.0, float("nan")])
    chance = np.random.default_rng(5)
    writer.add_tensor("output_norm.weight", chance.standard_normal(HIDDEN, np.float32))
    for module, (size_in, size_out) in modules("llama").items():
        name, rows = converted(
            f"{module}.weight",
            chance.standard_normal((size_out, size_in), np.float32),
            shape_of(base),
        )
        writer.add_tensor(name, quantize(rows, Q4_1), raw_dtype=Q4_1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """A base in a GGUF file."""
    shape = make_base(tmp_path / "shape")
    return bases.locate(str(write_gguf(tmp_path / "base.gguf", shape)))


@pytest.fixture
def adapter(base: Base, tmp_path: Path) -> Path:
    """Of the first block's modules alone."""
    weights = {n: w for n, w in random_weights().items() if ".layers.0." in n}
    return make_adapter(tmp_path / "adapter", base, weights)


def tensors(path: Path | str) -> dict[str, Any]:
    """The tensors of a file by name."""
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


@pytest.mark.parametrize(("type", "rounding"), [("Q8_0", 0.15), ("F16", 0.02)])
def test_adds_the_adapter_to_the_weights_that_it_touches(
    base: Base, adapter: Path, tmp_path: Path, type: Any, rounding: float
) -> None:
    """Rows where llama.cpp keeps them, in the type asked for; all else is the base's bytes."""
    written = write_merged(adapter, base, tmp_path / "m.gguf", type=type)
    before, after = tensors(base.location), tensors(tmp_path / "m.gguf")
    assert list(after) == list(before)
    touched = {}
    for module in modules("llama"):
        if ".layers.0." in module:
            a, b = (random_weights()[f"base_model.model.{module}.lora_{h}.weight"] for h in "AB")
            name, rows = converted(f"{module}.weight", ALPHA / RANK * b @ a, shape_of(base))
            touched[name] = rows
    assert written.changed == len(touched) == 7
    for name, tensor in after.items():
        if name in touched:
            assert tensor.tensor_type.name == type
            sums = dequantize(before[name].data, Q4_1) + touched[name]
            found = dequantize(tensor.data, tensor.tensor_type)
            assert np.abs(found - sums).max() < rounding, name
        else:
            assert tensor.data.tobytes() == before[name].data.tobytes()


def test_keeps_every_key(base: Base, tmp_path: Path) -> None:
    """Byte for byte, even tokens that are no text; the file's type is that of most weights."""
    few = {n: w for n, w in random_weights().items() if n.startswith(ONE)}
    write_merged(make_adapter(tmp_path / "few", base, few), base, tmp_path / "few.gguf")
    end = GGUFReader(base.location).tensors[0].field.offset
    head = Path(base.location).read_bytes()[:end]
    assert (tmp_path / "few.gguf").read_bytes()[:end] == head
    everywhere = make_adapter(tmp_path / "everywhere", base)
    write_merged(everywhere, base, tmp_path / "all.gguf")
    reader = GGUFReader(tmp_path / "all.gguf")
    assert reader.fields["general.file_type"].contents() == 7
    other = [a for a, b in zip(head, (tmp_path / "all.gguf").read_bytes(), strict=False) if a != b]
    assert other == [3]


def test_the_same_model_gives_the_same_bytes(base: Base, adapter: Path, tmp_path: Path) -> None:
    """Written twice."""
    hashes = {write_merged(adapter, base, tmp_path / f"{n}.gguf").sha256 for n in range(2)}
    assert len(hashes) == 1


def test_rows_that_make_no_blocks_of_8_bits_are_kept_in_16(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As llama.cpp's own quantizing does."""
    sizes = dict(merged.GGML_QUANT_SIZES)
    monkeypatch.setattr(  # blocks that rows of 64 and 96 do not fill
        merged, "GGML_QUANT_SIZES", sizes | {GGMLQuantizationType.Q8_0: (96, 102)}
    )
    types = {t.name: merged._type(t, "Q8_0").name for t in GGUFReader(base.location).tensors}
    assert types["blk.0.attn_q.weight"] == "F16"
    assert types["blk.0.ffn_down.weight"] == "Q8_0"


def test_a_folder_is_refused_with_the_way_to_a_file(tmp_path: Path) -> None:
    """And taken, once its GGUF file is named."""
    base = make_base(tmp_path / "folder")
    adapter = make_adapter(tmp_path / "adapter", base)
    with pytest.raises(Misconfigured, match=r"convert_hf_to_gguf.py FOLDER .* --gguf"):
        write_merged(adapter, base, tmp_path / "m.gguf")
    gguf = write_gguf(tmp_path / "base.gguf", base)
    assert write_merged(adapter, base, tmp_path / "m.gguf", gguf=gguf).changed == 14


def test_another_model_is_refused(base: Base, tmp_path: Path) -> None:
    """A file of other sizes than the base that the adapter was trained on."""
    shape = make_base(tmp_path / "other")
    adapter = make_adapter(tmp_path / "adapter", shape)
    other = write_gguf(tmp_path / "other.gguf", shape, heads=2 * HEADS)
    with pytest.raises(IntegrityError, match="another model than the adapter's base"):
        write_merged(adapter, shape, tmp_path / "m.gguf", gguf=other)


def test_what_cannot_be_served_cannot_be_merged(base: Base, tmp_path: Path) -> None:
    """The same refusals as of an adapter's file, and numbers beyond the type."""
    adapter = make_adapter(tmp_path / "adapter", base, use_dora=True)
    with pytest.raises(Rejected, match="DoRA"):
        write_merged(adapter, base, tmp_path / "m.gguf")
    weights = random_weights()
    weights[f"{ONE}.lora_B.weight"][0] = 1e5
    adapter = make_adapter(tmp_path / "large", base, weights)
    with pytest.raises(Rejected, match=r"attn_q\.weight has numbers too large for F16"):
        write_merged(adapter, base, tmp_path / "m.gguf", type="F16")
    assert not (tmp_path / "m.gguf").exists()


def test_a_flipped_byte_is_seen(base: Base, adapter: Path, tmp_path: Path) -> None:
    """Of a weight that changed, of one that did not, and of the keys."""
    path = tmp_path / "m.gguf"
    write_merged(adapter, base, path)
    reader = GGUFReader(path)
    hashes = {t.name: merged._hash(t.data) for t in reader.tensors}
    whole = path.read_bytes()
    head = whole[: reader.data_offset]
    merged._require_same(path, head, hashes)
    for place in (100, reader.tensors[1].data_offset, reader.tensors[-1].data_offset + 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(IntegrityError):
            merged._require_same(path, head, hashes)


def test_too_small_a_disk_is_said_before_anything_is_written(
    base: Base, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is needed and what is free."""
    used = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: used)
    with pytest.raises(DoesNotFit, match=r"needs 64 MB, and 1 MB are free"):
        write_merged(adapter, base, tmp_path / "m.gguf")
    assert not list(tmp_path.glob(".*.partial"))


def test_by_hand(adapter: Path, base: Base, tmp_path: Path) -> None:
    """The command writes the same file and describes it."""
    output = tmp_path / "m.gguf"
    child = by_hand(
        str(adapter), "--base", base.name, "--output", str(output), "--merged", "--type", "F16"
    )
    said, _ = child.communicate(timeout=300)
    assert child.returncode == 0
    described = msgspec.json.decode(said, type=merged.GgufModel)
    assert described == write_merged(adapter, base, output, type="F16")
