"""`python -m converters.constitution`: composes examples and writes them to a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from converters.constitution.compose import examples
from converters.constitution.exports import EXPORTS
from converters.constitution.write import write
from store.errors import BhavanaError


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m converters.constitution",
        description="Composes constitutional examples: the same seed gives the same bytes.",
    )
    parser.add_argument("--count", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--seed", type=int, default=7, help="which (default: 7)")
    parser.add_argument("--output", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument(
        "--as",
        dest="format",
        choices=EXPORTS,
        default="examples",
        help="examples: every field; chat: the ethical response as a chat row; critique: critique "
        "and revision as the reply (default: examples)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = _arguments()
    given = parser.parse_args(arguments)
    if given.count < 2:
        parser.error("--count must be 2 or more")
    try:
        composed = examples(given.count, given.seed)
        manifest = write(given.output, composed, seed=given.seed, format=given.format)
    except BhavanaError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{manifest.count} examples in {given.output}: {manifest.decisions}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
