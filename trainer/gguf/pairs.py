"""A PEFT adapter as pairs of matrices under llama.cpp's names, or all that keeps it from that.

What llama.cpp would refuse at load, ignore without a word, or add in another way than PEFT does
is refused here, all of it together.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from store.errors import Rejected
from trainer.adapter import FILES
from trainer.gguf.architectures import ARCHITECTURES, Rows, block_of, layers_of, row_order
from trainer.shape import Shape

Matrix = NDArray[np.float32]

HALF = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
BLOCK = re.compile(r"(?P<layers>.+)\.(?P<block>\d+)\.(?P<inner>[^.]+\.[^.]+)")
DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""Of safetensors, as numpy reads them; it has no bfloat16, which is the upper half of a float32."""

REFUSED = {
    "use_dora": "DoRA, whose magnitudes have no place in it",
    "modules_to_save": "whole modules trained beside the adapter (modules_to_save)",
    "trainable_token_indices": "trained embeddings (trainable_token_indices)",
    "lora_bias": "biases (lora_bias)",
    "target_parameters": "adapted parameters that are no linear layers (target_parameters)",
    "layer_replication": "replicated layers (layer_replication)",
    "alora_invocation_tokens": "an adapter that begins within the prompt (aLoRA)",
    "use_qalora": "QALoRA",
}
"""Settings of PEFT that make more of an adapter than two matrices a module, where they are set."""
CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Ways to begin (init_lora_weights) that take something out of the base's own weights."""
SHOWN = 3
"""So many modules are named; what is wrong with one is mostly wrong with all."""


class Pair(Struct, frozen=True, kw_only=True):
    """What an adapter adds to one weight of the base: alpha / rank * B @ A."""

    module: str
    """transformers' name of the linear layer."""
    tensor: str
    """llama.cpp's name of its weight."""
    a: Matrix
    """(rank, in)"""
    b: Matrix
    """(out, rank), the rows as PEFT has them."""
    alpha: float
    """With rsLoRA times the root of the rank, so that alpha / rank is the scale in any case."""
    order: Rows | None
    """Which of these rows each row of llama.cpp's weight is; None: in the same order."""

    @property
    def rank(self) -> int:
        """The inner size of the product."""
        return int(self.a.shape[0])


class _Scaling(Struct, frozen=True):
    """What PEFT computes an adapter's scales from, with PEFT's defaults."""

    r: int = 8
    lora_alpha: float = 8
    use_rslora: bool = False
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None

    def __post_init__(self) -> None:
        for pattern in (*(self.rank_pattern or ()), *(self.alpha_pattern or ())):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern} is no pattern: {error}") from error

    def rank(self, module: str) -> int:
        return int(_by_pattern(self.rank_pattern, module, self.r))

    def alpha(self, module: str) -> float:
        alpha = _by_pattern(self.alpha_pattern, module, self.lora_alpha)
        return alpha * math.sqrt(self.rank(module)) if self.use_rslora else alpha


def _by_pattern(patterns: Mapping[str, float] | None, module: str, otherwise: float) -> float:
    """PEFT's rule: the first pattern that a name ends with, from a dot or the beginning on."""
    matching = (v for key, v in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", module))
    return next(matching, otherwise)


def read_pairs(adapter: Path, shape: Shape) -> list[Pair]:
    """The adapter's pairs, in the order of the blocks.

    Raises Rejected with all that keeps a llama.cpp server from adding what PEFT adds.
    """
    config, weights = _read(adapter)
    try:
        scaling = msgspec.convert(config, _Scaling)
    except msgspec.ValidationError as error:
        raise Rejected(f"{adapter / FILES[0]} is not an adapter's: {error}.") from error
    faults = [*_config_faults(config), *_family_faults(shape)]
    halves: dict[str, dict[str, Matrix]] = defaultdict(dict)
    kinds: dict[str, list[str]] = defaultdict(list)
    for name, weight in weights.items():
        if (match := HALF.fullmatch(name)) is None:
            kinds["no half of a linear layer's adapter"].append(name)
        else:
            halves[match["module"]][match["half"]] = weight
    for module, both in halves.items():
        for kind in _pair_faults(module, both, scaling, shape):
            kinds[kind].append(module)
    if not weights:
        faults.append("it holds no weights")
    faults += [f"{_few(names)}: {kind}" for kind, names in kinds.items()]
    if faults:
        raise Rejected(
            f"{adapter} cannot be served by llama.cpp: {'; '.join(faults)}.",
            hint="Train plain LoRA or rsLoRA of the blocks' linear layers (trainer.recipe).",
        )
    pairs = (_pair(module, both, scaling, shape) for module, both in halves.items())
    return sorted(pairs, key=lambda pair: (int(pair.tensor.split(".")[1]), pair.tensor))


def _read(adapter: Path) -> tuple[dict[str, Any], dict[str, Matrix]]:
    """The adapter's configuration and its weights in float32, which holds all its dtypes."""
    try:
        config = msgspec.json.decode((adapter / FILES[0]).read_bytes(), type=dict[str, Any])
        stored = deserialize((adapter / FILES[1]).read_bytes())  # type: ignore[no-untyped-call]
    except (OSError, msgspec.DecodeError, SafetensorError) as error:
        raise Rejected(f"{adapter} is no adapter that can be read: {error}.") from error
    if other := {tensor["dtype"] for _, tensor in stored} - set(DTYPES):
        raise Rejected(f"{adapter} holds weights of type {', '.join(sorted(other))}.")
    return config, {name: _float32(tensor) for name, tensor in stored}


def _float32(tensor: Mapping[str, Any]) -> Matrix:
    numbers = np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]])
    if tensor["dtype"] == "BF16":
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32).reshape(tensor["shape"])


def _config_faults(config: Mapping[str, Any]) -> Iterator[str]:
    if (kind := config.get("peft_type", "LORA")) != "LORA":
        yield f"it is {kind}, not LoRA"
    yield from (f"it has {what}" for setting, what in REFUSED.items() if config.get(setting))
    if config.get("bias", "none") != "none":
        yield f"it has biases (bias {config['bias']})"
    start = str(config.get("init_lora_weights")).lower()
    if start.startswith(CHANGES_BASE):
        yield f"it belongs to a base that {start} has changed: save it converted to plain LoRA"


def _family_faults(shape: Shape) -> Iterator[str]:
    if shape.model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        yield f"of {shape.model_type} bases we do not know how llama.cpp keeps them, but of {known}"


def _pair_faults(
    module: str, both: Mapping[str, Matrix], scaling: _Scaling, shape: Shape
) -> Iterator[str]:
    """What is wrong with a module, in words that are the same for every module with that fault."""
    if shape.model_type not in ARCHITECTURES:
        return
    if (place := _place(module, shape)) is None:
        yield f"no linear layer of a {shape.model_type} block, so that servers differ or refuse it"
        return
    if missing := {"A", "B"} - set(both):
        yield f"without its lora_{missing.pop()}"
        return
    size_in, size_out = shape.modules[place[1].rpartition(".")[2]]
    rank = scaling.rank(module)
    if (both["A"].shape, both["B"].shape) != ((rank, size_in), (size_out, rank)):
        found = f"{both['A'].shape} and {both['B'].shape}"
        yield f"A and B are {found}, not {(rank, size_in)} and {(size_out, rank)} as of this base"
        return
    if not all(np.isfinite(half).all() for half in both.values()):
        yield "weights that are not finite"
    with np.errstate(over="ignore"):
        alpha = np.float32(scaling.alpha(module))
    if not np.isfinite(alpha):
        yield "a scale too large for a 32-bit number"
    if alpha == 0:  # llama.cpp takes an alpha of 0 for a scale of 1
        yield "a scale of 0, with which it has no effect"


def _place(module: str, shape: Shape) -> tuple[int, str] | None:
    """The block of a linear layer and its name within; None for any other module."""
    match = BLOCK.fullmatch(module)
    if match is None or match["layers"] != layers_of(shape.model_type):
        return None
    block, inner = int(match["block"]), match["inner"]
    known = inner in block_of(shape.model_type) and block < shape.layers
    return (block, inner) if known else None


def _pair(module: str, both: Mapping[str, Matrix], scaling: _Scaling, shape: Shape) -> Pair:
    place = _place(module, shape)
    assert place is not None
    block, inner = place
    name = block_of(shape.model_type)[inner]
    return Pair(
        module=module,
        tensor=f"blk.{block}.{name}.weight",
        a=both["A"],
        b=both["B"],
        alpha=scaling.alpha(module),
        order=row_order(shape, name),
    )


def _few(names: Iterable[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more
