"""The roster of targets. A new target is one file here and one line below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainer.targets.local import LocalTarget
from trainer.targets.target import Target

TARGETS: dict[str, Callable[[Path], Target]] = {
    "local": LocalTarget,
}
