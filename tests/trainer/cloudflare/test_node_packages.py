"""The target against Cloudflare's own code: KV and workerd as wrangler runs them, and its schema
as Prism reads it. BHAVANA_TEST_NODE_MODULES names a folder where these are installed:

    npm install wrangler@4.80.0 @stoplight/prism-cli@5.14.2
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import httpx
import pytest

from tests.cloudflare_stand_in import LORA_MODEL, Finetune, StandIn
from tests.daemon.stand_in import StandIn as Door
from tests.durability.daemons import eventually
from tests.trainer.cloudflare.conformity import CONTRACT
from tests.trainer.cloudflare.conftest import Evaluated, Make
from tests.trainer.cloudflare.test_worker import KEY, build, said
from trainer.targets.target import Delivery, Traffic

PACKAGES = Path(os.environ.get("BHAVANA_TEST_NODE_MODULES", "")) / "node_modules" / ".bin"
START_SECONDS = 120
Deliver = Callable[..., Delivery]


def needs(package: str) -> pytest.MarkDecorator:
    """Skips where it is not installed."""
    return pytest.mark.skipif(
        shutil.which("node") is None or not (PACKAGES / package).exists(),
        reason=f"BHAVANA_TEST_NODE_MODULES names no folder with {package} installed",
    )


@contextmanager
def started(command: list[str], folder: Path, ready: str) -> Iterator[str]:
    """Runs a server of Node's until the block ends; what its line that is `ready` says."""
    own = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "CI": "1", "NO_COLOR": "1"}
    quiet = {"WRANGLER_SEND_METRICS": "false", "NO_UPDATE_NOTIFIER": "1"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | own | quiet,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # its workerd ends with it
    )
    lines: Queue[str] = Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        while not (found := re.search(ready, lines.get(timeout=START_SECONDS))):
            pass
        yield found[1]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()


@needs("wrangler")
def test_the_worker_follows_the_pointer_in_workerd(
    make: Make, deliver: Deliver, stand_in: StandIn, tmp_path: Path
) -> None:
    """Promote, chat, promote, fall back, roll back: with Cloudflare's runtime and its KV.

    Workers AI is not emulated there; its binding asks the stand-in.
    """
    folder = build(tmp_path / "worker")
    with Door() as door:
        (folder / "entry.js").write_text(ENTRY)
        (folder / "wrangler.toml").write_text(
            CONFIG.format(
                namespace=stand_in.account.namespace,
                key=KEY,
                door=door.url,
                run=f"{stand_in.url}/accounts/{stand_in.account.id}/ai/run",
                token=stand_in.account.token,
            )
        )
        command = [str(PACKAGES / "wrangler"), "dev", "--local", "--ip", "127.0.0.1"]
        ports = ["--port", str(free_port()), "--inspector-port", str(free_port())]
        with (
            started([*command, *ports], folder, r"Ready on (http://\S+)") as url,
            httpx.Client(
                base_url=url,
                headers={"Authorization": f"Bearer {KEY}"},
                trust_env=False,
                timeout=60,
            ) as worker,
        ):
            stand_in.kv_upstream = f"{url}/cdn-cgi/explorer/api/storage/kv/namespaces"
            target = make(worker_url=url, switch_seconds=60, poll_seconds=0.2)
            assert target.active() == Traffic(release=None)
            for release in ("release-1", "release-2"):
                delivery = deliver(release)
                target.preflight(delivery)
                target.publish(delivery)
                target.probe(delivery, Evaluated())
                target.activate(Traffic(release=release))
                found = said(worker)
                assert found["version"] == release
                assert found["response"].startswith("Kindly")
            stand_in.faults["run"] = [3037]
            assert said(worker)["version"] == "release-1"
            target.restore("release-1")
            last = said(worker, consent={"training": True})
            assert last["version"] == "release-1"
            eventually(lambda: last["experience_id"] in door.rows, "the experience is kept")
            assert door.rows[last["experience_id"]]["model"] == "release-1"


@needs("prism")
def test_prism_takes_every_request_and_every_answer(
    make: Make, deliver: Deliver, stand_in: StandIn, tmp_path: Path
) -> None:
    """Between target and stand-in it refuses what its own reading of the schema does not allow."""
    stand_in.account.list_shape = "object"
    stand_in.account.finetunes.append(Finetune(LORA_MODEL, "other"))  # the schema has no empty list
    command = [str(PACKAGES / "prism"), "proxy", str(CONTRACT), stand_in.origin, "--errors"]
    address = ["--host", "127.0.0.1", "--port", str(free_port())]
    with started([*command, *address], tmp_path, r"Prism is listening on (http://\S+)") as url:
        target = make(api=url)
        delivery = deliver()
        target.preflight(delivery)
        target.publish(delivery)
        assert target.probe(delivery, Evaluated())["as_evaluated"] == 1
        target.activate(Traffic(release="release-1"))
        assert target.active() == Traffic(release="release-1")
        target.restore(None)
        assert target.active() == Traffic(release=None)
    assert {e.operation for e in stand_in.exchanges} == {
        "verify", "list", "create", "asset", "catalog", "run", "read", "write",
    }  # fmt: skip


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


ENTRY = """
import worker from "./worker.js";

const ai = ({ RUN_URL, TOKEN }) => ({
  async run(model, input) {
    const headers = { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json" };
    const asked = { method: "POST", headers, body: JSON.stringify(input) };
    const { success, errors, result } = await (await fetch(`${RUN_URL}/${model}`, asked)).json();
    if (!success) throw new Error(`${errors[0].code}: ${errors[0].message}`);
    return result;
  },
});

export default {
  fetch: (request, env, context) => worker.fetch(request, { ...env, AI: ai(env) }, context),
};
"""
CONFIG = """
name = "bhavana-chat"
main = "entry.js"
compatibility_date = "2026-01-01"

[[kv_namespaces]]
binding = "RELEASES"
id = "{namespace}"

[vars]
CHAT_KEY = "{key}"
INGEST_URL = "{door}"
INGEST_KEY = "bhv_x"
RUN_URL = "{run}"
TOKEN = "{token}"
"""
