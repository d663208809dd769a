"""What a job's child may take of the machine, and what it may know.

Memory is held by the best means there is: a scope of systemd's, else a control group that was
delegated to this service, else RLIMIT_DATA. Processors are held by affinity, which needs no one's
leave; the kernel derives a job's priority at the disk from its niceness. The child is in a process
group of its own, sees an environment without secrets, and is the first to die when the machine
runs out of memory (see `trainer.job`).
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from store.orphans import PARENT_VARIABLE
from store.records import Noun

MIB = 1 << 20
BOOTED_BY_SYSTEMD = Path("/run/systemd/system")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
DELEGATED = "user.delegate"
"""The attribute by which systemd marks a control group that it gave away (Delegate=)."""
LOW_WEIGHT = 20
"""Of processors and disk, where the daemon has 100."""

KEPT = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONWARNINGS", "VIRTUAL_ENV"),
        *("XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
        *("NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("CUBLAS_WORKSPACE_CONFIG", "TOKENIZERS_PARALLELISM"),
    }
)
KEPT_PREFIXES = (
    "LC_", "LD_", "MALLOC_", "GLIBC_",
    "HF_", "TRANSFORMERS_", "ACCELERATE_", "TORCH", "PYTORCH_", "TRITON_", "BNB_",
    "OMP_", "MKL_", "KMP_", "GOMP_", "ONEDNN_",
    "CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "HIP_", "ROCR_",
)  # fmt: skip
"""What Python, torch and Hugging Face need, a hub's token (HF_TOKEN) among it; nothing of ours."""


class ResourceLimits(Noun, frozen=True, kw_only=True):
    """How much of the machine a training or an evaluation may take."""

    memory_mb: Annotated[int, Meta(ge=0)] = 0
    """MiB of RAM; 0: no limit. Where only RLIMIT_DATA can hold it, each process has so much, and
    what is mapped from files (the libraries) does not count."""
    cpus: Annotated[int, Meta(ge=0)] = 0
    """Processors, and threads of torch; 0: all."""


NO_LIMITS = ResourceLimits()


def environment(
    limits: ResourceLimits, given: Mapping[str, str], *, also: Sequence[str] = ()
) -> dict[str, str]:
    """The variables that a child needs, of those given; `also`: prefixes of more.

    Without the daemon's settings and secrets, and whatever else somebody put there.
    """
    prefixes = (*KEPT_PREFIXES, *also)
    found = {n: text for n, text in given.items() if n in KEPT or n.startswith(prefixes)}
    if limits.cpus:
        found["OMP_NUM_THREADS"] = str(limits.cpus)
    if limits.memory_mb:
        # Arrow's own pool reserves 1 GB and never uses it, which RLIMIT_DATA would count. Without
        # it a process of ours counts 3 % more than lies in RAM (measured with 0.5 and 1 GB).
        found["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    return found | {PARENT_VARIABLE: str(os.getpid()), "PYTHONUNBUFFERED": "1"}


class Cell:
    """What holds one child; this one holds it to its processors only."""

    level = "none"

    def __init__(self, limits: ResourceLimits) -> None:
        self.limits = limits

    def command(self, command: Sequence[str]) -> list[str]:
        """The command to start in the place of this one."""
        return list(command)

    def hold(self, pid: int) -> None:
        """Holds the process that was started, before it has done much."""
        if self.limits.cpus:
            allowed = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(pid, allowed[-self.limits.cpus :])

    def ran_out(self) -> bool:
        """Whether the kernel is known to have killed in here for want of memory."""
        return False

    def said(self) -> str:
        """What holds it, in words."""
        limits = self.limits
        memory = f"{limits.memory_mb} MB by {self.level}" if limits.memory_mb else "no limit"
        return f"memory: {memory}, processors: {limits.cpus or 'all'}"


class DataLimit(Cell):
    """RLIMIT_DATA: private writable memory, which is what torch allocates.

    Not RLIMIT_AS, which counts addresses: CUDA reserves hundreds of gigabytes of those. An
    allocation that goes too far fails in the child, which can then ask for smaller steps.
    """

    level = "rlimit"

    def hold(self, pid: int) -> None:
        """From outside: what runs between fork and exec in a process with threads can hang."""
        super().hold(pid)
        most = self.limits.memory_mb * MIB
        resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))


class Scope(Cell):
    """A scope of systemd's: the command runs in place, so that pid and parent stay."""

    level = "systemd"

    def command(self, command: Sequence[str]) -> list[str]:
        """The command behind systemd-run."""
        properties = (
            f"MemoryMax={self.limits.memory_mb}M",
            "MemorySwapMax=0",
            f"CPUWeight={LOW_WEIGHT}",
            f"IOWeight={LOW_WEIGHT}",
        )
        asked = [f"--property={p}" for p in properties]
        return [*_systemd_run(), *asked, "--", *command]


class Group(Cell):
    """A control group below the one that was delegated to this service."""

    level = "cgroup"

    def __init__(self, limits: ResourceLimits, delegated: Path, name: str) -> None:
        super().__init__(limits)
        self.folder = delegated / f"job-{name}"

    def make(self) -> None:
        """Makes the group with its limits. Raises OSError where that is not allowed."""
        with suppress(FileExistsError):  # left by a daemon that was killed
            self.folder.mkdir()
        self._set("memory.max", str(self.limits.memory_mb * MIB))
        self._set("memory.oom.group", "1")
        for name, text in (
            ("memory.swap.max", "0"),
            ("cpu.weight", str(LOW_WEIGHT)),
            ("io.weight", str(LOW_WEIGHT)),
        ):
            with suppress(OSError):  # a kernel without swap accounting, a controller not given
                self._set(name, text)

    def hold(self, pid: int) -> None:
        """Moves the process in; its children come with it."""
        super().hold(pid)
        self._set("cgroup.procs", str(pid))

    def ran_out(self) -> bool:
        """By the group's own count."""
        counts = dict(line.split() for line in self._read("memory.events").splitlines())
        return int(counts.get("oom_kill", 0)) > 0

    def remove(self) -> None:
        """Removes the empty group."""
        with suppress(OSError):
            self.folder.rmdir()

    def _set(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def _read(self, name: str) -> str:
        return (self.folder / name).read_text()


@contextmanager
def cell(limits: ResourceLimits, name: str) -> Iterator[Cell]:
    """The best cell that this machine has for a job of this name."""
    if not limits.memory_mb:
        yield Cell(limits)
    elif _systemd_works():
        yield Scope(limits)
    elif (group := _group(limits, name)) is not None:
        try:
            yield group
        finally:
            group.remove()
    else:
        yield DataLimit(limits)


def _systemd_run() -> list[str]:
    whose = "--system" if os.geteuid() == 0 else "--user"
    return ["systemd-run", whose, "--scope", "--quiet", "--collect"]


@cache
def _systemd_works() -> bool:
    """Whether systemd runs here and makes scopes for this user; a service's user may not."""
    if not BOOTED_BY_SYSTEMD.is_dir() or shutil.which("systemd-run") is None:
        return False
    try:
        tried = subprocess.run(
            [*_systemd_run(), "--", "true"], capture_output=True, timeout=10, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0


def _group(limits: ResourceLimits, name: str) -> Group | None:
    """A group in the delegated one, where there is one and it takes our limits."""
    delegated = delegated_cgroup()
    if delegated is None:
        return None
    group = Group(limits, delegated, name)
    try:
        for controller in ("memory", "cpu", "io"):
            with suppress(OSError):  # one that was not given; memory shows in the next lines
                (delegated / "cgroup.subtree_control").write_text(f"+{controller}")
        group.make()
    except OSError:
        group.remove()
        return None
    return group


def delegated_cgroup() -> Path | None:
    """The control group above our own, where it was delegated to this service; else None.

    systemd leaves the daemon in a group of its own below it (Delegate= with DelegateSubgroup=).
    Nobody's group is touched without that mark: we may be allowed to write it all the same.
    """
    lines = OWN_CGROUP.read_text().splitlines()
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    if not own or not (CGROUPS / "cgroup.controllers").is_file():
        return None
    above = (CGROUPS / own).parent
    try:
        return above if os.getxattr(above, DELEGATED) == b"1" else None
    except OSError:
        return None
