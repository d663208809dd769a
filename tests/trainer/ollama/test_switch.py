"""A switch while people talk: nobody is refused, and no answer is of two releases."""

from __future__ import annotations

import threading
from collections.abc import Callable

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


def test_a_switch_under_load_refuses_nobody_and_mixes_no_answer(
    target: OllamaTarget, stand_in: StandIn, first: Delivery, second: Delivery
) -> None:
    """Eight people ask without a pause while the name goes to the second release and back.

    Every answer is wholly one release's.
    """
    target.publish(first)
    target.publish(second)
    target.activate(Traffic(release="release-1"))
    with httpx.Client(base_url=stand_in.url, timeout=120) as client:
        old, new = answer(client, "bhavana:release-1"), answer(client, "bhavana:release-2")
    assert old != new

    said: list[str] = []
    refused: list[Exception] = []
    over = threading.Event()
    heard = threading.Semaphore(0)

    def ask() -> None:
        with httpx.Client(base_url=stand_in.url, timeout=120) as client:
            while not over.is_set():
                try:
                    said.append(answer(client))
                except Exception as error:  # noqa: BLE001  # each is looked at below
                    refused.append(error)
                heard.release()

    def hear(answers: int) -> None:
        for _ in range(answers):
            assert heard.acquire(timeout=120)

    people = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for person in people:
        person.start()
    try:
        hear(2 * CLIENTS)
        target.activate(Traffic(release="release-2"))
        hear(2 * CLIENTS)
        begun = len(said)
        target.restore("release-1")
        hear(2 * CLIENTS)
    finally:
        over.set()
        for person in people:
            person.join()

    assert refused == []
    assert set(said) == {old, new}
    assert said[0] == old
    assert new in said[: begun + 1]
    with httpx.Client(base_url=stand_in.url, timeout=120) as client:
        assert answer(client) == old


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
