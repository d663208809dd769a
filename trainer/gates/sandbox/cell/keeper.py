"""Closes the cell, makes the two processes in it, and says what came of it.

Started with one argument, a JSON object: level, seconds, memory_mb. On stdin: code, tests, calls,
nonce. On stdout a line when the cell is closed, and one with the verdict; the code is only run
when everything that the level asks for holds.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import kernel, landlock, namespaces, seccomp
from .examiner import Link, examine
from .inmate import serve
from .wire import receive, send

NOBODY = 65534
OPEN_FILES = 64
VERDICTS = 50
"""The descriptor to which stdout is moved: what tests print is not taken for a verdict."""
LIBRARIES = (
    *("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64"),
    *("/etc/ld.so.cache", "/usr/share/zoneinfo"),
)
KERNEL = ("kernel", "namespaces")
"""The levels at which Landlock and seccomp hold."""


def main() -> None:
    """Runs one order from stdin. Never raises: what went wrong is what it says."""
    asked = json.loads(sys.argv[1])
    os.dup2(1, VERDICTS, inheritable=False)
    try:
        link, inmate = _close(asked)
    except (OSError, ValueError, RuntimeError) as error:
        _say({"open": f"{error}"})
        return
    _say({"closed": asked["level"]})
    with open(0, "rb") as stdin:
        order = json.load(stdin)
    verdict = examine(order, link, asked["seconds"])
    os.kill(inmate, signal.SIGKILL)
    os.waitpid(inmate, 0)  # the first of its namespace: whatever else is in it ends before
    _say(verdict)


def _close(asked: dict[str, Any]) -> tuple[Link, int]:
    """The line to a inmate that is locked in. Raises where something of the level does not hold."""
    level = asked["level"]
    sys.path[:] = [path for path in sys.path if Path(path).is_dir()]
    readable = _readable()
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, 1)
    if level == "namespaces":
        namespaces.enter(readable)
    os.chdir("/")
    _limit(math.ceil(asked["seconds"]), asked["memory_mb"] << 20)
    _become_nobody()
    if not _opens(os.__file__):
        raise RuntimeError(f"nobody may read {os.__file__}; use a Python that everybody may read")
    rules = -1
    if level in KERNEL:
        rules = landlock.ruleset(readable)
        landlock.restrict(rules)
    theirs, orders = os.pipe()
    answers, ours = os.pipe()
    inmate = os.fork()
    if inmate == 0:
        try:
            _lock_in(level, rules, nothing, theirs, ours)
            serve(theirs, ours)
        finally:
            os._exit(0)
    for descriptor in (theirs, ours, nothing, *([rules] if level in KERNEL else ())):
        os.close(descriptor)
    if level in KERNEL:
        seccomp.confine(child=inmate)
    said = receive(answers)
    if said is None or "locked" not in said:
        raise RuntimeError(said["open"] if said else "the inmate ended before it was locked in")
    return Link(orders, answers, inmate), inmate


def _readable() -> list[str]:
    """Folders and files of Python's and the system's libraries, those above others first."""
    own = {f"{prefix}/lib" for prefix in (sys.base_prefix, sys.base_exec_prefix)}
    found: list[str] = []
    for path in sorted({*LIBRARIES, *own, *sys.path}, key=lambda path: path.count("/")):
        above = any(path == other or path.startswith(f"{other}/") for other in found)
        if Path(path).exists() and not above:
            real = str(Path(path).resolve())
            found += [path] if path == real else [real, path]
    return found


def _limit(cpu_seconds: int, memory_bytes: int) -> None:
    """What one process may take. Nothing is written into files, at any level: no disk is filled."""
    for what, most in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(what, (most, most))


def _become_nobody() -> None:
    """No root, no capability, no way to gain one, and closed to traces by the same user."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def _lock_in(level: str, rules: int, nothing: int, orders: int, answers: int) -> None:
    """The last steps, in the inmate alone; says over the line whether all of it holds."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        # No process and no thread more: nobody bombs, nobody stays behind.
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        if level in KERNEL:
            landlock.restrict(rules)
        for descriptor in range(3, OPEN_FILES):
            if descriptor not in (orders, answers):
                _close_quietly(descriptor)
        if level in KERNEL:
            seccomp.confine()
        os.environ.clear()
        sys.argv[:] = [""]
        _prove(level)
    except (OSError, ValueError, RuntimeError) as error:
        send(answers, {"open": str(error)})
        os._exit(1)
    send(answers, {"locked": level})


def _close_quietly(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


def _prove(level: str) -> None:
    """Raises RuntimeError where this process still can what it must not."""
    with suppress(OSError):
        if os.fork() == 0:
            os._exit(0)
        raise RuntimeError("it can start a process")
    if os.getuid() == 0:
        raise RuntimeError("it is root")
    if level in KERNEL and _opens(__file__):
        raise RuntimeError(f"it can read {__file__}")
    if level in KERNEL:
        with suppress(OSError):
            kernel.call("socket", 2, 1, 0)  # a TCP socket
            raise RuntimeError("it can make a socket")
    if level == "namespaces" and (os.getpid() != 1 or Path(__file__).exists()):
        raise RuntimeError("it is in no namespace of its own")


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return False
    return True


def _say(words: dict[str, Any]) -> None:
    # Half a character, which an exception's words may hold, is no UTF-8.
    os.write(VERDICTS, json.dumps(words, ensure_ascii=False).encode(errors="replace") + b"\n")
