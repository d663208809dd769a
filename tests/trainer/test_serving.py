"""The process that answers people, by itself: real llama.cpp over the embedded base."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.drawn import draw_adapter
from trainer.adapter import adapter_hash
from trainer.base import locate
from trainer.serving import Held, ServeJob, Server

pytest.importorskip("xllamacpp")

PATIENCE_SECONDS = 120


@pytest.fixture
def server(tmp_path):
    """A process with two releases and one slot, which answers."""
    base = locate("smollm2-135m")
    folders = {f"release-{n}": draw_adapter(tmp_path / f"drawn-{n}", n, base) for n in (1, 2)}
    held = tuple(
        Held(release=name, adapter=str(folder), adapter_hash=adapter_hash(folder))
        for name, folder in folders.items()
    )
    job = ServeJob(
        base=base, model=base.location, adapters=held, cache=str(tmp_path / "cache"), slots=1,
        context=256, threads=1, gpu_layers=-1,
    )  # fmt: skip
    started = Server(tmp_path / "server", job)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while started.state() == "loading" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert started.state() == "ready", started.last_words()
    yield started
    started.end()
    assert started.state() == "ended"


def _thought(server, release):
    """How likely the first word of an answer was, to all digits."""
    body = {
        "messages": [{"role": "user", "content": "Tell me of the sea."}], "max_tokens": 1,
        "temperature": 0, "logprobs": True, "lora": server.scales(release),
    }  # fmt: skip
    with httpx.Client(transport=httpx.HTTPTransport(uds=server.socket), timeout=120) as client:
        answer = client.post("http://server/v1/chat/completions", json=body).json()
    [token] = answer["choices"][0]["logprobs"]["content"]
    return token["logprob"]


def test_nobody_goes_on_from_what_another_has_read(server):
    """In one slot, the same question by turns: each thinks the same whoever was asked before."""
    voices = (None, "release-1", "release-2")
    fresh = {voice: _thought(server, voice) for voice in voices}
    assert len(set(fresh.values())) == 3
    for first in voices:
        for second in voices:
            _thought(server, first)
            assert _thought(server, second) == pytest.approx(fresh[second], abs=1e-4)


def test_it_holds_what_it_was_given_and_the_base(server):
    """And covers what asks for less, not what asks for more or otherwise."""
    job = server.job
    assert [server.holds(r) for r in (None, "release-1", "release-3")] == [True, True, False]
    less = ServeJob(**{n: getattr(job, n) for n in job.__struct_fields__} | {"adapters": ()})
    other = ServeJob(**{n: getattr(job, n) for n in job.__struct_fields__} | {"slots": 2})
    assert job.covers(less)
    assert not less.covers(job)
    assert not job.covers(other)
