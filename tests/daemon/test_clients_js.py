"""The JavaScript client in a real browser, on a page of another origin, and in Node."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from daemon import clients
from store import experiences, keys
from store.events import Store
from tests.daemon.stand_in import FAULTS, PROXY, StandIn

MODULE = Path(clients.__file__).parent / "bhavana.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
NODE = shutil.which("node")
KEY = "bhvp_stand-in"
HEADER = f"""
import {{ Client, QueueFull, Stopped }} from "./bhavana.js";
const url = DOOR, key = "{KEY}";
const item = {{ source: "web", messages: [{{ role: "user", content: "Hello" }}], response: "Yes" }};
const report = (value) => fetch("/report", {{ method: "POST", body: JSON.stringify(value) }});
const many = (client, n) => Array.from({{ length: n }}, () => client.record(item));
"""
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
in_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory, eventually):
    """The address at which a headless browser opens and closes pages."""
    profile = tmp_path_factory.mktemp("profile")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    own = ["--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(
        [CHROMIUM, *flags, *own], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            port = profile / "DevToolsActivePort"
            eventually(lambda: port.is_file() and len(port.read_text().split()) == 2, "it starts")
            yield f"http://127.0.0.1:{port.read_text().split()[0]}/json"
        finally:
            process.terminate()


@pytest.fixture
def door():
    """The stand-in for the daemon's door."""
    with StandIn() as served:
        yield served


@pytest.fixture
def site():
    """The frontend's own server, which is another origin than the door."""
    with StandIn() as served:
        served.pages["/bhavana.js"] = ("text/javascript", MODULE.read_bytes())
        yield served


@pytest.fixture
def visit(browser, site, door):
    """Opens a page with this script; returns a function that closes it."""
    opened = []

    def ask(method, what):
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.request(method, f"{browser}/{what}")

    def close(page):
        opened.remove(page)
        assert ask("GET", f"close/{page}").status_code == 200

    def visit(script, url=None):
        code = HEADER.replace("DOOR", json.dumps(url or door.url)) + script
        site.pages["/"] = ("text/html", f"<script type=module>{code}</script>".encode())
        page = ask("PUT", f"new?{site.url}/").json()["id"]
        opened.append(page)
        return lambda: close(page)

    yield visit
    while opened:
        close(opened[-1])


@pytest.fixture
def reported(site, eventually):
    """Waits for the next thing that a page reports."""

    def reported():
        eventually(lambda: site.reports, "the page reports")
        return site.reports.pop(0)

    return reported


# --- in a browser -------------------------------------------------------------------------


@in_browser
def test_what_a_page_records_is_kept(visit, reported, door):
    """With the ids that it was told, in few requests, by leave of a CORS preflight."""
    visit("""
const client = new Client(url, key);
const ids = many(client, 250);
ids.push(client.feedback({ experience_id: ids[0], kind: "thumb", value: 1 }));
await report({ ids, sent: await client.flush(), unsent: client.unsent });
""")
    found = reported()
    assert (found["sent"], found["unsent"]) == (True, 0)
    assert sorted(door.rows) == sorted(found["ids"])
    assert sorted(found["ids"][:250]) == sorted(set(found["ids"][:250]))
    assert found["ids"][0].startswith("exp-")
    assert found["ids"][250].startswith("fb-")
    assert {"authorization", "content-type"} <= set(door.preflights[0].split(","))
    assert [len(a.items) for a in door.arrivals] in ([100, 1, 100, 50], [100, 100, 50, 1])
    assert {(a.key, a.by_query) for a in door.arrivals} == {(KEY, False)}
    assert all({"occurred_at", "given_at"} & row.keys() for row in door.rows.values())


@in_browser
@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_the_page_sends_the_same_again(visit, reported, door, fault):
    """The same ids and content, until there is an answer for each item."""
    door.faults = iter([fault])
    visit("""
const client = new Client(url, key, { timeout: 1000 });
await report({ ids: many(client, 3), sent: await client.flush() });
""")
    found = reported()
    assert found["sent"]
    assert list(door.rows) == found["ids"]
    assert door.conflicts == []
    assert [a.items for a in door.arrivals] == [door.arrivals[0].items] * 2


@in_browser
@pytest.mark.parametrize("count", [1, 3])
def test_what_a_proxy_refuses_a_page_sends_again(visit, reported, door, count):
    """Only the daemon's own word drops an item: a proxy in between may be mended."""
    door.faults = iter([f"{PROXY}400"] * 3)
    visit(f"""
const refused = [];
const onRejected = (item, result) => refused.push([item.id, result.status]);
const client = new Client(url, key, {{ onRejected, spool: localStorage }});
await report({{ ids: many(client, {count}), sent: await client.flush(), refused }});
""")
    found = reported()
    assert (found["sent"], found["refused"]) == (True, [])
    assert list(door.rows) == found["ids"]


@in_browser
def test_a_page_comes_back_no_sooner_than_it_was_told(visit, reported, door):
    """Retry-After is a lower bound; the door must expose the header to other origins."""
    door.faults, door.retry_after = iter(["busy"]), 1
    visit("""
const client = new Client(url, key);
client.record(item);
const began = performance.now();
await client.flush();
await report(performance.now() - began);
""")
    assert reported() >= 1000


@in_browser
def test_a_page_halves_a_list_that_is_too_large(visit, reported, door):
    """413 for the list says nothing about its items; 413 for one item hands it back."""
    door.most_bytes = 2_000
    visit("""
const refused = [];
const onRejected = (item, result) => refused.push([item.id, result.status, result.code]);
const client = new Client(url, key, { onRejected });
const ids = many(client, 40);
client.record({ ...item, id: "large", response: "so ".repeat(2000) });
await report({ ids, sent: await client.flush(), refused });
""")
    found = reported()
    assert (found["sent"], found["refused"]) == (True, [["large", "invalid", "body_too_large"]])
    assert list(door.rows) == found["ids"]


@in_browser
def test_a_page_halves_a_list_that_is_too_long_for_a_limit(visit, reported, door):
    """Else a bucket that is smaller than the list would be emptied by every try, for nothing."""
    door.most_at_once = 3
    visit("""
const client = new Client(url, key);
await report({ ids: many(client, 6), sent: await client.flush() });
""")
    found = reported()
    assert (list(door.rows), found["sent"]) == (found["ids"], True)


@in_browser
def test_a_key_that_is_revoked_between_two_halves_ends_both_in_a_page(visit, reported, door):
    """What was not answered for waits, whichever half it is in."""
    door.most_bytes, door.faults = 2_000, iter([None, "revoked"])
    visit("""
const client = new Client(url, key);
many(client, 40);
await report({ sent: await client.flush(), unsent: client.unsent, stopped: client.stopped });
""")
    stopped = "/v1/experiences answered 401 revoked"
    assert reported() == {"sent": False, "unsent": 40, "stopped": stopped}
    assert len(door.arrivals) == 2


@in_browser
def test_a_page_is_told_what_became_of_each_item(visit, reported, door):
    """207: what is refused goes to the callback, which may fail, and is not sent again."""
    visit("""
const refused = [];
const onRejected = (item, result) => { refused.push([item.id, result.status]); throw Error(); };
const client = new Client(url, key, { onRejected, spool: localStorage });
client.record({ ...item, id: "kept" });
client.record({ id: "wrong", source: "web" });
client.record({ ...item, id: "claimed", source: "exemplar" });
await report({ sent: await client.flush(), refused, left: localStorage.length });
""")
    found = reported()
    assert found["refused"] == [["wrong", "invalid"], ["claimed", "refused"]]
    assert (found["sent"], found["left"], len(door.arrivals)) == (True, 0, 1)


@in_browser
def test_a_refused_key_stops_a_page(visit, reported, door):
    """What waits stays in the spool; without one nothing more is taken; feedback goes on."""
    door.refuses_keys = True
    visit("""
const client = new Client(url, key), spooled = new Client(url, key, { spool: localStorage });
client.record(item), spooled.record(item);
const sent = [await client.flush(), await spooled.flush()];
let refusal = null;
try { client.record(item); } catch (error) { refusal = error instanceof Stopped; }
spooled.record(item);
await report({ sent, refusal, stopped: client.stopped, left: localStorage.length });
""")
    found = reported()
    assert found == {
        "sent": [False, False],
        "refusal": True,
        "stopped": "/v1/experiences answered 401 bad_key",
        "left": 2,
    }
    assert len(door.arrivals) == 2


@in_browser
def test_a_full_queue_refuses_a_page_rather_than_drops(visit, reported, door):
    """QueueFull, and what was taken before arrives; a closed client takes nothing."""
    visit("""
const client = new Client(url, key, { capacity: 3 });
const ids = many(client, 3), errors = [];
try { client.record(item); } catch (error) { errors.push(error instanceof QueueFull); }
await client.close();
try { client.record(item); } catch (error) { errors.push(error.message); }
await report({ ids, errors });
""")
    found = reported()
    assert found["errors"] == [True, "This client is closed."]
    assert list(door.rows) == found["ids"]


WAITING = """
const client = new Client(url, KEY, { spool: SPOOL });
const ids = [client.record(item), client.record({ ...item, response: "Ja \u2013 ja" })];
await report(ids);
"""


@in_browser
def test_what_waits_when_a_page_is_closed_is_beaconed(visit, reported, door, eventually):
    """The first answer says to wait a minute; the reader leaves; the items arrive all the same."""
    door.faults, door.retry_after = iter(["busy"]), 60
    close = visit(WAITING.replace("KEY", "key").replace("SPOOL", "null"))
    ids = reported()
    eventually(lambda: door.arrivals, "the first request arrives")
    close()
    eventually(lambda: door.rows, "the beacon arrives")
    beacon = door.arrivals[1]
    assert (beacon.by_query, beacon.media, beacon.key) == (True, "text/plain", KEY)
    assert list(door.rows) == ids
    assert door.rows[ids[1]]["response"] == "Ja – ja"


@in_browser
def test_a_secret_key_never_stands_in_an_address(visit, reported, door, eventually):
    """Such a page has no beacon: a request that outlives the page carries the key in a header."""
    door.faults, door.retry_after = iter(["busy"]), 60
    close = visit(WAITING.replace("KEY", '"bhv_secret"').replace("SPOOL", "null"))
    ids = reported()
    eventually(lambda: door.arrivals, "the first request arrives")
    close()
    eventually(lambda: door.rows, "the request arrives")
    assert [(a.key, a.by_query) for a in door.arrivals] == [("bhv_secret", False)] * 2
    assert list(door.rows) == ids


@in_browser
def test_what_was_beaconed_is_sent_again_until_it_is_answered_for(
    visit, reported, door, eventually
):
    """A beacon has no answer: the item stays in the spool, and the next page learns its fate."""
    door.faults, door.retry_after = iter(["busy"]), 60
    close = visit(WAITING.replace("KEY", "key").replace("SPOOL", "localStorage"))
    ids = reported()
    eventually(lambda: door.arrivals, "the first request arrives")
    close()
    eventually(lambda: door.rows, "the beacon arrives")
    visit("""
const before = localStorage.length;
const client = new Client(url, key, { spool: localStorage });
await report({ before, sent: await client.flush(), left: localStorage.length });
""")
    assert reported() == {"before": 2, "sent": True, "left": 0}
    assert [[i["id"] for i in a.items] for a in door.arrivals] == [ids] * 3
    assert list(door.rows) == ids
    assert door.conflicts == []


@in_browser
def test_what_waits_when_a_page_is_reloaded_is_sent_by_the_next(visit, reported, door, eventually):
    """Neither the requests nor the beacon get through; the spool does."""
    door.faults = itertools.repeat("unheard")
    visit("""
const client = new Client(url, key, { spool: localStorage });
if (sessionStorage.again) {
  await report({ waiting: client.unsent, sent: await client.flush(), left: localStorage.length });
} else {
  sessionStorage.again = true;
  await report(many(client, 3));
  location.reload();
}
""")
    ids = reported()
    assert door.rows == {}
    eventually(lambda: any(a.by_query for a in door.arrivals), "the beacon was tried")
    door.faults = iter(())
    assert reported() == {"waiting": 3, "sent": True, "left": 0}
    assert list(door.rows) == ids


@in_browser
def test_a_hidden_page_hands_over_what_waits_once(visit, reported, site, door, eventually):
    """On a phone it may never be seen again; going away afterwards adds nothing."""
    door.faults, door.retry_after = iter(["busy"]), 60
    hide = """
while (!(await fetch("/hide")).ok) await new Promise((resolve) => setTimeout(resolve, 50));
Object.defineProperty(document, "visibilityState", { value: "hidden" });
document.dispatchEvent(new Event("visibilitychange"));
await report("hidden");
"""
    close = visit(WAITING.replace("KEY", "key").replace("SPOOL", "null") + hide)
    ids = reported()
    eventually(lambda: door.arrivals, "the first request arrives")
    site.pages["/hide"] = ("text/plain", b"now")
    assert reported() == "hidden"
    eventually(lambda: door.rows, "the beacon arrives")
    close()
    visit('new Client(url, key).record({ ...item, id: "later" });')
    eventually(lambda: "later" in door.rows, "the next page's item arrives")
    assert list(door.rows) == [*ids, "later"]
    assert len(door.arrivals) == 3


@in_browser
def test_a_full_storage_costs_no_item(visit, reported, door):
    """They wait in memory instead."""
    visit("""
const spool = { length: 0, setItem() { throw Error("full"); }, removeItem() {} };
const client = new Client(url, key, { spool });
await report({ ids: many(client, 2), sent: await client.flush() });
""")
    assert reported()["sent"]
    assert len(door.rows) == 2


@in_browser
def test_the_module_sets_no_globals(visit, reported):
    """A page may have any names of its own."""
    visit("""
const names = Object.getOwnPropertyNames(globalThis);
const frame = document.createElement("iframe");
document.documentElement.append(frame);
const fresh = new Set(Object.getOwnPropertyNames(frame.contentWindow));
await report(names.filter((name) => !fresh.has(name) && !/^\\d+$/.test(name)));
""")
    assert reported() == []


@in_browser
def test_it_runs_in_a_worker_of_the_browser(visit, reported, site, door):
    """Where there is no window and no document."""
    code = (
        HEADER.replace("DOOR", json.dumps(door.url))
        + """
const client = new Client(url, key);
await report({ ids: many(client, 2), sent: await client.close() });
"""
    )
    site.pages["/worker.js"] = ("text/javascript", code.encode())
    visit('new Worker("/worker.js", { type: "module" });')
    found = reported()
    assert found["sent"]
    assert list(door.rows) == found["ids"]


@pytest.fixture
def real(serving, data, site):
    """A real daemon and the text of a publishable key for it, bound to the frontend's origin."""
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        key = keys.create(
            store,
            name="page",
            scopes=("ingest", "feedback"),
            source="web",
            publishable=True,
            origins=(site.url,),
            actor="t",
        )[1]
    with serving(data, BHAVANA_LIMITS__PUBLISHABLE_PER_SECOND="1000") as daemon:
        yield daemon, key


def stored(daemon):
    """The ids that the real daemon has recorded, one for each event."""
    with Store(f"sqlite:///{daemon.data / 'bhavana.db'}") as store:
        events = store.follow(types=["experience.recorded"])
        return [event.stream.removeprefix("experience/") for event in events]


FULL = """
const full = { ...item, occurred_at: new Date(), consent: { training: true } };
"""


@in_browser
def test_a_page_of_an_allowed_origin_talks_to_the_real_daemon(visit, reported, real):
    """Preflight, key in the header, readable answers: nothing stands between them."""
    daemon, key = real
    visit(
        FULL
        + f"""
const refused = [];
const onRejected = (item, result) => refused.push([item.id, result.status, result.code]);
const client = new Client(url, "{key}", {{ spool: localStorage, onRejected }});
const ids = Array.from({{ length: 120 }}, () => client.record(full));
client.record({{ ...full, id: "claimed", source: "exemplar" }});
client.feedback({{ experience_id: ids[0], kind: "thumb", value: 1 }});
await report({{ ids, refused, sent: await client.flush(), left: localStorage.length }});
""",
        daemon.url,
    )
    found = reported()
    assert (found["sent"], found["left"]) == (True, 0)
    assert found["refused"] == [["claimed", "refused", "wrong_source"]]
    assert sorted(stored(daemon)) == sorted(found["ids"])


@in_browser
def test_the_real_daemon_keeps_what_a_closed_page_beaconed(visit, reported, door, real, eventually):
    """And knows it for a duplicate when the next page sends it again."""
    daemon, key = real
    door.upstream, door.faults, door.retry_after = daemon.url, iter(["busy"]), 60
    close = visit(WAITING.replace("KEY", f'"{key}"').replace("SPOOL", "localStorage"))
    ids = reported()
    eventually(lambda: door.arrivals, "the first request arrives")
    close()
    assert eventually(lambda: stored(daemon), "the beacon arrives") == ids
    visit(f"""
const client = new Client(url, "{key}", {{ spool: localStorage }});
await report({{ waiting: client.unsent, sent: await client.flush(), left: localStorage.length }});
""")
    assert reported() == {"waiting": 2, "sent": True, "left": 0}
    assert stored(daemon) == ids
    assert [a.by_query for a in door.arrivals] == [False, True, False]


@in_browser
def test_through_a_faulty_network_a_page_stores_each_item_exactly_once(visit, reported, door, real):
    """The real daemon keeps; the network before it loses requests and answers by a seed."""
    daemon, key = real
    chance = random.Random(3)
    door.upstream = daemon.url
    door.faults = (chance.choice(FAULTS) if chance.random() < 0.5 else None for _ in range(8))
    visit(
        FULL
        + f"""
const client = new Client(url, "{key}", {{ timeout: 1000, spool: localStorage }});
const ids = Array.from({{ length: 500 }}, () => client.record(full));
await report({{ ids, sent: await client.flush(60000), left: localStorage.length }});
"""
    )
    found = reported()
    assert (found["sent"], found["left"]) == (True, 0)
    assert any(a.fault for a in door.arrivals)
    assert sorted(stored(daemon)) == sorted(found["ids"])
    with Store(f"sqlite:///{daemon.data / 'bhavana.db'}") as store:
        assert all(experiences.get(store, name).consent.training for name in found["ids"])


# --- without a browser --------------------------------------------------------------------


@in_node
def test_it_runs_in_node(door, tmp_path):
    """As in a Worker: no document, no storage; the process ends when all is answered for."""
    door.faults = iter(["busy", "ack lost"])
    shutil.copy(MODULE, tmp_path / "bhavana.mjs")
    code = HEADER.replace("DOOR", json.dumps(door.url)).replace("bhavana.js", "bhavana.mjs")
    (tmp_path / "frontend.mjs").write_text(
        code
        + """
const client = new Client(url, "bhv_secret");
const ids = many(client, 250);
console.log(JSON.stringify({ ids, sent: await client.close(30000), unsent: client.unsent }));
"""
    )
    ran = subprocess.run(
        [NODE, tmp_path / "frontend.mjs"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert (found["sent"], found["unsent"]) == (True, 0)
    assert list(door.rows) == found["ids"]
    assert door.conflicts == []


@in_node
def test_a_process_that_only_records_ends_after_it_has_sent(door, tmp_path):
    """The timer of a first item keeps Node alive until there is an answer."""
    shutil.copy(MODULE, tmp_path / "bhavana.mjs")
    code = HEADER.replace("DOOR", json.dumps(door.url)).replace("bhavana.js", "bhavana.mjs")
    (tmp_path / "frontend.mjs").write_text(code + 'many(new Client(url, "bhv_secret"), 3);')
    subprocess.run([NODE, tmp_path / "frontend.mjs"], timeout=60, check=True)
    assert len(door.rows) == 3
