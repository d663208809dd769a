"""Releases come and go while people talk, and processes die: people notice as little as can be."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager

import pytest

from .conftest import House, events, pid_alive, question

CLIENTS = 6


@pytest.fixture
def house(tmp_path):
    """A data folder of the test's own."""
    return House(tmp_path / "data")


class Crowd:
    """Clients that ask the same again and again, every second one as a stream."""

    def __init__(self, home):
        self._home = home
        self._stop = threading.Event()
        self.heard = []
        self.failed = []

    def count(self, model):
        """How many answers this release gave so far."""
        return [m for m, _ in self.heard].count(model)

    @contextmanager
    def talking(self):
        """They talk inside the block."""
        people = [threading.Thread(target=self._ask, args=(n,)) for n in range(CLIENTS)]
        for person in people:
            person.start()
        try:
            yield self
        finally:
            self._stop.set()
            for person in people:
                person.join()

    def _ask(self, number):
        with self._home.client() as client:
            while not self._stop.is_set():
                body = question(stream=number % 2 == 0, user=f"u-{number}", store=False)
                response = client.post("/v1/chat/completions", json=body)
                if response.status_code != 200:
                    self.failed.append(response.text)
                    return
                self.heard.append(_heard(response, body["stream"]))


def _heard(response, stream):
    """(who spoke, what was said); of a stream all pieces are by one."""
    if not stream:
        answer = response.json()
        return answer["model"], answer["choices"][0]["message"]["content"]
    pieces = events(response.text)
    [model] = {piece["model"] for piece in pieces}
    return model, "".join(p["choices"][0]["delta"].get("content", "") for p in pieces)


def _alone(home):
    """What who answers now says when nobody else asks."""
    return _heard(home.ask(store=False), False)


def test_releases_change_while_people_talk(house, answers, eventually):
    """To the next one and back: no request fails, and each answer is whole and by who it says.

    The way back is for what was held ready, so it needs no other process.
    """
    house.promote(1)
    with answers(house) as home:
        words = dict([_alone(home)])
        crowd = Crowd(home)
        with crowd.talking():
            eventually(lambda: crowd.count("release-1") >= CLIENTS, "the first release speaks")
            house.promote(2)
            eventually(lambda: crowd.count("release-2") >= CLIENTS, "the second release speaks")
            process, before = home.process(), crowd.count("release-1")
            house.roll_back()
            eventually(lambda: crowd.count("release-1") >= before + CLIENTS, "the first is back")
            assert home.process() == process
        assert crowd.failed == []
        assert _alone(home) == ("release-1", words["release-1"])
        house.serve(house.publish(2, "release-again"))  # the second's words, by another name
        words["release-2"] = eventually(
            lambda: dict([_alone(home)]).get("release-again"), "the second speaks alone"
        )
        assert words["release-1"] != words["release-2"]
        assert set(crowd.heard) == set(words.items())


def test_the_way_back_loads_nothing(house, answers, eventually):
    """To the former release and on to the base, in the process that is there."""
    house.promote(1)
    house.promote(2)
    with answers(house) as home:
        process = home.process()
        for former in ("release-1", "smollm2-135m"):
            house.roll_back()
            eventually(lambda former=former: _alone(home)[0] == former, f"{former} answers")
            assert home.process() == process


def test_a_share_of_the_people_hears_the_canary(house, answers):
    """By person, each always the same; the base and the canary share a process, and mix nothing:

    what one has read of a question is not gone on from by the other.
    """
    house.serve(house.publish(1), share=0.5)
    with answers(house, BHAVANA_SERVING__SLOTS="1") as home:
        heard = [
            [_heard(home.ask(user=f"p-{n}", store=False), False) for n in range(12)]
            for _ in range(2)
        ]
    assert heard[0] == heard[1]
    assert {model for model, _ in heard[0]} == {"release-1", "smollm2-135m"}
    assert len(set(heard[0])) == 2  # two that answer, and each says one thing


def test_a_process_that_dies_is_told_of_and_started_again(house, answers, eventually):
    """In the middle of a stream, before one, and twice; whoever asks is told when to come back."""
    with answers(house) as home:
        for _ in range(2):
            pid = eventually(home.processes, "it is there")[0]
            body = question("Count to a thousand in words.", stream=True, max_tokens=128)
            with (
                home.client() as client,
                client.stream("POST", "/v1/chat/completions", json=body) as response,
            ):
                lines = (line for line in response.iter_lines() if line)
                next(lines)
                os.kill(pid, signal.SIGKILL)
                rest = list(lines)
            assert "[DONE]" not in rest[-1]
            assert "model_unavailable" in rest[-1]
            refused = home.ask()
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "model_unavailable"
            assert int(refused.headers["retry-after"]) > 0
            eventually(lambda: home.ask().status_code == 200, "somebody answers again")
            assert home.process() != pid
        assert home.daemon.get("/healthz").status_code == 200


def test_a_whole_answer_is_never_half(house, answers, eventually):
    """Where the process dies before the answer is whole, and none was streamed, there is none."""
    with answers(house) as home:
        got = []
        asking = threading.Thread(
            target=lambda: got.append(home.ask("Count to a thousand.", max_tokens=128))
        )
        asking.start()
        eventually(
            lambda: "bhavana_serving_answering 1.0" in home.daemon.get("/metrics").text,
            "it is being answered",
        )
        os.kill(home.process(), signal.SIGKILL)
        asking.join()
        assert got[0].status_code == 503
        assert got[0].json()["error"]["code"] == "model_unavailable"


def test_a_release_that_cannot_be_loaded_leaves_the_former_one_answering(
    house, answers, eventually
):
    """A broken adapter costs nobody an answer; the log says what is wrong."""
    house.promote(1)
    with answers(house) as home:
        broken = house.publish(2)
        (house.parts.archive.adapter(broken.id) / "adapter_model.safetensors").write_bytes(b"no")
        house.serve(broken)
        eventually(lambda: "serving_ended" in home.daemon.log(), "it is tried")
        assert _alone(home)[0] == "release-1"


def test_what_is_kept_for_the_way_back_keeps_nobody_from_answering(house, answers):
    """A broken predecessor is left out."""
    house.promote(1)
    (house.parts.archive.adapter("release-1") / "adapter_model.safetensors").write_bytes(b"no")
    house.promote(2)
    with answers(house) as home:
        assert _alone(home)[0] == "release-2"


def test_a_killed_daemon_leaves_no_process_behind(house, answers, eventually):
    """Nor does one that ends as it should, nor one that is told to answer nobody any more."""
    with answers(house) as home:
        pid = home.process()
        home.daemon.process.kill()
        home.daemon.process.wait()
        eventually(lambda: not pid_alive(pid), "the orphan ends")
    with answers(house) as home:
        pid = home.process()
    assert not pid_alive(pid)
    assert not list((house.data / "serving").iterdir())


def test_settings_that_are_read_again_count(house, answers, eventually, tmp_path):
    """More slots need another process; nobody is left without an answer meanwhile."""
    config = tmp_path / "bhavana.toml"
    config.write_text("[serving]\nslots = 2\n")
    with answers(house, BHAVANA_CONFIG=str(config)) as home:
        pid = home.process()
        config.write_text("[serving]\nslots = 3\n")
        home.daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: home.processes() not in ([pid], []), "another one is started")
        while home.processes() != [pid] and pid in home.processes():
            assert home.ask().status_code == 200
        assert home.ask().status_code == 200


def test_where_nobody_is_to_be_answered_it_says_so(house, serving):
    """Off by default; the route exists and tells what to do."""
    secret = house.key("chat")
    with serving(house.data) as daemon:
        answer = daemon.post("/v1/chat/completions", secret, question())
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "serving_disabled"


def test_another_line_is_another_model(house, answers, tmp_path):
    """Each line has its own release in service."""
    config = tmp_path / "bhavana.toml"
    config.write_text("[lines.math]\n")
    house.serve(house.publish(2, line="math"))
    with answers(house, BHAVANA_CONFIG=str(config)) as home:
        with home.client() as client:
            listed = [one["id"] for one in client.get("/v1/models").json()["data"]]
        assert listed == ["bhavana", "math"]
        assert home.ask(model="math").json()["model"] == "release-2"
        assert home.ask(model="bhavana").json()["model"] == "smollm2-135m"
