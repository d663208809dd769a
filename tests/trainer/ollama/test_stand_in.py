"""The stand-in does what Ollama does, where the target's tests lean on it.

With BHAVANA_TEST_OLLAMA=URL the same is asked of a real server, and the way of a release into
service there; it leaves a base named bhavana-test behind.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ollama_stand_in.server import StandIn
from tests.tiny_releases import Foretold, Prepared, delivery, place
from trainer.gguf.lora import write_lora
from trainer.journal import UnwrittenJournal
from trainer.targets.ollama.base import bare_base
from trainer.targets.ollama.client import Ollama
from trainer.targets.ollama.settings import OllamaSettings
from trainer.targets.ollama.target import OllamaTarget
from trainer.targets.target import Delivery, Traffic

REAL = os.environ.get("BHAVANA_TEST_OLLAMA", "")
NAME = "bhavana-test"


@pytest.fixture(params=["stand-in", "real"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of the stand-in, and of a real server where one is named."""
    if request.param == "stand-in":
        with StandIn(tmp_path / "ollama") as server:
            yield server.url
    elif REAL:
        yield REAL
    else:
        pytest.skip("BHAVANA_TEST_OLLAMA names no server")


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    """By hand."""
    with httpx.Client(base_url=url, timeout=120) as opened:
        yield opened


@pytest.fixture
def bare(url: str, first: Delivery) -> str:
    """The bare base on the server."""
    settings = OllamaSettings(url=url, name=NAME)
    base = bare_base(first.base, settings)
    with Ollama(settings) as ollama:
        base.ensure(ollama)
    return base.tag


def digests(client: httpx.Client) -> dict[str, str]:
    """Of all models."""
    return {m["name"]: m["digest"] for m in client.get("/api/tags").json()["models"]}


def test_a_blob_is_there_when_it_was_sent_whole(client: httpx.Client) -> None:
    """Under its digest and no other."""
    content = os.urandom(1_000)
    blob = f"/api/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    assert client.head(blob).status_code == 404
    assert client.post(f"/api/blobs/sha256:{'0' * 64}", content=content).status_code == 400
    assert client.post(blob, content=content).status_code == 201
    assert client.head(blob).status_code == 200
    assert client.post(blob, content=content).status_code == 200


def test_a_copy_has_the_digest_and_deleting_it_leaves_the_source(
    client: httpx.Client, bare: str
) -> None:
    """Both name the same layers."""
    copy = {"source": bare, "destination": f"{NAME}:copy"}
    assert client.post("/api/copy", json=copy).status_code == 200
    assert digests(client)[f"{NAME}:copy"] == digests(client)[bare]
    gone = {"model": f"{NAME}:copy"}
    assert client.request("DELETE", "/api/delete", json=gone).status_code == 200
    assert client.request("DELETE", "/api/delete", json=gone).status_code == 404
    assert client.post("/api/show", json={"model": bare}).status_code == 200
    assert client.post("/api/copy", json={"source": "no", "destination": "o"}).status_code == 404


def test_what_cannot_be_made_is_refused_in_words(client: httpx.Client, bare: str) -> None:
    """With 400 where nothing was written yet."""
    for wrong in (
        {"model": f"{NAME}:wrong"},
        {"model": "no good name", "from": bare},
        {"model": f"{NAME}:wrong", "from": bare, "template": "{{ nonsense }}"},
        {"model": f"{NAME}:wrong", "files": {"a.gguf": f"sha256:{'0' * 64}"}},
    ):
        response = client.post("/api/create", json=wrong | {"stream": False})
        assert response.status_code == 400, wrong
        assert response.json()["error"]


def test_an_adapter_of_its_parent_is_kept_beside_a_new_one(
    client: httpx.Client, bare: str, first: Delivery, url: str, tmp_path: Path
) -> None:
    """Which is why a release is made from the bare base."""
    file = write_lora(Path(first.adapter), first.base, tmp_path / "adapter.gguf")
    with Ollama(OllamaSettings(url=url)) as ollama:
        ollama.upload(Path(file.path), file.sha256)
        made = {"adapters": {"adapter.gguf": f"sha256:{file.sha256}"}}
        ollama.create(f"{NAME}:parent", made | {"from": bare})
        ollama.create(f"{NAME}:child", made | {"from": f"{NAME}:parent"})
        assert ollama.show(bare).adapters == []
        assert ollama.show(f"{NAME}:parent").adapters == [file.sha256]
        assert ollama.show(f"{NAME}:child").adapters == [file.sha256] * 2
        for name in ("parent", "child"):
            ollama.delete(f"{NAME}:{name}")


def test_a_model_is_loaded_and_unloaded_by_an_empty_prompt(client: httpx.Client, bare: str) -> None:
    """And listed while it is in memory."""
    asked = {"model": bare, "prompt": "", "stream": False}
    assert client.post("/api/generate", json=asked).json()["done_reason"] == "load"
    loaded = client.get("/api/ps").json()["models"]
    assert digests(client)[bare] in [m["digest"] for m in loaded]
    unloaded = client.post("/api/generate", json=asked | {"keep_alive": 0}).json()
    assert unloaded["done_reason"] == "unload"
    assert client.post("/api/generate", json=asked | {"model": "no"}).status_code == 404


def test_a_release_goes_its_whole_way(url: str, ready: Prepared, tmp_path: Path) -> None:
    """Published, probed, in service, replaced, back, retired."""
    settings = OllamaSettings(url=url, name=NAME, keep=0)
    target = OllamaTarget(place(tmp_path, settings, UnwrittenJournal()))
    one, two = (
        delivery(f"release-{n}", Path(ready.adapters[n]), ready.base) for n in ("one", "two")
    )
    for made, name in ((one, "one"), (two, "two")):
        target.preflight(made)
        target.publish(made)
        assert target.probe(made, Foretold(ready.positions[name]))["kl"] < 0.01
        target.activate(Traffic(release=made.release))
        assert target.active() == Traffic(release=made.release)
    target.restore("release-one")
    assert target.active() == Traffic(release="release-one")
    assert target.retire([]) == ("release-two",)
    target.restore(None)
    assert target.active() == Traffic(release=None)
    assert target.retire([]) == ("release-one",)
    with Ollama(settings) as ollama:
        ollama.delete(f"{NAME}:latest")
