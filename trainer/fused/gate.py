"""The gated part of a block (SwiGLU, arXiv 2002.05202), whose two layers are one step (torch)."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch

from trainer.fused.linear import answers


def fuse_gate(module: Any) -> None:
    """A gated part like LlamaMLP computes so from now on."""
    module.forward = MethodType(_forward, module)


def _forward(module: Any, x: torch.Tensor) -> Any:
    gate, up = answers(x, module.gate_proj, module.up_proj)
    return module.down_proj(module.act_fn(gate) * up)
