"""The seccomp filter, instruction by instruction: for the machine that is not here, too."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from trainer.gates.sandbox.cell.seccomp import (
    ALLOW,
    ARCHITECTURES,
    JUMP_EQUAL,
    KILL_PROCESS,
    LOAD,
    NO_SUCH_CALL,
    RETURN,
    TABLES,
    _only,
    _program,
)

HEADERS = {
    "x86_64": ("x86_64-linux-gnu/asm/unistd_64.h", "asm/unistd_64.h"),
    "aarch64": ("asm-generic/unistd.h",),
}
machines = pytest.mark.parametrize("machine", TABLES)


def decided(program: list[bytes], call: bytes) -> int:
    """What the kernel does about a call (struct seccomp_data) by this program."""
    at, loaded = 0, 0
    while True:
        code, if_so, if_not, value = struct.unpack("=HBBI", program[at])
        if code == RETURN:
            return int(value)
        if code == LOAD:
            (loaded,) = struct.unpack_from("=I", call, value)
            at += 1
        else:
            assert code == JUMP_EQUAL
            at += 1 + (if_so if loaded == value else if_not)


def asked(number: int, architecture: int, *arguments: int) -> bytes:
    """A call as the filter sees it."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    return struct.pack("=IIQ6Q", number, architecture, 0, *padded)


@machines
def test_what_is_listed_is_allowed_and_nothing_else(machine: str) -> None:
    """Each number up to 1000 and x32's, with an argument that no rule names."""
    architecture, table = ARCHITECTURES[machine], TABLES[machine]
    program = list(_program(architecture, table, _only(7)))
    bound = {table[name] for name in _only(7)}

    for number in (*range(1000), *range(0x40000000, 0x40000000 + 600)):
        allowed = number in set(table.values()) - bound
        call = asked(number, architecture, 999, 999)
        assert decided(program, call) == (ALLOW if allowed else NO_SUCH_CALL), number
    other = next(value for name, value in ARCHITECTURES.items() if name != machine)
    assert decided(program, asked(table["read"], other)) == KILL_PROCESS


@machines
def test_arguments_are_held(machine: str) -> None:
    """Whom to signal, whose limits, which acts on a descriptor."""
    architecture, table = ARCHITECTURES[machine], TABLES[machine]
    program = list(_program(architecture, table, _only(7)))
    f_setown, tiocsti = 8, 0x5412

    def allows(name: str, *arguments: int) -> bool:
        return decided(program, asked(table[name], architecture, *arguments)) == ALLOW

    assert allows("kill", 7, 9)
    assert not allows("kill", 8, 9)
    assert not allows("kill", (1 << 64) - 1, 9)
    assert allows("fcntl", 3, 1)
    assert not allows("fcntl", 3, f_setown)
    assert not allows("ioctl", 0, tiocsti)
    assert allows("prlimit64", 0, 7)
    assert not allows("prlimit64", 1, 7)


@machines
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    """A wrong one would allow another call than is meant."""
    found = [path for h in HEADERS[machine] if (path := Path("/usr/include", h)).is_file()]
    if not found:
        pytest.skip("the kernel's headers are not installed")
    lines = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", found[0].read_text(), re.MULTILINE)
    numbers = {name: int(number) for name, number in lines}
    numbers.setdefault("newfstatat", numbers.get("fstatat", -1))  # its name in the generic table

    assert {name: numbers.get(name) for name in TABLES[machine]} == TABLES[machine]
