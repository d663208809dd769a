"""A scoring worker that stands by: for words that are judged before they are dropped.

Where nothing that people wrote may be stored, the daemon asks here while it still has it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Self

from scorers.assess import Worker, batch_of, ended_when, worker
from scorers.settings import PanelSettings
from store.errors import Halted, Unavailable
from store.records import Assessment, Experience


class StandingWorker:
    """Starts at the first question, and again after it failed. Safe to call from any thread."""

    def __init__(
        self,
        settings: Callable[[], PanelSettings],
        *,
        vouch: Callable[[threading.Event], object] = lambda _: None,
        command: Sequence[str] | None = None,
    ) -> None:
        """`settings` is asked each time: another panel is another worker.

        `vouch` is called before a worker starts, and raises when its panel is not to be trusted.
        """
        self._vouch = vouch
        self._settings = settings
        self._command = command
        self._panel: PanelSettings | None = None
        self._child: Worker | None = None
        self._ending = ExitStack()
        self._one_at_a_time = threading.Lock()
        self._stop = threading.Event()

    def assess(self, some: Sequence[Experience]) -> list[Assessment]:
        """One assessment per experience, in order.

        Raises Unavailable when the worker fails, or the panel is not to be trusted.
        """
        with self._one_at_a_time:
            if self._stop.is_set():
                raise Unavailable("The daemon is stopping.")
            try:
                panel = self._settings()
                child, size = self._open(panel), batch_of(panel)
                with ended_when(child, self._stop):
                    # No more at once than it reads before it answers: the pipe would fill.
                    return [
                        assessment
                        for start in range(0, len(some), size)
                        for assessment in child.assess(some[start : start + size])
                    ]
            except (Halted, Unavailable) as error:
                self._end()
                raise Unavailable(
                    f"Words that may not be stored could not be assessed: {error}",
                    hint="Send again in a moment; nothing was kept.",
                ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker, also one that is at work. Safe to repeat."""
        self._stop.set()
        with self._one_at_a_time:
            self._end()

    def _open(self, panel: PanelSettings) -> Worker:
        if self._child is None or panel != self._panel:
            self._end()
            self._vouch(self._stop)
            self._child = self._ending.enter_context(worker(panel, self._command))
            self._panel = panel
        return self._child

    def _end(self) -> None:
        self._child = None
        self._ending.close()
