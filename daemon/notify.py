"""Tells systemd how we are (sd_notify), when it asked to be told."""

from __future__ import annotations

import os
import socket


def notify(*states: str) -> None:
    """Sends states such as READY=1 to $NOTIFY_SOCKET; does nothing without one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect(address)
        channel.sendall("\n".join(states).encode())


def watchdog_seconds() -> float | None:
    """How often systemd wants to hear from us; None when it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    if not microseconds or os.environ.get("WATCHDOG_PID") not in (None, str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000
