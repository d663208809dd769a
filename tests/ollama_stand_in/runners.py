"""Models in the stand-in's memory: llama.cpp through xllamacpp, one runner for each base file.

A request for the same base with other adapters waits until the answers of the runner that is
there have ended; then that one goes and another is loaded. So two releases on one base are never
in memory together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import xllamacpp

from tests.ollama_stand_in.library import ApiError, Model

CONTEXT = 4096
FOREVER = float("inf")


class Runner:
    """A loaded model."""

    def __init__(self, model: Model, context: int, scale: float) -> None:
        """Raises a 500 in the words of a failed load."""
        self.name, self.digest, self.base = model.name, model.digest, model.base
        self.adapters, self.context = model.adapters, context
        self.references, self.until = 0, FOREVER
        params = xllamacpp.CommonParams()
        params.model.path = str(model.base)
        params.lora_adapters = [_adapter(str(path), scale) for path in model.adapters]
        params.n_ctx = context
        params.n_parallel = 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.warmup = False
        params.verbosity = -1
        params.hostnames, params.port = ["127.0.0.1"], 0
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ApiError(500, f"llama runner process has terminated: {error}") from error

    def complete(self, prompt: str, options: dict[str, Any], top: int) -> dict[str, Any]:
        """The first choice of llama.cpp's own answer."""
        document = {
            "prompt": prompt,
            "temperature": options.get("temperature", 0.8),
            "seed": options.get("seed", 0),
            "max_tokens": options.get("num_predict", 128),
            "repeat_penalty": options["repeat_penalty"],
            "stop": options.get("stop", []),
            "n_probs": top,
        }
        answer = self._server.handle_completions(document)
        if "choices" not in answer:
            raise ApiError(500, str(answer.get("error", answer)))
        choice: dict[str, Any] = answer["choices"][0]
        return choice


class Runners:
    """What is in memory. Requests get their runners one after the other."""

    def __init__(self, *, most_waiting: int = 512) -> None:
        self.most_waiting = most_waiting
        self.scale = 1.0
        """Of every adapter: 1 as it should be; something else is a fault that a test plants."""
        self.loads: list[str] = []
        """The models that were loaded, in order."""
        self._loaded: dict[str, Runner] = {}
        self._turn = threading.Lock()
        self._freed = threading.Condition()
        self._waiting = 0

    @contextmanager
    def using(self, model: Model, context: int, keep_alive: float) -> Iterator[Runner]:
        """A runner of exactly this base and these adapters, which stays until the block ends."""
        with self._freed:
            if self._waiting >= self.most_waiting:
                raise ApiError(
                    503, "server busy, please try again.  maximum pending requests exceeded"
                )
            self._waiting += 1
        try:
            with self._turn:
                runner = self._fitting(model, context)
                with self._freed:
                    runner.references += 1
        finally:
            with self._freed:
                self._waiting -= 1
        try:
            yield runner
        finally:
            with self._freed:
                runner.references -= 1
                runner.until = time.monotonic() + keep_alive
                self._freed.notify_all()

    def _fitting(self, model: Model, context: int) -> Runner:
        key = str(model.base)
        runner = self._loaded.get(key)
        if runner is not None and (runner.adapters, runner.context) != (model.adapters, context):
            self._unload(key)
            runner = None
        if runner is None:
            self.loads.append(model.name)
            runner = self._loaded[key] = Runner(model, context, self.scale)
        return runner

    def _unload(self, key: str) -> None:
        runner = self._loaded[key]
        with self._freed:
            self._freed.wait_for(lambda: runner.references == 0)
        del self._loaded[key]

    def loaded(self) -> list[Runner]:
        """What is in memory and not out of time."""
        with self._turn:
            for key, runner in list(self._loaded.items()):
                if not runner.references and runner.until < time.monotonic():
                    self._unload(key)
            return list(self._loaded.values())

    def clear(self) -> None:
        """Frees all memory, when no answer is under way any more."""
        with self._turn:
            for key in list(self._loaded):
                self._unload(key)


def seconds(keep_alive: Any) -> float:
    """How long `keep_alive` means; below zero is for ever."""
    if isinstance(keep_alive, str):
        units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
        unit = next((u for u in units if keep_alive.endswith(u)), "")
        try:
            number = float(keep_alive.removesuffix(unit)) * units.get(unit, 1.0)
        except ValueError:
            raise ApiError(400, f'time: invalid duration "{keep_alive}"') from None
    else:
        number = float(keep_alive)
    return FOREVER if number < 0 else number


def _adapter(path: str, scale: float) -> Any:
    adapter = xllamacpp.CommonAdapterLoraInfo(path)
    adapter.scale = scale
    return adapter
