"""A switch while people talk: nobody is refused, and no answer is of two releases."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import httpx

from tests.ollama_stand_in.server import StandIn
from trainer.targets.ollama.target import OllamaTarget
from trainer.targets.target import Delivery, Traffic

MakeTarget = Callable[..., OllamaTarget]

CLIENTS = 8
ASKED = {
    "model": "bhavana:latest",
    "messages": [{"role": "user", "content": "Say something long."}],
    "options": {"temperature": 0, "num_predict": 24},
    "stream": False,
}


def answer(client: httpx.Client, model: str = "bhavana:latest") -> str:
    """What the model says, greedily. Raises for any refusal."""
    response = client.post("/api/chat", json=ASKED | {"model": model})
    response.raise_for_status()
    said: str = response.json()["message"]["content"]
    return said


class Heard(NamedTuple):
    """An answer, and when it was asked for and had."""

    began: float
    ended: float
    said: str


def test_a_switch_under_load_refuses_nobody_and_mixes_no_answer(
    target: OllamaTarget, stand_in: StandIn, first: Delivery, second: Delivery
) -> None:
    """Eight people ask without a pause while the name goes to the second release and back.

    Every answer is wholly one release's; what is asked after a switch returned, that one's.
    """
    target.publish(first)
    target.publish(second)
    target.activate(Traffic(release="release-1"))
    with httpx.Client(base_url=stand_in.url, timeout=120) as client:
        old, new = answer(client, "bhavana:release-1"), answer(client, "bhavana:release-2")
    assert old != new

    heard: list[Heard] = []
    refused: list[Exception] = []
    over = threading.Event()
    ended = threading.Semaphore(0)

    def ask() -> None:
        with httpx.Client(base_url=stand_in.url, timeout=120) as client:
            while not over.is_set():
                began = time.monotonic()
                try:
                    said = answer(client)
                    heard.append(Heard(began, time.monotonic(), said))
                except Exception as error:  # noqa: BLE001  # each is looked at below
                    refused.append(error)
                ended.release()

    def talk() -> tuple[float, float]:
        """From when to when: so many answers end that somebody must have asked meanwhile."""
        begin = time.monotonic()
        while ended.acquire(blocking=False):
            pass  # it ended earlier
        for _ in range(2 * CLIENTS):
            assert ended.acquire(timeout=120)
        return begin, time.monotonic()

    people = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for person in people:
        person.start()
    try:
        before = talk()
        target.activate(Traffic(release="release-2"))
        after = talk()
        target.restore("release-1")
        back = talk()
    finally:
        over.set()
        for person in people:
            person.join()

    assert refused == []
    assert {h.said for h in heard} == {old, new}
    for (begin, end), whose in ((before, old), (after, new), (back, old)):
        asked = [h.said for h in heard if begin <= h.began and h.ended <= end]
        assert set(asked) == {whose}


def test_answers_that_are_begun_end_as_they_began(
    target: OllamaTarget, stand_in: StandIn, first: Delivery, second: Delivery
) -> None:
    """The server keeps the old release until its last answer ended."""
    target.publish(first)
    target.publish(second)
    target.activate(Traffic(release="release-1"))
    model = stand_in.library.model("bhavana:latest")
    with stand_in.runners.using(model, 4096, 60) as runner:
        switching = threading.Thread(target=target.activate, args=(Traffic(release="release-2"),))
        switching.start()
        while target.active() != Traffic(release="release-2"):
            pass
        assert runner.complete("Hello", {"repeat_penalty": 1.0, "num_predict": 2}, 0)["text"]
        assert stand_in.runners.loads[-1] != "bhavana:release-2"
        assert switching.is_alive()
    switching.join()
    assert len(stand_in.runners.loads) == 2
