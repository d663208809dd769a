"""`python -m trainer.gguf ADAPTER --base BASE --output FILE`: an adapter as llama.cpp reads it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from store.errors import BhavanaError
from store.records import Noun, to_json
from trainer.base import locate
from trainer.gguf.lora import write_lora
from trainer.gguf.merged import write_merged
from trainer.job import exit_code

EXAMPLES = """\
an adapter beside its base, for `llama-server --lora` and Ollama's ADAPTER line:
  python -m trainer.gguf state/releases/current --base smollm2-135m --output adapter.gguf

a whole model with the adapter in it, for servers that load no adapters:
  python -m trainer.gguf state/releases/current --base smollm2-135m --output model.gguf --merged

the same of a base in Hugging Face layout, which llama.cpp has converted before:
  python -m trainer.gguf ADAPTER --base org/name --gguf base-f16.gguf --output model.gguf --merged

The file is read back before it gets its name. What stands on the output is its description.
"""


def main() -> int:
    """The exit code: 0 written, else as of our other children; the fault is printed."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.gguf",
        description="Writes a PEFT adapter as a GGUF file, which llama.cpp and Ollama load.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("adapter", type=Path, metavar="ADAPTER", help="folder of the PEFT adapter")
    parser.add_argument("--base", required=True, help="what it was trained on, as in trainer.base")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="where to write")
    parser.add_argument("--merged", action="store_true", help="the whole model, adapter included")
    parser.add_argument(
        "--type",
        choices=("F32", "F16", "Q8_0"),
        help="of the numbers. An adapter: F32, as trained (default), or F16, half as large and "
        "rounded. Merged: Q8_0 (default) or F16 for the weights that the adapter changes",
    )
    parser.add_argument(
        "--gguf", type=Path, metavar="FILE", help="with --merged: the base as llama.cpp's file"
    )
    arguments = parser.parse_args()
    allowed = ("Q8_0", "F16") if arguments.merged else ("F32", "F16")
    if arguments.type not in (None, *allowed):
        parser.error(f"--type {arguments.type}: here only {' or '.join(allowed)}")
    if arguments.gguf is not None and not arguments.merged:
        parser.error("--gguf goes with --merged")
    try:
        written = _write(arguments, arguments.type or allowed[0])
    except BhavanaError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    print(msgspec.json.format(to_json(written), indent=2).decode())
    return 0


def _write(arguments: argparse.Namespace, type: Any) -> Noun:
    base = locate(arguments.base)
    if arguments.merged:
        return write_merged(
            arguments.adapter, base, arguments.output, type=type, gguf=arguments.gguf
        )
    return write_lora(arguments.adapter, base, arguments.output, dtype=type)


if __name__ == "__main__":
    sys.exit(main())
