"""The process that runs the code under test. It knows neither the tests nor what they expect.

It answers calls by name with plain data. Whatever the code does to this process, it can only send
other answers, and those are compared elsewhere.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from .wire import pack, receive, send, unpack

NAME = "solution"
MOST_WORDS = 200


def serve(orders: int, answers: int) -> None:
    """Answers one order after the other until nobody asks any more."""
    module = ModuleType(NAME)
    sys.modules[NAME] = module  # dataclasses look their module up
    while (order := receive(orders)) is not None:
        try:
            answer = _follow(module, order)
        except BaseException as error:  # noqa: BLE001  # SystemExit is an answer, too
            answer = {"raised": type(error).__name__, "words": str(error)[:MOST_WORDS]}
        send(answers, answer)


def _follow(module: ModuleType, order: dict[str, Any]) -> dict[str, Any]:
    if "load" in order:
        program = compile(order["load"], NAME, "exec", dont_inherit=True)
        exec(program, module.__dict__)  # noqa: S102  # this is what the cell is for
        return {"value": None}
    function = getattr(module, order["call"])
    arguments = [unpack(argument) for argument in order["arguments"]]
    named = {name: unpack(argument) for name, argument in order["named"].items()}
    return {"value": pack(function(*arguments, **named))}
