"""Calls of the kernel that Python 3.11 has no function for."""

from __future__ import annotations

import ctypes
import os
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> int:
    """What a function of libc returns. Raises OSError with its name where it says -1."""
    result = int(getattr(_libc, name)(*arguments))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int, address: int = 0) -> None:
    """Sets one attribute of this process."""
    # ctypes passes an int of Python's as 32 bits; the kernel reads words as long as a pointer.
    words = [ctypes.c_ulong(word) for word in (value, address, 0, 0)]
    call("prctl", option, *words)


def drop_capabilities() -> None:
    """From now on no capability; a user namespace had given all of them."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    call("capset", ctypes.byref(header), ctypes.byref(none))
