"""Code that wants out of its cell, to files and to the network.

Each attempt returns "out" where it worked. It is also made outside of any cell, where that does no
harm, and must work there: so what stops it is the cell.
"""

from __future__ import annotations

import os
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.records import Outcome
from tests.trainer.cells import Cell, at, attempt, cell, closed, every, outside
from trainer.gates.sandbox.execution import Level

__all__ = ["cell"]  # a fixture
ROOT = Path(__file__).resolve().parents[2]


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


@at(Level.NAMESPACES)
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
