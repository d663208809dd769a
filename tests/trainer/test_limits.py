"""Shapes of bases, sizes of adapters, and what targets can serve of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from store.errors import Misconfigured
from trainer.base import Base, locate
from trainer.recipe import Recipe
from trainer.shape import Shape, shape_of, shape_of_config
from trainer.targets.limits import (
    ANY,
    CLOUDFLARE,
    OLLAMA,
    Limits,
    adapter_bytes,
    require_servable,
)

MISTRAL_7B = Shape(
    model_type="mistral",
    layers=32,
    hidden=4096,
    intermediate=14336,
    heads=32,
    kv_heads=8,
    head_size=128,
)
WHOLE = Recipe(lora_layer_share=1.0, lora_r=32)


def test_embedded_base_is_known_without_being_loaded() -> None:
    """The head of the GGUF file tells the sizes of SmolLM2-135M."""
    assert shape_of(locate("smollm2-135m")) == Shape(
        model_type="llama",
        layers=30,
        hidden=576,
        intermediate=1536,
        heads=9,
        kv_heads=3,
        head_size=64,
    )


def test_folder_is_known_by_its_configuration(tiny_base: Base) -> None:
    """config.json tells the sizes, whatever the weights are."""
    shape = shape_of(tiny_base)
    assert (shape.layers, shape.hidden, shape.intermediate) == (2, 32, 64)
    assert shape.modules["down_proj"] == (64, 32)


@pytest.mark.parametrize("content", ["{}", "no json", '{"model_type": "clip", "vision": 1}', "[]"])
def test_what_is_no_language_model_is_misconfigured(tmp_path: Path, content: str) -> None:
    """A configuration without the sizes is told with its file."""
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(Misconfigured, match=r"config\.json"):
        shape_of_config(path)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + b"\0" * 20, b"PK" * 100])
def test_what_is_no_gguf_is_misconfigured(tmp_path: Path, content: bytes) -> None:
    """A cut or foreign file is told, not traced."""
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match="not a GGUF"):
        shape_of(locate(str(path)))


def test_gguf_of_another_family_goes_by_its_usual_name(tmp_path: Path) -> None:
    """llama.cpp's gptneox is gpt_neox everywhere else."""
    from gguf import GGUFWriter

    path = tmp_path / "pythia.gguf"
    writer = GGUFWriter(path, "gptneox")
    writer.add_array("general.tags", ["a", "b"])
    writer.add_block_count(6)
    writer.add_embedding_length(512)
    writer.add_feed_forward_length(2048)
    writer.add_head_count(8)
    writer.add_tokenizer_model("gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    shape = shape_of(locate(str(path)))
    assert (shape.model_type, shape.layers, shape.kv_heads) == ("gpt_neox", 6, 8)
    assert shape.modules["query_key_value"] == (512, 1536)


def test_size_of_an_adapter_of_mistral_7b() -> None:
    """Rank 32 on all linear layers is 84 million numbers: 168 MB in 16 bits, 336 in 32."""
    assert MISTRAL_7B.adapter_weights(WHOLE) == 83_886_080
    assert adapter_bytes(WHOLE, MISTRAL_7B, CLOUDFLARE) == 167_772_160
    assert adapter_bytes(WHOLE, MISTRAL_7B, ANY) == 335_544_320


def test_unknown_family_has_no_size_and_is_not_held_to_one() -> None:
    """Unknown is not zero: a target without a list of families takes it unmeasured."""
    shape = Shape(**{**json.loads(json.dumps(_fields(MISTRAL_7B))), "model_type": "mamba"})
    assert shape.adapter_weights(WHOLE) is None
    require_servable(WHOLE, shape, ANY, "local")
    with pytest.raises(Misconfigured, match="mamba"):
        require_servable(WHOLE, shape, OLLAMA, "ollama")


def _fields(shape: Shape) -> dict[str, Any]:
    return {name: getattr(shape, name) for name in shape.__struct_fields__}


@pytest.mark.parametrize(
    ("recipe", "limits", "said"),
    [
        ({"lora_r": 64}, CLOUDFLARE, "highest rank is 32, this adapter's is 64"),
        ({"init_lora_weights": "pissa"}, CLOUDFLARE, "64 .PiSSA doubles lora_r."),
        ({}, Limits(max_adapter_bytes=299_999_999), "has 336 MB: lower lora_r"),
        ({"use_dora": True}, CLOUDFLARE, "use_dora"),
        ({"use_rslora": True}, CLOUDFLARE, "use_rslora"),
        ({"use_dora": True}, OLLAMA, "use_dora"),
        ({"lora_target_modules": ("q_porj",)}, ANY, "no q_porj"),
    ],
)
def test_what_a_target_cannot_serve_is_told_before_training(
    recipe: dict[str, Any], limits: Limits, said: str
) -> None:
    """The rank, the size, the kind of adapter, or a module that the base has not."""
    asked = Recipe(**({"lora_layer_share": 1.0, "lora_r": 32} | recipe))
    with pytest.raises(Misconfigured, match=said):
        require_servable(asked, MISTRAL_7B, limits, "there")


def test_all_that_is_wrong_is_told_together() -> None:
    """One message, however many limits are passed."""
    asked = Recipe(lora_r=512, lora_layer_share=1.0, use_dora=True)
    with pytest.raises(Misconfigured) as refused:
        require_servable(asked, MISTRAL_7B, CLOUDFLARE, "cloudflare")
    assert all(word in str(refused.value) for word in ("rank", "MB", "DoRA", "cloudflare"))


def test_what_fits_is_silent() -> None:
    """The preset for Mistral fits Cloudflare; Ollama scales as rsLoRA does; local takes all."""
    require_servable(WHOLE, MISTRAL_7B, CLOUDFLARE, "cloudflare")
    require_servable(Recipe(lora_r=64, use_rslora=True), MISTRAL_7B, OLLAMA, "ollama")
    require_servable(Recipe(lora_r=512, use_dora=True), MISTRAL_7B, ANY, "local")
