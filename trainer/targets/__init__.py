"""The roster of targets. A new target is one file here and one line below."""

from __future__ import annotations

from collections.abc import Callable

from trainer.targets.local import LocalTarget
from trainer.targets.place import Place
from trainer.targets.target import Target

TARGETS: dict[str, Callable[[Place], Target]] = {
    "local": LocalTarget,
}
