"""Code that wants out of its cell: to files, to the network, to other processes.

Each attempt returns "out" where it worked. Where that does no harm it is also made outside of any
cell, and must work there: so what stops it is the cell. `KERNEL` and above: what Landlock and
seccomp stop; `PROCESS`, too: what limits and rights stop.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from store.records import Outcome
from trainer.gates.sandbox import execution
from trainer.gates.sandbox.execution import ADDS, ADDS_WELL, Execution, Level, Limits

ROOT = Path(__file__).resolve().parents[2]
CLOSED = (Level.KERNEL, Level.NAMESPACES)
EVERY = (Level.PROCESS, *CLOSED)
NOBODY = 65534
OUT = 'assert attempt() == "out"\n'
"""The tests: they pass where the attempt worked."""
Cell = Callable[..., Execution]


@cache
def interpreter_for(level: Level) -> str | None:
    """A Python with which a cell of this level closes here.

    Below `NAMESPACES` root's cell runs as nobody, who may not be allowed to read our own.
    """
    with pytest.MonkeyPatch.context() as patch:
        for found in (execution._interpreter(), "/usr/bin/python3"):
            patch.setattr(execution, "_interpreter", lambda found=found: found)
            tried = execution._run_at(level, ADDS, ADDS_WELL, Limits(), ())
            if tried.outcome is Outcome.PASS:
                return found
    return None


@pytest.fixture
def cell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cell:
    """Runs code in a cell of the level that is the test's parameter."""
    level: Level = request.param
    found = interpreter_for(level)
    if found is None:
        pytest.skip(f"no cell of level {level.value} closes on this machine")
    monkeypatch.setattr(execution, "_interpreter", lambda: found)

    def run(code: str, tests: str = OUT, **limits: float) -> Execution:
        return execution._run_at(level, code, tests, Limits(**limits), ())  # type: ignore[arg-type]

    return run


closed = pytest.mark.parametrize("cell", CLOSED, indirect=True, ids=lambda level: level.value)
every = pytest.mark.parametrize("cell", EVERY, indirect=True, ids=lambda level: level.value)


@pytest.fixture
def commons() -> Iterator[Path]:
    """A folder in which everybody may do everything, with a secret that everybody may read."""
    with tempfile.TemporaryDirectory(prefix="bhavana-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        secret = folder / "secret"
        secret.write_text("hush")
        secret.chmod(0o666)
        yield folder


def outside(code: str) -> str:
    """What the attempt returns without a cell, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(attempt())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def attempt(body: str) -> str:
    """A function that makes this attempt and says "out"."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return f"import ctypes, os, socket, sys\ndef attempt():\n{lines}    return 'out'\n"


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


# --- files ----------------------------------------------------------------------------------

FILES = {
    "a system file": "open('/etc/passwd').read()",
    "the kernel's word": "open('/proc/self/status').read()",
    "the parent's variables": "open('/proc/%d/environ' % (os.getppid() or 1), 'rb').read()",
    "a secret": "assert open('{folder}/secret').read() == 'hush'",
    "a secret by another way": "assert open('/usr/lib/../..{folder}/secret').read() == 'hush'",
    "a secret by a link of /proc": "open('/proc/self/root{folder}/secret').read()",
    "a secret by a descriptor": "os.open('secret', 0, dir_fd=os.open('{folder}', os.O_PATH))",
    "a folder": "assert os.listdir('{folder}')",
    "our own code": "sys.path.insert(0, '{root}')\nimport store.orphans",
    "a new file": "open('{folder}/new', 'w').close()",
    "a new file here": "open('new', 'w').close()\nos.unlink('new')",
    "another file's words": "open('{folder}/secret', 'r+').write('gone')",
    "another file's end": "os.truncate('{folder}/secret', 0)",
    "another file's name": "os.rename('{folder}/secret', '{folder}/moved')",
    "another file": "os.unlink('{folder}/secret')",
    "a folder of its own": "os.mkdir('{folder}/new')",
    "a link": "os.symlink('/etc/passwd', '{folder}/new')\nopen('{folder}/new').read()",
    "a second name": "os.link('{folder}/secret', '{folder}/new')",
    "a pipe with a name": "os.mkfifo('{folder}/new')",
    "another root": "os.chroot('{folder}')",
}


@closed
@pytest.mark.parametrize("body", FILES.values(), ids=FILES)
def test_no_file_is_read_or_changed(cell: Cell, body: str, commons: Path) -> None:
    """Of the host there are Python's and the system's libraries, and those as they are."""
    code = attempt(body.format(folder=commons, root=ROOT))

    done = cell(code)

    assert done.outcome is Outcome.FAIL
    assert "Error" in done.reason  # it was refused, and did not only go wrong in silence
    assert {p.name: p.read_text() for p in commons.iterdir()} == {"secret": "hush"}
    if "open('new'" not in body and ("chroot" not in body or os.geteuid() == 0):
        assert outside(code) == "out"


@closed
def test_the_library_is_not_overwritten(cell: Cell) -> None:
    """Neither written to nor removed, though it is shown."""
    before = Path(os.__file__).stat().st_mtime_ns
    for act in ("open(os.__file__, 'r+')", "os.unlink(os.__file__)", "os.chmod(os.__file__, 0)"):
        done = cell(attempt(act))
        assert done.outcome is Outcome.FAIL
        assert "Error" in done.reason
    assert Path(os.__file__).stat().st_mtime_ns == before


@every
def test_no_disk_is_filled(cell: Cell, commons: Path) -> None:
    """Not a byte is written, where a file can be made at all."""
    code = attempt(f"""
for number in range(100):
    with open(f'{commons}/{{number}}', 'wb') as file:
        file.write(bytes(1 << 20))
""")

    assert cell(code).outcome is Outcome.FAIL
    assert sum(p.stat().st_size for p in commons.iterdir()) == len("hush")


@pytest.mark.parametrize("cell", [Level.NAMESPACES], indirect=True)
def test_files_of_the_host_are_not_even_there(cell: Cell, commons: Path) -> None:
    """Landlock hides what is in a file, not that it is there; the cell's own root does."""
    code = attempt(f"assert os.path.exists('{commons}/secret')")

    assert cell(code).outcome is Outcome.FAIL
    assert outside(code) == "out"


# --- the network ----------------------------------------------------------------------------

CONNECT = (
    "s = socket.socket(socket.{family}, socket.{kind})\ns.connect({address!r})\ns.send(b'out')"
)


@closed
@pytest.mark.parametrize("where", ["tcp", "udp", "path", "abstract"])
def test_nobody_is_reached(cell: Cell, where: str, commons: Path) -> None:
    """Neither by TCP or UDP on the loopback, nor by a socket with a path or an abstract name."""
    family, kind, address = {
        "tcp": ("AF_INET", "SOCK_STREAM", ("127.0.0.1", 0)),
        "udp": ("AF_INET", "SOCK_DGRAM", ("127.0.0.1", 0)),
        "path": ("AF_UNIX", "SOCK_DGRAM", f"{commons}/socket"),
        "abstract": ("AF_UNIX", "SOCK_DGRAM", f"\0bhavana-{uuid.uuid4().hex}"),
    }[where]
    with socket.socket(getattr(socket, family), getattr(socket, kind)) as listener:
        listener.bind(address)
        if where == "path":
            Path(str(address)).chmod(0o777)
        if where == "tcp":
            listener.listen()
        listener.setblocking(False)
        code = attempt(CONNECT.format(family=family, kind=kind, address=listener.getsockname()))

        assert cell(code).outcome is Outcome.FAIL
        with pytest.raises(BlockingIOError):
            listener.accept() if where == "tcp" else listener.recv(8)
        assert outside(code) == "out"


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
def test_who_kills_the_judge_has_not_passed(cell: Cell, whom: str) -> None:
    """Nor who kills its group, or itself."""
    assert cell(attempt(f"os.kill({whom}, 9)")).outcome is Outcome.FAIL


@pytest.mark.parametrize("cell", [Level.NAMESPACES], indirect=True)
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


@pytest.mark.parametrize("level", CLOSED, ids=lambda level: level.value)
def test_without_root_it_closes_as_well(monkeypatch: pytest.MonkeyPatch, level: Level) -> None:
    """By a user namespace where there is one; else the level is an error, and that is said."""
    if os.geteuid() != 0:
        pytest.skip("the other tests say so already")
    start = subprocess.Popen

    def as_nobody(command: list[str], **given: object) -> subprocess.Popen[bytes]:
        return start(command, user=NOBODY, group=NOBODY, extra_groups=[], **given)  # type: ignore[call-overload,no-any-return]

    found = interpreter_for(Level.KERNEL)
    if found is None:
        pytest.skip("no Python here that everybody may read")
    monkeypatch.setattr(execution, "_interpreter", lambda: found)
    monkeypatch.setattr(execution.subprocess, "Popen", as_nobody)  # type: ignore[attr-defined]

    done = execution._run_at(level, ADDS, ADDS_WELL, Limits(), ())

    if level is Level.NAMESPACES and done.outcome is Outcome.ERROR:
        assert "unshare" in done.reason or "mount" in done.reason
    else:
        assert (done.outcome, done.reason) == (Outcome.PASS, "every test came to its end")
