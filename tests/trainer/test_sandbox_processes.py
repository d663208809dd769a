"""Code that wants out of its cell, to other processes and by the kernel's calls.

Attempts are made as in test_sandbox_escapes: outside of any cell they must work.
"""

from __future__ import annotations

import os
import platform
import subprocess
import threading
import uuid
from pathlib import Path

import pytest

from store.records import Outcome
from tests.trainer.cells import (
    NOBODY,
    Cell,
    at,
    attempt,
    cell,
    closed,
    every,
    outside,
)
from trainer.gates.sandbox.execution import Level

__all__ = ["cell"]  # a fixture


def left(mark: str) -> list[str]:
    """The processes in whose command line this stands."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in process.read_text():
                found.append(str(process))
        except OSError:  # it has ended meanwhile
            continue
    return found


# --- processes ------------------------------------------------------------------------------

PROCESSES = {
    "a fork": "if os.fork() == 0:\n    os._exit(0)",
    "a command": "import subprocess\nsubprocess.run(['/bin/true'], check=True)",
    "a shell": "assert os.system('true') == 0",
    "a spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "a thread": "import threading\nthreading.Thread(target=int).start()",
}


@every
@pytest.mark.parametrize("body", PROCESSES.values(), ids=PROCESSES)
def test_no_process_is_started(cell: Cell, body: str) -> None:
    """Nor a thread: then nobody bombs and nobody stays behind."""
    assert cell(attempt(body)).outcome is Outcome.FAIL
    assert outside(attempt(body)) == "out"


@every
def test_a_fork_bomb_is_none(cell: Cell) -> None:
    """It ends at its first fork, and leaves nobody."""
    mark = f"7.{uuid.uuid4().int % 10**9:09}1"
    code = attempt("while True:\n    os.fork()")

    done = cell(code, seconds=float(mark))

    assert done.outcome is Outcome.FAIL
    assert "BlockingIOError" in done.reason or "OSError" in done.reason
    assert left(mark) == []


@every
def test_nobody_stays_behind(cell: Cell) -> None:
    """A daemon of two forks and a session of its own, that hears no signal and lets nobody go."""
    mark = f"1.{uuid.uuid4().int % 10**9:09}1"
    code = attempt("""
import signal, time
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
for _ in range(2):
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        pass
for leave in (os.setsid, lambda: ctypes.CDLL(None).prctl(1, 0)):
    try:
        leave()
    except OSError:
        pass
time.sleep(600)
""")
    seen: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set() and not seen:
            seen.extend(left(mark))

    watcher = threading.Thread(target=watch)
    watcher.start()

    done = cell(code, seconds=float(mark))
    over.set()
    watcher.join()

    assert done.outcome is Outcome.FAIL
    assert done.reason == f"not done after {float(mark):g} s"
    assert seen != []  # by this mark one would be found
    assert left(mark) == []


@closed
@pytest.mark.parametrize("way", ["kill", "pidfd", "queue", "owner", "group"])
def test_no_signal_reaches_another(cell: Cell, way: str) -> None:
    """Not even a process of the same user, by whatever call."""
    user = NOBODY if os.geteuid() == 0 else None
    bystander = subprocess.Popen(
        ["/bin/sleep", "600"], user=user, start_new_session=True, cwd="/", env={}
    )
    try:
        code = attempt(
            {
                "kill": "os.kill({pid}, 9)",
                "pidfd": "import signal\nsignal.pidfd_send_signal(os.pidfd_open({pid}), 9)",
                "queue": "import signal\n"
                "assert ctypes.CDLL(None).sigqueue({pid}, 9, None) == 0, 'OSError'",
                "owner": "import fcntl\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, {pid})",
                "group": "os.killpg({pid}, 9)",
            }[way].format(pid=bystander.pid)
        )

        done = cell(code)

        assert done.outcome is Outcome.FAIL
        assert "Error" in done.reason
        assert bystander.poll() is None
        assert outside(code) == "out"
    finally:
        bystander.kill()
        bystander.wait()


@every
@pytest.mark.parametrize("whom", ["os.getppid() or 1", "0", "os.getpid()"])
def test_who_kills_the_examiner_has_not_passed(cell: Cell, whom: str) -> None:
    """Nor who kills its group, or itself."""
    assert cell(attempt(f"os.kill({whom}, 9)")).outcome is Outcome.FAIL


@at(Level.NAMESPACES)
def test_who_kills_all_that_it_can_has_not_passed(cell: Cell) -> None:
    """Only tried where it sees nobody: elsewhere a fault of ours would end the user's session."""
    assert cell(attempt("os.kill(-1, 9)")).outcome is Outcome.FAIL


# --- the kernel -----------------------------------------------------------------------------

CALLS = {
    # name: number on x86_64, on aarch64
    "socket": (41, 198), "socketpair": (53, 199), "clone": (56, 220), "execve": (59, 221),
    "execveat": (322, 281), "kill": (62, 129), "ptrace": (101, 117), "setsid": (112, 157),
    "personality": (135, 92), "pivot_root": (155, 41), "prctl": (157, 167), "mount": (165, 40),
    "init_module": (175, 105), "add_key": (248, 217), "keyctl": (250, 219), "unshare": (272, 97),
    "perf_event_open": (298, 241), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "setns": (308, 268), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "seccomp": (317, 277), "memfd_create": (319, 279), "bpf": (321, 280),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "open_tree": (428, 428),
    "pidfd_open": (434, 434), "clone3": (435, 435), "openat2": (437, 437),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
}  # fmt: skip


@closed
def test_no_call_of_the_kernel_is_left_that_reaches_out(cell: Cell) -> None:
    """Asked for by number, they do not exist; nor by x86_64's second set of numbers."""
    machine = platform.machine()
    if machine not in ("x86_64", "aarch64"):
        pytest.skip(f"no filter for {machine}")
    numbers = {name: at[machine == "aarch64"] for name, at in CALLS.items()}
    if machine == "x86_64":
        numbers["x32 getpid"] = 0x40000000 + 39
    code = f"""
import ctypes, errno
def exist():
    libc, found = ctypes.CDLL(None, use_errno=True), []
    for name, number in {numbers!r}.items():
        # Addresses and sizes that are wrong: where the call is there it fails, but otherwise.
        result = libc.syscall(number, *[ctypes.c_long(-1)] * 6)
        if result != -1 or ctypes.get_errno() != errno.ENOSYS:
            found.append(name)
    return found
"""
    done = cell(code, "assert exist() == [], exist()")

    assert (done.outcome, done.reason) == (Outcome.PASS, "every test came to its end")


@closed
def test_the_keeper_is_not_traced(cell: Cell) -> None:
    """Its memory holds the tests and the nonce: no attachment, no reading, no /proc."""
    code = attempt("""
libc, parent, into = ctypes.CDLL(None, use_errno=True), os.getppid(), ctypes.create_string_buffer(8)
class Vector(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
ours, theirs = Vector(ctypes.addressof(into), 8), Vector(ctypes.addressof(into), 8)
ways = [
    # seizes, which does not stop it
    lambda: libc.ptrace(0x4206, parent, None, None) == 0,
    lambda: libc.process_vm_readv(parent, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0) > 0,
    lambda: bool(open(f'/proc/{parent}/mem', 'rb')),
    lambda: bool(open(f'/proc/{parent}/environ', 'rb').read()),
    lambda: bool(os.listdir(f'/proc/{parent}/fd')),
]
def works(way):
    try:
        return way()
    except OSError:
        return False
assert any(map(works, ways)), 'refused'
""")

    done = cell(code)

    assert done.outcome is Outcome.FAIL
    assert "refused" in done.reason
    assert outside(code) == "out"


# --- what it is given -----------------------------------------------------------------------


@every
def test_it_is_nobody_and_is_given_nothing(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """No root, no variables, no arguments, no words on stdin, no descriptors but its two."""
    monkeypatch.setenv("BHAVANA_SECRET", "hush")
    code = """
import os, sys
def given():
    opened = []
    for fd in range(3, 256):
        try:
            os.fstat(fd)
            opened.append(fd)
        except OSError:
            pass
    return os.getuid() == 0, dict(os.environ), sys.argv, sys.stdin.read(), len(opened)
"""
    done = cell(code, "assert given() == (False, {}, [''], '', 2), given()")

    assert (done.outcome, done.reason) == (Outcome.PASS, "every test came to its end")
