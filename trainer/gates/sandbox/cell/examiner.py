"""The process that runs the tests. The code under test is not in it: it is asked, by name.

Whether the code is right is decided here on data that was read from a pipe, so that an object that
equals everything, a patched builtin or an early exit on the other side decides nothing. Only this
process knows the nonce, and gives it back after the last test.
"""

from __future__ import annotations

import ast
import builtins
import os
import signal
from typing import Any

from .wire import TooLong, pack, receive, send, unpack

MOST_WORDS = 300
NOT_RAISED_AGAIN = (StopIteration, StopAsyncIteration)
"""Would end a loop of the tests as if all were done: `all(map(f, cases))` would hold."""


class Stopped(BaseException):
    """The run is over, whatever the tests catch."""


class Failed(Stopped):
    """Through the code under test: it ended its process, or its time is up."""


class Unsuited(Stopped):
    """Through the tests: they ask for what cannot be asked here."""


class Raised(Exception):
    """The code raised an exception that is not Python's own."""


class Asked:
    """A function of the code under test, from here: it takes and gives plain data."""

    def __init__(self, name: str, link: Link) -> None:
        self._name = name
        self._link = link

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What the function returns, or an exception of the name of that which it raises."""
        try:
            packed = [pack(argument) for argument in arguments]
            named = {name: pack(argument) for name, argument in named.items()}
        except TypeError as error:
            raise self._link.stop(Unsuited(f"{self._name} is given more than data")) from error
        return self._link.ask({"call": self._name, "arguments": packed, "named": named})

    def __getattr__(self, name: str) -> Any:
        """Nothing but calls crosses over."""
        raise self._link.stop(Unsuited(f"{self._name}.{name} is not a call of a function"))


class Link:
    """The line to the process of the code under test."""

    def __init__(self, orders: int, answers: int, inmate: int) -> None:
        self._orders = orders
        self._answers = answers
        self._inmate = inmate
        self.stopped: Stopped | None = None

    def ask(self, order: dict[str, Any]) -> Any:
        """The answer to one order, as plain data."""
        if self.stopped is not None:
            raise self.stopped
        try:
            send(self._orders, order)
            answer = receive(self._answers)
            if answer is not None and "raised" not in answer:
                return unpack(answer["value"])
        except BrokenPipeError:
            answer = None
        except (TooLong, ValueError, TypeError, KeyError, RecursionError) as error:
            raise self.stop(Failed("the answer cannot be read")) from error
        if answer is None:
            raise self.stop(Failed("the code ended its process"))
        raise _exception(str(answer["raised"]), str(answer.get("words", ""))[:MOST_WORDS])

    def stop(self, why: Stopped) -> Stopped:
        """Ends the code under test, for the first reason that is given; returns that."""
        if self.stopped is None:
            self.stopped = why
            os.kill(self._inmate, signal.SIGKILL)
        return self.stopped


def examine(order: dict[str, Any], link: Link, seconds: float) -> dict[str, str]:
    """The nonce under "passed", or a reason under "failed" (the code) or "unsuited" (the tests)."""

    def time_is_up(*_: object) -> None:
        raise link.stop(Failed(f"not done after {seconds:g} s"))

    signal.signal(signal.SIGALRM, time_is_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        _test(order, link)
    except Unsuited as why:
        return {"unsuited": str(why)}
    except Failed as why:
        return {"failed": str(why)}
    except BaseException as error:  # noqa: BLE001  # whatever the tests raise, they did not pass
        if link.stopped is None:
            return {"failed": _told(error, order["tests"])}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if link.stopped is not None:  # the tests caught it
        kind = "unsuited" if isinstance(link.stopped, Unsuited) else "failed"
        return {kind: str(link.stopped)}
    return {"passed": order["nonce"]}


def _test(order: dict[str, Any], link: Link) -> None:
    try:
        tree = ast.parse(order["tests"])
        program = compile(tree, "tests", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise link.stop(Unsuited(f"the tests are no Python: {error}")) from error
    try:
        link.ask({"load": order["code"]})
    except Exception as error:
        raise link.stop(Failed(f"the code does not load: {_words(error)}")) from error
    asked = {name: Asked(name, link) for name in order["calls"] or _unbound(tree)}
    exec(program, {"__name__": "tests", **asked})  # noqa: S102  # our tests, in a cell as well


def _unbound(tree: ast.Module) -> set[str]:
    """The names that the tests use and neither bind nor find in Python."""
    used: set[str] = set()
    bound = set(dir(builtins)) | {"__name__"}
    for node in ast.walk(tree):
        match node:
            case ast.Name(name, ast.Load()):
                used.add(name)
            case ast.Name(name) | ast.arg(name) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                bound.add(name)
            case ast.alias(name, alias):
                bound.add(alias or name.partition(".")[0])
    return used - bound


def _exception(name: str, words: str) -> Exception:
    kind = getattr(builtins, name, None)
    if (
        isinstance(kind, type)
        and issubclass(kind, Exception)
        and not issubclass(kind, NOT_RAISED_AGAIN)
    ):
        try:
            return kind(words)
        except TypeError:  # UnicodeDecodeError and its like take more than words
            pass
    return Raised(f"{name}: {words}")


def _told(error: BaseException, tests: str) -> str:
    """The exception with the line of the tests in which it arose."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "tests":
            line = trace.tb_lineno
        trace = trace.tb_next
    where = tests.splitlines()[line - 1].strip() if line else ""
    told = f"{_words(error)} at line {line}: {where}" if line else _words(error)
    return told[:MOST_WORDS]


def _words(error: BaseException) -> str:
    words = str(error)
    if isinstance(error, Raised):  # which names the exception itself
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
