"""Seccomp: the system calls that a computation needs; every other one does not exist.

A list of what is allowed, not of what is forbidden: a new call of a new kernel is then forbidden.
The filter is classic BPF (linux/filter.h, linux/seccomp.h), written out for two architectures.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator, Mapping

from .kernel import prctl

PR_SET_SECCOMP = 22
MODE_FILTER = 2
ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
NO_SUCH_CALL = 0x00050000 | errno.ENOSYS  # the C library then falls back to an older call
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
TABLES: dict[str, dict[str, int]] = {
    "x86_64": {
        "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7,
        "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13,
        "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "readv": 19,
        "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28,
        "dup": 32, "dup2": 33, "nanosleep": 35, "getitimer": 36, "alarm": 37, "setitimer": 38,
        "getpid": 39, "exit": 60, "wait4": 61, "kill": 62, "uname": 63, "fcntl": 72, "getcwd": 79,
        "readlink": 89, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99,
        "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110,
        "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204,
        "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219, "clock_gettime": 228,
        "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "tgkill": 234,
        "openat": 257, "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "pselect6": 270,
        "ppoll": 271, "set_robust_list": 273, "dup3": 292, "prlimit64": 302, "getrandom": 318,
        "statx": 332, "rseq": 334, "faccessat2": 439,
    },
    "aarch64": {
        "getcwd": 17, "dup": 23, "dup3": 24, "fcntl": 25, "ioctl": 29, "faccessat": 48,
        "openat": 56, "close": 57, "getdents64": 61, "lseek": 62, "read": 63, "write": 64,
        "readv": 65, "writev": 66, "pread64": 67, "pselect6": 72, "ppoll": 73, "readlinkat": 78,
        "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94, "set_tid_address": 96,
        "futex": 98, "set_robust_list": 99, "nanosleep": 101, "getitimer": 102, "setitimer": 103,
        "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "sched_getaffinity": 123,
        "sched_yield": 124, "restart_syscall": 128, "kill": 129, "tgkill": 131, "sigaltstack": 132,
        "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "uname": 160,
        "getrlimit": 163, "getrusage": 165, "gettimeofday": 169, "getpid": 172, "getppid": 173,
        "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "gettid": 178, "sysinfo": 179,
        "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233,
        "wait4": 260, "prlimit64": 261, "getrandom": 278, "statx": 291, "rseq": 293,
        "faccessat2": 439,
    },
}  # fmt: skip
"""What is allowed, by its number. No socket, no process or thread, no exec, nothing that writes a
name into a folder, no trace; kill and wait4 only for the examiner."""
THE_EXAMINERS = frozenset({"kill", "wait4"})


def confine(child: int | None = None) -> None:
    """From now on this process makes these calls only, and may end this one child.

    Raises OSError where it cannot be held.
    """
    machine = os.uname().machine
    if machine not in TABLES:
        raise OSError(errno.ENOSYS, f"seccomp: no table of calls for {machine}")
    allowed = {n: at for n, at in TABLES[machine].items() if child or n not in THE_EXAMINERS}
    code = b"".join(_program(ARCHITECTURES[machine], allowed, _only(child)))
    instructions = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions))
    held = ctypes.create_string_buffer(program, len(program))
    prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.addressof(held))


def _only(child: int | None) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Calls that are allowed with these values of one argument: which argument, which values."""
    return {
        # Descriptors only. F_SETOWN would have the kernel send signals to others.
        "fcntl": (1, (0, 1, 2, 3, 4, 1030)),
        "ioctl": (1, (0x5401, 0x5450, 0x5451)),  # is this a terminal, inherit or not
        "prlimit64": (0, (0,)),  # its own limits
        "kill": (0, (child or 0,)),
        "tgkill": (0, (os.getpid(),)),  # its own threads: raise and abort
    }


def _program(
    architecture: int, allowed: Mapping[str, int], only: Mapping[str, tuple[int, tuple[int, ...]]]
) -> Iterator[bytes]:
    """The filter's instructions. Arguments are compared by their lower half: all are ints."""
    yield _instruction(LOAD, ARCHITECTURE_AT)
    yield _instruction(JUMP_EQUAL, architecture, 1, 0)
    yield _instruction(RETURN, KILL_PROCESS)
    yield _instruction(LOAD, NUMBER_AT)
    for name, number in allowed.items():
        argument, values = only.get(name, (0, ()))
        if not values:
            yield _instruction(JUMP_EQUAL, number, 0, 1)
            yield _instruction(RETURN, ALLOW)
            continue
        yield _instruction(JUMP_EQUAL, number, 0, 2 + 2 * len(values))
        yield _instruction(LOAD, ARGUMENTS_AT + 8 * argument)
        for value in values:
            yield _instruction(JUMP_EQUAL, value, 0, 1)
            yield _instruction(RETURN, ALLOW)
        yield _instruction(RETURN, NO_SUCH_CALL)
    yield _instruction(RETURN, NO_SUCH_CALL)


def _instruction(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_so, if_not, value)
