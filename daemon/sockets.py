"""The sockets that the daemon listens on: inherited from whoever started it, or its own.

An inherited one (sd_listen_fds(3), bhavana.socket) outlives the process. Who connects between
two runs waits in the kernel's queue and is served by the next: no restart refuses anybody.
"""

from __future__ import annotations

import os
import socket

from store.errors import Misconfigured

FIRST_DESCRIPTOR = 3
BACKLOG = 2048
"""How many may wait to be accepted; the kernel's own bound (somaxconn) may be lower."""


def inherited() -> list[socket.socket]:
    """The listening sockets handed over to this very process; none if none were.

    No child of ours sees them: they are closed on exec, and the variables that tell of them are
    taken out of the environment. Raises Misconfigured when one is no listening stream socket.
    """
    names = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    pid, count, _ = (os.environ.pop(name, "") for name in names)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    return [_taken_over(descriptor) for descriptor in descriptors]


def _taken_over(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        listener = socket.socket(fileno=descriptor)
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise Misconfigured(f"Inherited descriptor {descriptor}: {error.strerror}.") from error
    if not listens or listener.type != socket.SOCK_STREAM:
        raise Misconfigured(
            f"Inherited descriptor {descriptor} is no listening stream socket.",
            hint="bhavana.socket needs ListenStream= and Accept=no.",
        )
    return listener


def bind(host: str, port: int) -> socket.socket:
    """A listening socket of our own. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def url_of(listener: socket.socket) -> str:
    """Where people find it: http://host:port, or unix:/path."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
