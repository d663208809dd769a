"""The Worker, in Node: who answers, who answers instead, what is recorded, what it reports."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon import clients
from store.errors import Rejected, Unavailable
from tests.cloudflare_stand_in import StandIn
from tests.daemon.stand_in import StandIn as Door
from tests.durability.daemons import eventually
from tests.trainer.cloudflare.conftest import Make
from trainer.targets import cloudflare_worker
from trainer.targets.cloudflare.prompts import SPECIAL, render
from trainer.targets.target import Delivery, Traffic

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
SOURCES = Path(cloudflare_worker.__path__[0])
HOST = Path(__file__).with_name("worker_host.mjs")
KEY = "stand-in-chat-key"
Deliver = Callable[..., Delivery]


def build(folder: Path) -> Path:
    """The Worker's files beside the client, as its build puts them."""
    folder.mkdir()
    for source in (*SOURCES.glob("*.js"), Path(clients.__file__).parent / "bhavana.js", HOST):
        shutil.copy(source, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


@pytest.fixture
def door() -> Iterator[Door]:
    """The stand-in for the daemon's door."""
    with Door() as served:
        yield served


@pytest.fixture
def host(stand_in: StandIn, door: Door, tmp_path: Path) -> Iterator[Callable[..., httpx.Client]]:
    """Starts the Worker with further variables; a client of it."""
    folder = build(tmp_path / "worker")
    opened: list[Any] = []

    def start(**variables: str) -> httpx.Client:
        settings = {
            "api": stand_in.url,
            "account": stand_in.account.id,
            "namespace": stand_in.account.namespace,
            "token": stand_in.account.token,
            "vars": {"CHAT_KEY": KEY, "INGEST_URL": door.url, "INGEST_KEY": "bhv_x"} | variables,
        }
        process = subprocess.Popen(
            [str(NODE), folder / HOST.name, json.dumps(settings)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        opened.append(process)
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {KEY}"},
            trust_env=False,
            timeout=60,
        )
        opened.append(client)
        return client

    yield start
    for each in reversed(opened):
        if isinstance(each, httpx.Client):
            each.close()
        else:
            each.kill()
            each.communicate()


@pytest.fixture
def worker(host: Callable[..., httpx.Client]) -> httpx.Client:
    """A client of the Worker."""
    return host()


def said(worker: httpx.Client, words: str = "Hello there", **others: Any) -> Any:
    """What a chat is answered."""
    messages = [{"role": "user", "content": words}]
    answer = worker.post("/chat", json={"messages": messages, **others})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_promotion_is_done_when_the_worker_says_so(
    make: Make, deliver: Deliver, stand_in: StandIn, worker: httpx.Client
) -> None:
    """Promote, chat, promote, roll back: the Worker follows, and says whom it follows."""
    target = make(worker_url=str(worker.base_url), switch_seconds=30)
    assert worker.get("/version").status_code == 503
    for release in ("release-1", "release-2"):
        target.publish(deliver(release))
        target.activate(Traffic(release=release))
        assert worker.get("/version").json() == {"version": release, "canary": None}
        found = said(worker)
        assert found["version"] == release
        assert found["response"].startswith("Kindly")
    target.restore("release-1")
    assert said(worker)["version"] == "release-1"
    target.restore(None)
    plain = said(worker)
    assert plain["version"] == "mistralai/Mistral-7B-Instruct-v0.2"
    assert plain["response"].startswith("Plainly")
    asked = [json.loads(e.body) for e in stand_in.asked("run")]
    assert asked[-1]["prompt"] == "<s> [INST] Hello there [/INST]"
    assert all(each["raw"] is True for each in asked)


def test_a_worker_that_does_not_follow_is_told(
    make: Make, deliver: Deliver, stand_in: StandIn, host: Callable[..., httpx.Client]
) -> None:
    """It reads another key: the pointer is right and nobody is served by it."""
    worker = host(KEY="other")
    target = make(worker_url=str(worker.base_url))
    target.publish(deliver())
    with pytest.raises(Unavailable, match="Worker"):
        target.activate(Traffic(release="release-1"))


def test_what_was_said_becomes_an_experience(
    make: Make, deliver: Deliver, worker: httpx.Client, door: Door
) -> None:
    """With the release that answered, once, however often the door has to be asked."""
    target = make()
    target.publish(deliver())
    target.activate(Traffic(release="release-1"))
    door.faults = iter(["busy", "ack lost", "broken"])
    found = said(worker, consent={"training": True}, subject="person-1")
    eventually(lambda: found["experience_id"] in door.rows, "the experience is kept")
    (row,) = door.rows.values()
    assert row["model"] == found["version"] == "release-1"
    assert row["response"] == found["response"]
    assert row["conversation_id"] == found["conversation_id"]
    assert (row["consent"], row["subject"], row["source"]) == (
        {"training": True},
        "person-1",
        "cloudflare",
    )
    assert door.conflicts == []


@pytest.mark.parametrize("code", [3037, 3039, 5005])
def test_another_answers_where_the_finetune_cannot(
    make: Make, deliver: Deliver, stand_in: StandIn, worker: httpx.Client, code: int
) -> None:
    """First the one before, then the model alone; who it was is said."""
    target = make()
    for release in ("release-1", "release-2"):
        target.publish(deliver(release))
        target.activate(Traffic(release=release))
    stand_in.faults["run"] = [code]
    assert said(worker)["version"] == "release-1"
    stand_in.faults["run"] = [code, code]
    found = said(worker)
    assert found["version"] == "mistralai/Mistral-7B-Instruct-v0.2"
    assert found["response"].startswith("Plainly")


@pytest.mark.parametrize(("code", "status"), [(3036, 503), (3040, 503), (500, 502), (5007, 502)])
def test_what_is_nobodys_fault_is_told(
    make: Make, deliver: Deliver, stand_in: StandIn, worker: httpx.Client, code: int, status: int
) -> None:
    """A platform that is full or down answers for no release; another is not asked."""
    target = make()
    target.publish(deliver())
    target.activate(Traffic(release="release-1"))
    runs = len(stand_in.asked("run"))
    stand_in.faults["run"] = [code]
    messages = [{"role": "user", "content": "Hello"}]
    assert worker.post("/chat", json={"messages": messages}).status_code == status
    assert len(stand_in.asked("run")) == runs + 1


def test_a_canary_answers_its_share_and_conversations_stay(
    make: Make, deliver: Deliver, host: Callable[..., httpx.Client]
) -> None:
    """Of 200 conversations a quarter, by their ids alone; each is answered by one release."""
    target = make()
    for release in ("release-1", "release-2"):
        target.publish(deliver(release))
    target.activate(Traffic(release="release-1"))
    target.activate(Traffic(release="release-1", canary="release-2", share=0.25))
    worker = host(INGEST_URL="")
    assert worker.get("/version").json() == {"version": "release-1", "canary": "release-2"}
    answered = [said(worker, conversation_id=f"talk-{n}")["version"] for n in range(200)]
    assert Counter(answered)["release-2"] == pytest.approx(50, abs=20)  # 3.3 deviations
    again = [said(worker, conversation_id=f"talk-{n}")["version"] for n in range(20)]
    assert again == answered[:20]


def test_a_canary_that_cannot_answer_is_replaced(
    make: Make, deliver: Deliver, stand_in: StandIn, worker: httpx.Client
) -> None:
    """By the release that it was tried beside."""
    target = make()
    for release in ("release-1", "release-2"):
        target.publish(deliver(release))
    target.activate(Traffic(release="release-1"))
    target.activate(Traffic(release="release-1", canary="release-2", share=1))
    assert said(worker)["version"] == "release-2"
    stand_in.faults["run"] = [3037]
    assert said(worker)["version"] == "release-1"


@pytest.mark.parametrize("key", ["x", "another", KEY + "x"])
def test_nobody_chats_without_the_key(worker: httpx.Client, stand_in: StandIn, key: str) -> None:
    """The account's allocation is not everybody's."""
    messages = [{"role": "user", "content": "Hello"}]
    headers = {"Authorization": f"Bearer {key}"}
    assert worker.post("/chat", json={"messages": messages}, headers=headers).status_code == 401
    assert stand_in.asked("run") == []


def test_without_a_key_of_its_own_it_answers_nobody(host: Callable[..., httpx.Client]) -> None:
    """A secret that was forgotten does not open the door."""
    worker = host(CHAT_KEY="")
    answer = worker.post("/chat", json={}, headers={"Authorization": "Bearer"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"null",
        b"{}",
        b'{"messages": []}',
        b'{"messages": [{"role": "user"}]}',
        b'{"messages": [{"role": "robot", "content": "x"}]}',
        b'{"messages": [{"role": "assistant", "content": "x"}]}',
        b'{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}',
    ],
)
def test_a_body_that_is_none_is_refused(
    make: Make, deliver: Deliver, worker: httpx.Client, stand_in: StandIn, body: bytes
) -> None:
    """Before anything is run."""
    target = make()
    target.publish(deliver())
    target.activate(Traffic(release="release-1"))
    runs = len(stand_in.asked("run"))
    assert worker.post("/chat", content=body).status_code == 400
    assert len(stand_in.asked("run")) == runs


TALKS = [
    [{"role": "user", "content": " Why?  \n"}],
    [
        {"role": "user", "content": "\x1c\u3000two\n\nlines\r\nand a tab\t\x85"},
        {"role": "assistant", "content": " \ufeff भावना 😀 \u2028"},
        {"role": "user", "content": "a < b </s> {{ braces }} \\ “quoted”"},
    ],
    [{"role": "system", "content": " Be brief.\n"}, {"role": "user", "content": "Yes"}],
    [{"role": "system", "content": ""}, {"role": "user", "content": ""}],
    [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}],
]


@pytest.mark.parametrize("template", SPECIAL)
def test_prompts_are_those_of_training(template: str, tmp_path: Path) -> None:
    """Byte for byte what Python renders, and refused where Python refuses."""
    folder = build(tmp_path / "worker")
    (folder / "render.js").write_text("""
import { answerIn, render } from "./prompts.js";
const [template, talks, texts] = JSON.parse(process.argv[2]);
const tried = talks.map((talk) => {
  try { return [true, false].map((bos) => render(template, talk, bos)); } catch { return null; }
});
console.log(JSON.stringify([tried, texts.map((text) => answerIn(text, template))]));
""")
    end = SPECIAL[template].turn_end
    texts = [f" Yes.{end} and more", "\x85No. \x1f", f"{end}"]
    ran = subprocess.run(
        [str(NODE), folder / "render.js", json.dumps([template, TALKS, texts])],
        capture_output=True,
        text=True,
        check=True,
    )
    rendered, answers = json.loads(ran.stdout)

    def ours(talk: list[dict[str, str]]) -> list[str] | None:
        try:
            return [render(template, talk, begins_with_bos=bos) for bos in (True, False)]
        except Rejected:
            return None

    assert rendered == [ours(talk) for talk in TALKS]
    assert answers == ["Yes.", "No.", ""]
