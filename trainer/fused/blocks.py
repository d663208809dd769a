"""The roster of what is fused: which modules of which families (torch)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.fused.attention import fuse_attention
from trainer.fused.gate import fuse_gate
from trainer.fused.norm import fuse_norm

FUSED: dict[str, Callable[[Any], None]] = {
    "LlamaRMSNorm": fuse_norm,
    "MistralRMSNorm": fuse_norm,
    "LlamaMLP": fuse_gate,
    "MistralMLP": fuse_gate,
    "LlamaAttention": fuse_attention,
    "MistralAttention": fuse_attention,
}
"""By the class in transformers: what computes the same. Other families keep their own steps."""


def fuse(base: Any) -> None:
    """The blocks of a frozen base on a processor compute in fused steps from now on.

    Attention only where it would be eager.
    """
    for module in base.modules():
        fused = FUSED.get(type(module).__name__)
        if fused is fuse_attention and base.config._attn_implementation != "eager":  # noqa: SLF001
            continue
        if fused is not None:
            fused(module)
