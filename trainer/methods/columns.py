"""What a row of a dataset holds for each method of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.errors import Rejected

COLUMNS: dict[str, dict[str, type]] = {
    "sft": {"messages": list},
    "dpo": {"prompt": list, "chosen": list, "rejected": list},
    "kto": {"prompt": list, "completion": list, "label": bool},
}
"""By method: what a row of its dataset holds (lists of chat messages), besides its origin."""


def require_kind(method: str, lines: list[dict[str, Any]], path: Path) -> None:
    """Raises Rejected when a row is not of the kind that the method learns from."""
    for number, line in enumerate(lines, start=1):
        if lacking := _lacking(method, line):
            others = [name for name in COLUMNS if not _lacking(name, line)]
            raise Rejected(
                f"{path} is no dataset for method {method}: row {line.get('id', number)} has no "
                + ", ".join(lacking)
                + (f", but is one for method {others[0]}." if others else "."),
                hint="Set trainer.recipe.method to what the dataset was built for, or build one "
                "for this method: `bhavana cycle` does.",
            )


def _lacking(method: str, line: dict[str, Any]) -> list[str]:
    wanted = COLUMNS[method]
    return [name for name, kind in wanted.items() if not isinstance(line.get(name), kind)]
