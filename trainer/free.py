"""How much memory is free: of the machine, or of a control group that is tighter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from store.errors import Misconfigured
from store.records import Noun


class Memory(Noun, frozen=True, kw_only=True):
    """How much memory is free, and who says so."""

    kind: Literal["ram", "vram"]
    free_bytes: int
    source: str


def free_ram(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Memory:
    """What this process may still take: of the machine, or of a control group that is tighter."""
    found = [(_available(proc), "MemAvailable"), *_in_groups(proc, cgroups)]
    free, source = min(found)
    return Memory(kind="ram", free_bytes=max(0, free), source=source)


def _available(proc: Path) -> int:
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise Misconfigured(f"{proc / 'meminfo'} tells no MemAvailable.")


def _in_groups(proc: Path, cgroups: Path) -> Iterator[tuple[int, str]]:
    """(free bytes, the limit's file) of each group with a limit, from ours up to the root."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names, root = ("memory.max", "memory.current", "inactive_file"), cgroups
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = cgroups / "memory"
        else:
            continue
        group = root / path.lstrip("/")
        while group.is_relative_to(root):
            free = _left_in(group, *names)
            if free is not None:
                yield free, str(group / names[0])
            if group == root:
                break
            group = group.parent


def _left_in(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """Limit less usage; pages of files that the kernel would give up count as free."""
    try:
        most = (group / limit).read_text().strip()
        used = int((group / usage).read_text())
        statistics = (group / "memory.stat").read_text().split()
    except (OSError, ValueError):  # not mounted here, or the root group, which has none
        return None
    if most == "max":
        return None
    values = dict(zip(statistics[::2], statistics[1::2], strict=False))
    return int(most) - used + int(values.get(reclaimable, 0))
