"""Each fault of a server has its own clear error, and the old release serves on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from store.errors import (
    BhavanaError,
    DoesNotFit,
    Misconfigured,
    ProbeFailed,
    Rejected,
    Unavailable,
)
from tests.ollama_stand_in.server import StandIn
from tests.tiny_releases import Foretold, adapter, delivery
from trainer.base import Base
from trainer.targets.ollama.target import OllamaTarget
from trainer.targets.target import Delivery, Traffic

MakeTarget = Callable[..., OllamaTarget]


class Fault(NamedTuple):
    """What goes wrong at which request, what is raised, and some of its words."""

    kind: str
    path: str
    error: type[BhavanaError]
    words: str


PUBLISHING = (
    Fault("failing", "/api/create", Unavailable, "HTTP 500|failed at .*told to fail"),
    Fault("busy", "/api/create", Unavailable, "busy"),
    Fault("mid-stream", "/api/create", Rejected, "told to fail in the middle"),
    Fault("truncated", "/api/create", Unavailable, "broke"),
    Fault("no success", "/api/create", Unavailable, "without success.*last word"),
    Fault("reset", "/api/create", Unavailable, "broke the connection off"),
    Fault("slow", "/api/create", Unavailable, r"silent for 0\.3 s"),
    Fault("a stranger", "/api/tags", Unavailable, "no document of Ollama's.*sign in"),
    Fault("failing", "/api/blobs", Unavailable, "failed at /api/blobs.*HTTP 500"),
    Fault("reset", "/api/blobs", Unavailable, "broke the connection off"),
)
SWITCHING = (
    Fault("failing", "/api/copy", Unavailable, "told to fail"),
    Fault("busy", "/api/copy", Unavailable, "busy"),
    Fault("reset", "/api/tags", Unavailable, "broke the connection off"),
    Fault("slow", "/api/copy", Unavailable, r"silent for 0\.3 s"),
)


def _named(fault: Fault) -> str:
    return f"{fault.kind} at {fault.path}"


@pytest.fixture
def serving(make: MakeTarget, stand_in: StandIn, first: Delivery) -> Iterator[OllamaTarget]:
    """An impatient target whose first release serves; it still does when the test is over."""
    target = make(answer_seconds=0.3, retries=1)
    patient = make()
    patient.publish(first)
    patient.activate(Traffic(release="release-1"))
    stand_in.slow_seconds = 1.0
    yield target
    stand_in.fault = lambda *_: None
    assert patient.active() == Traffic(release="release-1")
    assert len(stand_in.library.model("bhavana:latest").adapters) == 1


def plant(stand_in: StandIn, fault: Fault) -> None:
    """Has it go wrong from now on."""
    stand_in.fault = lambda _m, path, _d: fault.kind if path.startswith(fault.path) else None


@pytest.mark.parametrize("fault", PUBLISHING, ids=_named)
def test_a_fault_while_publishing(
    serving: OllamaTarget, stand_in: StandIn, second: Delivery, fault: Fault
) -> None:
    """The error says which server, what it said and what next; nothing half-made is left."""
    plant(stand_in, fault)
    with pytest.raises(fault.error, match=f"(?s)Ollama at http.*({fault.words})") as raised:
        serving.publish(second)

    assert type(raised.value) is fault.error
    assert raised.value.hint
    assert "bhavana:release-2" not in [tag["name"] for tag in stand_in.library.tags()]


@pytest.mark.parametrize("fault", SWITCHING, ids=_named)
def test_a_fault_while_switching(
    serving: OllamaTarget, stand_in: StandIn, second: Delivery, make: MakeTarget, fault: Fault
) -> None:
    """The name is not touched."""
    make().publish(second)
    plant(stand_in, fault)
    with pytest.raises(fault.error, match=f"(?s)Ollama at http.*({fault.words})"):
        serving.activate(Traffic(release="release-2"))


def test_nobody_there(serving: OllamaTarget, make: MakeTarget, stand_in: StandIn) -> None:
    """A server that is down."""
    target = make(url="http://127.0.0.1:9", retries=1)
    with pytest.raises(Unavailable, match=r"cannot be reached \(ConnectError\).*Is it running"):
        target.active()


def test_comes_through_when_the_server_recovers(
    make: MakeTarget, stand_in: StandIn, first: Delivery
) -> None:
    """What can be repeated is; what was sent halfway is sent from its beginning."""
    seen: list[str] = []

    def once_each(method: str, path: str, _document: Any) -> str | None:
        kind = f"{method} {path[:10]}"
        seen.append(kind)
        return "reset" if seen.count(kind) == 1 and path != "/api/create" else None

    stand_in.fault = once_each
    make().publish(first)

    assert len(stand_in.library.model("bhavana:release-1").adapters) == 1


def test_the_servers_disk_is_full(
    serving: OllamaTarget, stand_in: StandIn, second: Delivery
) -> None:
    """While a blob is sent, and while a model is made of it."""
    library = stand_in.library
    used = sum(path.stat().st_size for path in library.blobs.iterdir())
    adapter = library.model("bhavana:latest").adapters[0].stat().st_size
    for room in (adapter - 1, adapter + 1):
        library.quota = used + room
        with pytest.raises(DoesNotFit, match=r"disk of Ollama at .* is full.*no space left"):
            serving.publish(second)
    assert not [path for path in library.blobs.iterdir() if "partial" in path.name]


def test_a_model_that_cannot_be_loaded(
    serving: OllamaTarget, stand_in: StandIn, make: MakeTarget, second: Delivery,
    references: Foretold,
) -> None:  # fmt: skip
    """The server's last words are in the error."""
    target = make()
    target.publish(second)
    plant(stand_in, Fault("load failure", "/api/generate", ProbeFailed, ""))
    with pytest.raises(ProbeFailed, match=r"cannot load.*error loading model: told"):
        target.probe(second, references)


def test_an_adapter_of_another_shape_of_base(
    serving: OllamaTarget, make: MakeTarget, stand_in: StandIn, second: Delivery,
    references: Foretold, base: Base, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A server looks at it at the first load only: then it is a load failure, with real words."""
    monkeypatch.setattr("trainer.gguf.lora.ARCHITECTURES", {"llama": "qwen2"})
    monkeypatch.setattr("trainer.gguf.lora.require_same", lambda *_: None)
    target = make()
    target.publish(second)
    with pytest.raises(ProbeFailed, match="cannot load or run the model"):
        target.probe(second, references)


def test_a_key_that_is_not_accepted(serving: OllamaTarget, stand_in: StandIn) -> None:
    """As of a proxy before the server."""
    stand_in.token = "key-123"
    with pytest.raises(Misconfigured, match=r"401.*targets\.ollama\.token"):
        serving.active()
    stand_in.token = ""


def test_what_is_no_ollama(make: MakeTarget, stand_in: StandIn, first: Delivery) -> None:
    """Another server on the port, or one of an era that takes no adapters."""
    target = make()
    for version, words in (("strange", "no version of Ollama"), ("0.5.4", "0.5.5 or later")):
        stand_in.version = version
        with pytest.raises(Rejected, match=words):
            target.preflight(first)


def test_refuses_an_adapter_that_is_not_the_evaluated_one(
    make: MakeTarget, first: Delivery, tmp_path: Path
) -> None:
    """Bytes that changed on the way are not sent."""
    changed = delivery("release-1", adapter(tmp_path / "changed", first.base, 5), first.base)
    (Path(changed.adapter) / "adapter_config.json").write_text("{}")
    with pytest.raises(BhavanaError, match="not the adapter that was evaluated"):
        make().publish(changed)
