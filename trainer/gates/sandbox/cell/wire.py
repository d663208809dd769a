"""Plain data between two processes: a line of JSON each way, in which Python's types are told.

What is read is data again and nothing else. No object of the other side gets through.
"""

from __future__ import annotations

import json
import os
from typing import Any

MOST_BYTES = 1 << 20
"""Of one message."""


class TooLong(Exception):
    """A message is longer than the other side is asked to read."""


def pack(value: Any) -> Any:
    """The value as JSON data. Raises TypeError for what is not plain data."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {"dict": [[pack(key), pack(item)] for key, item in value.items()]}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [pack(item) for item in value]}
    raise TypeError(f"{type(value).__name__} is not plain data")


def unpack(data: Any) -> Any:
    """What `pack` was given. Raises ValueError, TypeError or KeyError for anything else."""
    if not isinstance(data, dict):
        if isinstance(data, list):
            raise TypeError("a list without its kind")
        return data
    ((kind, value),) = data.items()
    if kind == "complex":
        return complex(*value)
    if kind == "bytes":
        return bytes.fromhex(value)
    if kind == "dict":
        return {unpack(key): unpack(item) for key, item in value}
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](
        [unpack(item) for item in value]
    )


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Writes one message."""
    left = memoryview(json.dumps(message).encode() + b"\n")
    while left:
        left = left[os.write(descriptor, left) :]


def receive(descriptor: int) -> dict[str, Any] | None:
    """The next message; None when the other side is gone.

    One message is on its way at a time, so nothing is read beyond its line. Raises TooLong, and
    ValueError or TypeError for what is no JSON object.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        part = os.read(descriptor, 1 << 16)
        if not part:
            return None
        line += part
        if len(line) > MOST_BYTES:
            raise TooLong(f"a message of more than {MOST_BYTES} bytes")
    message = json.loads(line)
    if not isinstance(message, dict):
        raise TypeError("no JSON object")
    return message
