"""The Python client: whatever fails, every item that was taken is stored exactly once."""

from __future__ import annotations

import ast
import asyncio
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon.clients import AsyncClient, Client, QueueFull, Stopped
from daemon.clients import client as module
from daemon.clients.client import ITEM_FAULTS
from store import experiences, keys
from store.events import Store
from tests import canaries
from tests.daemon.stand_in import FAULTS, PROXY, StandIn

WORDS = canaries.SENTENCE
KEY = "bhv_stand-in"
HEADER = f"""
import json, os, sys, time
from daemon.clients import AsyncClient, Client, client as module
module.FIRST_PAUSE_SECONDS = module.LONGEST_PAUSE_SECONDS = 0.05
url, key, spool = sys.argv[1:4]
ITEM = dict(source="web", messages=[dict(role="user", content={WORDS!r})], response="Yes")
"""


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    """Short pauses: the tests wait for what happens, not for politeness."""
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.1)


@pytest.fixture
def stand_in():
    """The stand-in for the door."""
    with StandIn() as served:
        yield served


@pytest.fixture
def item():
    """An experience without what the client fills in."""
    return {
        "source": "web",
        "messages": [{"role": "user", "content": WORDS}],
        "response": "Yes",
        "consent": {"training": True},
    }


@pytest.fixture
def make(stand_in):
    """Makes clients of the stand-in and closes them in the end."""
    made = []

    def make(**options):
        made.append(Client(stand_in.url, KEY, **({"timeout": 10} | options)))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="module")
def real(serving, tmp_path_factory):
    """A real daemon and the text of a key for it."""
    data = tmp_path_factory.mktemp("real") / "data"
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        scopes = ("ingest", "feedback")
        key = keys.create(store, name="frontend", scopes=scopes, source="web", actor="t")[1]
    with serving(data) as daemon:
        yield daemon, key


def kept(daemon, prefix=""):
    """The responses that the real daemon has recorded, by id, and how many events they took."""
    with Store(f"sqlite:///{daemon.data / 'bhavana.db'}") as store:
        events = store.follow(types=["experience.recorded"])
        names = [event.stream.removeprefix("experience/") for event in events]
        names = [name for name in names if name.startswith(prefix)]
        return {name: experiences.get(store, name).response for name in names}, len(names)


def start(code, *arguments):
    """Starts a frontend as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEADER + code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(Path(module.__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(code, *arguments):
    """Runs a frontend to its end; its output and its complaints."""
    with start(code, *arguments) as process:
        out, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    return out, complaints


# --- to the real daemon -------------------------------------------------------------------


def test_what_is_recorded_is_stored(real, item):
    """The id that `record` returned is the stored one, and the moment is this one."""
    daemon, key = real
    with Client(daemon.url, key) as client:
        name = client.record(item, response="Indeed")
        other = client.feedback(experience_id=name, kind="thumb", value=1)
        assert client.flush()
    with Store(f"sqlite:///{daemon.data / 'bhavana.db'}") as store:
        found = experiences.get(store, name)
        assert (found.response, found.messages[0].content) == ("Indeed", WORDS)
        assert abs((datetime.now(UTC) - found.occurred_at).total_seconds()) < 60
        assert [f.id for f in experiences.feedback_on(store, name)] == [other]


def test_what_is_recorded_in_asyncio_is_stored(real, item):
    """The same verbs, awaited; many tasks may record at once."""
    daemon, key = real

    async def talk():
        async with AsyncClient(daemon.url, key) as client:
            names = await asyncio.gather(*(client.record(item) for _ in range(50)))
            await client.feedback(experience_id=names[0], kind="thumb", value=1)
            assert await client.flush()
            return names

    assert set(asyncio.run(talk())) <= kept(daemon)[0].keys()


@pytest.mark.parametrize("seed", range(3))
def test_through_a_faulty_network_each_item_is_stored_exactly_once(real, item, tmp_path, seed):
    """Half of the requests fail in one of nine ways, before or after the daemon kept them."""
    daemon, key = real
    chance = random.Random(seed)
    with StandIn(upstream=daemon.url) as net:
        net.faults = (chance.choice(FAULTS) if chance.random() < 0.5 else None for _ in range(40))
        spool = tmp_path if seed else None
        with Client(net.url, key, spool=spool, timeout=1.0) as client:
            said = {}
            for i in range(chance.randint(500, 1500)):
                said[client.record(item, id=f"s{seed}-{i}", response=f"Answer {i}")] = f"Answer {i}"
            assert client.flush(120)
        assert sum(arrival.fault is not None for arrival in net.arrivals) >= 3
    assert kept(daemon, f"s{seed}-") == (said, len(said))


def test_killed_again_and_again_it_loses_and_doubles_nothing(real, tmp_path, eventually):
    """With a spool, an id that was returned is stored, though the process died by SIGKILL."""
    daemon, key = real
    chance = random.Random(7)
    code = """
client = Client(url, key, spool=spool, timeout=1)
for i in range(100_000):
    print(client.record(ITEM, id=f"{sys.argv[4]}.{i}", response=f"Answer {i}"), flush=True)
"""
    taken = []
    with StandIn(upstream=daemon.url) as net:
        net.faults = (chance.choice(FAULTS) if chance.random() < 0.5 else None for _ in range(60))
        for cycle in range(6):
            with start(code, net.url, key, tmp_path, f"killed-{cycle}") as process:
                taken += [process.stdout.readline() for _ in range(chance.randint(20, 200))]
                time.sleep(chance.random() / 2)
                process.send_signal(signal.SIGKILL)
                taken += process.stdout.readlines()
        net.faults = iter(())
        with Client(net.url, key, spool=tmp_path) as client:
            assert client.flush(120)
    names = {line.strip() for line in taken if line.endswith("\n")}
    found, events = kept(daemon, "killed-")
    assert len(names) > 120
    assert names <= found.keys()
    assert len(found) == events
    assert all(found[name] == f"Answer {name.rpartition('.')[2]}" for name in found)
    assert list(tmp_path.iterdir()) == []


def test_an_item_that_the_daemon_refuses_costs_only_itself(real, item):
    """The caller is handed the item and the reason; its neighbours are stored."""
    daemon, key = real
    refused = []
    with Client(daemon.url, key, on_rejected=lambda *told: refused.append(told)) as client:
        client.record(item, id="good-0")
        assert client.flush()
        client.record(item, id="good-0", response="Other")
        client.record(item, id="bad", surprise=True)
        for i in range(1, 10):
            client.record(item, id=f"good-{i}")
        assert client.flush()
    assert [(i["id"], r["status"]) for i, r in refused] == [
        ("good-0", "conflict"),
        ("bad", "invalid"),
    ]
    assert refused[1][1]["code"]
    found, events = kept(daemon, "good-")
    assert (found["good-0"], len(found), events) == ("Yes", 10, 10)


def test_a_refused_key_stops_the_sending_and_costs_nothing(real, item, tmp_path, caplog):
    """It says so, keeps what it takes on disk, and the right key sends it."""
    daemon, key = real
    with Client(daemon.url, "bhv_wrong", spool=tmp_path) as client:
        names = [client.record(item)]
        assert not client.flush()
        assert client.stopped.startswith("/v1/experiences answered 401")
        names.append(client.record(item))
        assert not client.close()
    assert "sending stopped" in caplog.text
    assert "bhv_wrong" not in caplog.text
    with Client(daemon.url, key, spool=tmp_path) as client:
        assert client.flush()
    assert set(names) <= kept(daemon)[0].keys()


def test_a_refused_key_without_a_spool_takes_nothing_more(stand_in, make, item):
    """Whoever records is told at once; feedback may still be welcome."""
    stand_in.refuses_keys = True
    client = make()
    client.record(item)
    assert not client.flush()
    with pytest.raises(Stopped, match="401"):
        client.record(item)
    stand_in.refuses_keys = False
    client.feedback(experience_id="e", kind="thumb", value=1)
    client.flush(0.5)
    assert [a.path for a in stand_in.arrivals] == ["/v1/experiences", "/v1/feedback"]


# --- faults, one at a time ----------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_the_same_items_are_sent_again(stand_in, make, item, fault):
    """With the same ids and the same content, until there is an answer for each."""
    stand_in.faults = iter([fault])
    client = make(timeout=0.5)
    names = [client.record(item) for _ in range(3)]
    assert client.flush()
    assert list(stand_in.rows) == names
    assert stand_in.conflicts == []
    assert [a.items for a in stand_in.arrivals] == [stand_in.arrivals[0].items] * 2


@pytest.mark.parametrize("status", ITEM_FAULTS)
@pytest.mark.parametrize("count", [1, 3])
def test_what_a_proxy_refuses_is_sent_again(stand_in, item, tmp_path, status, count):
    """Only the daemon's own word drops an item: a proxy in between may be mended."""
    stand_in.faults = itertools.repeat(f"{PROXY}{status}")
    refused = []
    told = {"on_rejected": lambda *told: refused.append(told), "spool": tmp_path}
    with Client(stand_in.url, KEY, **told) as client:
        names = [client.record(item) for _ in range(count)]
        assert not client.flush(0.5)
        assert (client.unsent, client.stopped) == (count, None)
        stand_in.faults = iter(())
        assert client.flush()
    assert (list(stand_in.rows), refused) == (names, [])


@pytest.mark.parametrize("fault", ["busy", "too many"])
def test_it_comes_back_no_sooner_than_it_was_told(stand_in, make, item, fault):
    """Retry-After is a lower bound."""
    stand_in.faults, stand_in.retry_after = iter([fault]), 1
    client = make()
    client.record(item)
    began = time.monotonic()
    assert client.flush()
    assert time.monotonic() - began >= 1


def test_a_list_that_is_too_large_is_halved_until_it_fits(stand_in, make, item):
    """413 for the list says nothing about its items."""
    stand_in.most_bytes = 2_000
    client = make()
    names = [client.record(item) for _ in range(100)]
    assert client.flush()
    assert list(stand_in.rows) == names


def test_a_list_that_is_too_long_for_a_limit_is_halved_as_well(stand_in, make, item):
    """Else a bucket that is smaller than the list would be emptied by every try, for nothing."""
    stand_in.most_at_once = 3
    client = make()
    names = [client.record(item) for _ in range(20)]
    assert client.flush()
    assert list(stand_in.rows) == names


def test_a_key_that_is_revoked_between_two_halves_ends_both(stand_in, item, tmp_path):
    """What was not answered for stays, whichever half it is in."""
    stand_in.most_bytes, stand_in.faults = 2_000, iter([None, "revoked"])
    with Client(stand_in.url, KEY, spool=tmp_path) as client:
        names = [client.record(item) for _ in range(12)]
        assert not client.flush()
        assert (client.unsent, len(stand_in.arrivals)) == (12, 2)
    with Client(stand_in.url, KEY, spool=tmp_path) as client:
        assert client.flush()
    assert list(stand_in.rows) == names


def test_an_item_that_is_too_large_by_itself_is_handed_back(stand_in, make, item):
    """413 for a list of one ends the search."""
    stand_in.most_bytes = 2_000
    refused = []
    client = make(on_rejected=lambda i, result: refused.append((i["id"], result["code"])))
    client.record(item, id="small")
    client.record(item, id="large", response="so " * 2_000)
    assert client.flush()
    assert refused == [("large", "body_too_large")]
    assert list(stand_in.rows) == ["small"]


def test_mixed_results_are_told_item_by_item(stand_in, make, item):
    """207: what was kept is done with, the rest goes to the callback and is not sent again."""
    refused = []
    client = make(on_rejected=lambda i, result: refused.append((i, result["status"])))
    wrong = {key: value for key, value in item.items() if key != "messages"}
    client.record(item, id="kept")
    client.record(wrong, id="wrong")
    client.record(item, id="claimed", source="exemplar")
    assert client.flush()
    assert [(i["id"], status) for i, status in refused] == [
        ("wrong", "invalid"),
        ("claimed", "refused"),
    ]
    assert refused[0][0]["response"] == "Yes"
    assert len(stand_in.arrivals) == 1


def test_a_callback_that_fails_stops_nothing(stand_in, make, item, caplog):
    """Somebody else's mistake is told in the log, by its name only."""

    def fail(item, result):
        raise ValueError(item["response"])

    client = make(on_rejected=fail)
    client.record(item, source="exemplar", response=WORDS)
    name = client.record(item)
    assert client.flush()
    assert list(stand_in.rows) == [name]
    assert "ValueError" in caplog.text
    assert WORDS not in caplog.text


def test_the_log_names_ids_and_never_words(stand_in, make, item, caplog):
    """Without a callback a refused item is a warning with its id and the code."""
    stand_in.faults = iter(["busy"])
    client = make()
    name = client.record(item, source="exemplar")
    assert client.flush()
    assert f"{name} was not kept: wrong_scope" in caplog.text
    assert WORDS not in caplog.text
    assert KEY not in caplog.text


def test_a_wrong_address_drops_nothing(stand_in, item, tmp_path):
    """404 is the fault of the address or of a proxy, not of the items."""
    stand_in.missing = True
    with Client(stand_in.url, KEY, spool=tmp_path) as client:
        name = client.record(item)
        assert not client.flush()
        assert "404" in client.stopped
    stand_in.missing = False
    with Client(stand_in.url, KEY, spool=tmp_path) as client:
        assert client.flush()
    assert list(stand_in.rows) == [name]


# --- the queue ----------------------------------------------------------------------------


def test_items_travel_in_lists(stand_in, make, item):
    """At most a hundred in a list, and few requests for many items."""
    client = make()
    names = [client.record(item) for _ in range(250)]
    assert client.flush()
    assert [name for a in stand_in.arrivals for name in (i["id"] for i in a.items)] == names
    assert max(len(a.items) for a in stand_in.arrivals) <= module.BATCH
    assert len(stand_in.arrivals) <= 6


def test_long_items_travel_in_shorter_lists(stand_in, make, item):
    """A list is kept below what the daemon takes, so that no 413 is needed to find out."""
    client = make()
    names = [client.record(item, response="x" * 65_000) for _ in range(40)]
    assert client.flush()
    assert list(stand_in.rows) == names


def test_recording_needs_no_network(item):
    """Nobody listens there, and the ids come back in order of time all the same."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = Client(f"http://127.0.0.1:{unused.getsockname()[1]}", KEY)
        names = []
        for _ in range(3):
            names.append(client.record(item))
            time.sleep(0.002)
        assert client.unsent == 3
        assert names == sorted(set(names))
        assert all(name.startswith("exp-") for name in names)
        assert not client.close(0.2)


def test_a_full_queue_refuses_rather_than_drops(stand_in, make, item):
    """QueueFull, and what was taken before arrives."""
    stand_in.faults = itertools.repeat("busy")
    client = make(capacity=3)
    names = [client.record(item) for _ in range(3)]
    with pytest.raises(QueueFull):
        client.record(item)
    stand_in.faults = iter(())
    assert client.flush()
    assert list(stand_in.rows) == names


def test_a_full_queue_may_block_instead(stand_in, make, item):
    """`block` waits for room; all arrive, in order."""
    stand_in.faults = iter(["busy"])
    client = make(capacity=3, block=True)
    names = [client.record(item) for _ in range(20)]
    assert client.flush()
    assert list(stand_in.rows) == names


def test_a_full_queue_holds_up_no_event_loop(stand_in, item):
    """An awaited `record` waits for room while other tasks go on."""
    stand_in.faults = iter(["busy"] * 3)

    async def talk():
        async with AsyncClient(stand_in.url, KEY, capacity=3, block=True) as client:
            recording = asyncio.create_task(_record_all(client))
            ticks = 0
            while not recording.done():
                await asyncio.sleep(0.01)
                ticks += 1
            assert await client.flush()
            return recording.result(), ticks

    async def _record_all(client):
        return [await client.record(item) for _ in range(9)]

    names, ticks = asyncio.run(talk())
    assert list(stand_in.rows) == names
    assert ticks > 3


def test_threads_record_at_once(stand_in, make, item):
    """None is lost between them."""
    client = make()
    threads = [
        threading.Thread(target=lambda: [client.record(item) for _ in range(200)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush()
    assert len(stand_in.rows) == 1600


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"id": 7}, TypeError),
        ({"metadata": {"x": float("nan")}}, ValueError),
        ({"metadata": {"x": object()}}, TypeError),
        ({"response": "\ud800"}, ValueError),
    ],
)
def test_what_is_not_json_is_refused_where_it_is_recorded(make, item, wrong, error):
    """A broken item must not reach a list and cost its neighbours a detour."""
    client = make()
    with pytest.raises(error):
        client.record(item, **wrong)
    assert client.unsent == 0


@pytest.mark.parametrize("url", ["daemon:8765", "ftp://daemon", "/v1"])
def test_an_address_without_http_is_refused_at_once(url):
    """Else it would be retried for ever."""
    with pytest.raises(ValueError, match="http"):
        Client(url, KEY)


def test_a_closed_client_takes_nothing(make, item):
    """It would not be sent."""
    client = make()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.record(item)


# --- the spool ----------------------------------------------------------------------------


def test_a_taken_item_is_on_disk_before_it_is_sent(stand_in, item, tmp_path):
    """And leaves the disk with the daemon's answer; only its owner may read it."""
    stand_in.faults = itertools.repeat("busy")
    with Client(stand_in.url, KEY, spool=tmp_path / "spool") as client:
        name = client.record(item)
        [path] = (tmp_path / "spool").iterdir()
        assert json.loads(path.read_bytes())["item"]["id"] == name
        assert path.stat().st_mode & 0o077 == 0
        stand_in.faults = iter(())
        assert client.flush()
        assert path.read_bytes() == b""
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_torn_line_costs_only_itself(stand_in, item, tmp_path, caplog):
    """A process that was killed while it wrote had not taken the item yet."""
    line = json.dumps({"kind": "experience", "item": {**item, "id": "whole"}})
    (tmp_path / "old.jsonl").write_text(f"{line}\n{line.replace('whole', 'torn')[:60]}")
    with Client(stand_in.url, KEY, spool=tmp_path) as client:
        assert client.flush()
    assert list(stand_in.rows) == ["whole"]
    assert "torn line" in caplog.text
    assert WORDS not in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_two_clients_on_one_folder_leave_each_other_alone(stand_in, item, tmp_path):
    """What a living client holds is its own; what a closed one left is taken over."""
    stand_in.refuses_keys = True
    first = Client(stand_in.url, KEY, spool=tmp_path)
    names = [first.record(item) for _ in range(5)]
    assert not first.flush()
    with Client(stand_in.url, KEY, spool=tmp_path) as second:
        assert second.unsent == 0
        names.append(second.record(item))
        assert not second.flush()
    first.close()
    stand_in.refuses_keys = False
    with Client(stand_in.url, KEY, spool=tmp_path) as third:
        assert third.flush()
    assert sorted(stand_in.rows) == sorted(names)


def test_a_spool_that_cannot_be_written_takes_nothing(stand_in, item, tmp_path, monkeypatch):
    """The caller learns it; the items before and after are sent, and the failed one is not."""
    stand_in.faults = iter(["busy"] * 3)
    with Client(stand_in.url, KEY, spool=tmp_path) as client:
        client.record(item, id="before")
        with monkeypatch.context() as patch:
            patch.setattr(module.os, "fsync", _full)
            with pytest.raises(OSError, match="No space"):
                client.record(item, id="failed")
        [path] = tmp_path.iterdir()
        assert b"failed" not in path.read_bytes()
        client.record(item, id="after")
        assert client.flush()
    assert list(stand_in.rows) == ["before", "after"]


def _full(_):
    raise OSError(28, "No space left on device")


def test_a_torn_write_is_never_followed_by_another(stand_in, tmp_path):
    """A file that may not grow ends in the middle of a line; what was taken before survives."""
    code = """
import resource
client = Client("http://127.0.0.1:1", key, spool=spool)
names = []
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
try:
    for _ in range(20):
        names.append(client.record(ITEM))
except OSError as error:
    assert "space" in str(error)
names.append(client.record(ITEM))  # into another file
print(*names, flush=True)
os._exit(0)
"""
    out, _ = run(code, stand_in.url, KEY, tmp_path)
    with Client(stand_in.url, KEY, spool=tmp_path) as client:
        assert client.flush()
    assert sorted(stand_in.rows) == sorted(out.split())
    assert 3 < len(stand_in.rows) < 15


def test_the_spool_does_not_grow_without_bound(stand_in, item, tmp_path, monkeypatch):
    """Files whose items are all answered for go, though the queue is never empty."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2_000)
    with Client(stand_in.url, KEY, spool=tmp_path) as client:
        for _ in range(300):
            client.record(item)
        assert len(list(tmp_path.iterdir())) > 1
        assert client.flush()
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    assert len(stand_in.rows) == 300


def test_asyncio_with_a_spool(stand_in, item, tmp_path):
    """The disk is written by another thread than the event loop's."""
    stand_in.faults = iter(["busy"])

    async def talk():
        async with AsyncClient(stand_in.url, KEY, spool=tmp_path) as client:
            names = await asyncio.gather(*(client.record(item) for _ in range(30)))
            assert any(path.stat().st_size for path in tmp_path.iterdir())
            assert await client.flush()
            return names

    assert sorted(asyncio.run(talk())) == sorted(stand_in.rows)


# --- processes ----------------------------------------------------------------------------


def test_what_waits_at_exit_is_sent(stand_in, tmp_path):
    """A script that just ends loses nothing."""
    stand_in.faults = iter(["busy"])
    run("client = Client(url, key)\nfor _ in range(10): client.record(ITEM)", stand_in.url, KEY, "")
    assert len(stand_in.rows) == 10


def test_an_exit_waits_only_so_long(stand_in):
    """Where nobody answers the process ends all the same, and says what was lost."""
    stand_in.faults = itertools.repeat("busy")
    _, complaints = run("Client(url, key).record(ITEM)", stand_in.url, KEY, "")
    assert "1 items unsent, which are lost" in complaints


def test_after_a_fork_each_process_sends_its_own(stand_in, tmp_path):
    """The child neither sends the parent's items nor touches its spool."""
    stand_in.faults = iter(["busy"] * 4)
    code = """
client = Client(url, key, spool=spool)
print(client.record(ITEM), flush=True)
child = os.fork()
if not child:
    assert client.unsent == 0
    print(client.record(ITEM), flush=True)
    done = client.close()
    os._exit(0 if done else 1)
assert os.waitpid(child, 0)[1] == 0
print(client.record(ITEM), flush=True)
assert client.flush()
"""
    out, _ = run(code, stand_in.url, KEY, tmp_path)
    assert sorted(out.split()) == sorted(stand_in.rows)
    sent = [i["id"] for a in stand_in.arrivals if a.fault is None for i in a.items]
    assert sorted(sent) == sorted(stand_in.rows)
    assert list(tmp_path.iterdir()) == []


def test_a_fork_with_an_empty_spool_file_spoils_nothing(stand_in, tmp_path):
    """The file that the parent goes on writing to keeps its name when a child closes."""
    code = """
client = Client(url, key, spool=spool)
client.record(ITEM)
assert client.flush()
child = os.fork()
if not child:
    client.close()
    os._exit(0)
os.waitpid(child, 0)
assert len(os.listdir(spool)) == 1
"""
    run(code, stand_in.url, KEY, tmp_path)


def test_the_file_may_be_copied(stand_in, tmp_path):
    """It needs httpx and the standard library, and nothing else of this house."""
    source = Path(module.__file__).read_text()
    found = {
        (node.module if isinstance(node, ast.ImportFrom) else name.name).partition(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert found - set(sys.stdlib_module_names) == {"httpx"}


def test_nothing_goes_through_a_proxy_of_the_environment(stand_in, make, item, monkeypatch):
    """What people said is for the daemon's eyes."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    client = make()
    client.record(item)
    assert client.flush()
