"""Webhooks: signed, in order, at least once over failures and kills, and without people's words."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from msgspec.structs import replace

from daemon.settings import Settings, load
from daemon.webhooks import delivery, message
from daemon.webhooks.settings import WebhookSettings
from daemon.wiring import Parts
from store import canaries, cursors, cycles, experiences, schedule
from store.errors import Misconfigured
from store.events import Store
from store.records import Canary, Cycle, Poison, Taint, now
from store.taints import mark, tell_poison

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqrTwjUPD8ILPZI"


class Listener:
    """A real server on this machine: it checks each signature and answers as it is told."""

    def __init__(self):
        self.heard = []
        self.answers = []
        self.on_message = lambda: None
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = listener.answers.pop(0) if listener.answers else 204
                if status < 300:
                    listener.heard.append((dict(self.headers), body))
                    listener.on_message()
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def types(self):
        """What was told, in the order in which it was heard."""
        return [json.loads(body)["type"] for _, body in self.heard]

    def ids(self):
        """The messages' ids."""
        return [headers["webhook-id"] for headers, _ in self.heard]


@pytest.fixture
def listener():
    """Who is told."""
    found = Listener()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def parts(store, tmp_path, listener):
    """What the daemon works with; the webhook is there from the beginning of the log."""
    hook = WebhookSettings(url=listener.url, secret=SECRET)
    settings = Settings(data_dir=str(tmp_path), webhook=hook)
    cursors.advance(store, delivery.NAME, 0)
    return Parts(settings=settings, store=store, target=None)


@pytest.fixture
def courier(monkeypatch):
    """Who delivers; it tries again at once."""
    monkeypatch.setattr(delivery, "FIRST_WAIT_SECONDS", 0.0)
    return delivery.Courier()


def _canary(state="watching", extensions=0):
    return Canary(
        id="canary-1", release="release-1", previous=None, predecessor="base", target="local",
        share=0.1, since=0, state=state, began_at=now(), until=now(), extensions=extensions,
        changed_at=now(),
    )  # fmt: skip


def _ended(name, state):
    return Cycle(id=name, reason="t", started_at=now(), position=0, state=state)


def _happens(store):
    """A trial, cycles of every end, a taint; and people's words, which are nobody's business."""
    for canary in (_canary(), _canary("extended", 1), _canary("asked", 1), _canary("passed", 1)):
        store.append([canaries.changed(canary)])
    for state in ("failed", "held_back", "promoted", "unchanged"):
        cycles.start(store, _ended(state, "running"))
        cycles.finish(store, _ended(state, state))
    mark(store, [Taint(
        release="release-1", cause="erasure", of="erasure-1", policy="warn", tainted_at=now(),
    )])  # fmt: skip
    tell_poison(
        store, Poison(id="poison-1", scope="source", name="w", reason="r", found_at=now()),
        actor="test",
    )  # fmt: skip


TOLD = [
    *("canary.started", "canary.extended", "canary.asked", "canary.passed"),
    *("cycle.failed", "cycle.held_back", "release.tainted"),
]


def test_every_automatic_act_is_told_once_and_in_order(parts, courier, listener):
    """With the event's own content; what people do and what is nothing new is not told."""
    _happens(parts.store)
    assert courier.deliver(parts) == len(TOLD)
    assert courier.deliver(parts) == 0
    assert listener.types() == TOLD
    assert len(set(listener.ids())) == len(TOLD)
    told = json.loads(listener.heard[0][1])
    assert told["data"]["release"] == "release-1"
    assert datetime.fromisoformat(told["timestamp"]).tzinfo is not None
    assert delivery.waiting(parts.store, parts.settings.webhook) == []


def test_the_signature_is_that_of_the_standard():
    """The published example: its secret, id, moment, body and signature."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    told = message.Message("msg_p5jXN8AQM9LWM0D4loKWxJek", "test", b'{"test": 2432232314}')
    headers = message.headers(told, [key], datetime.fromtimestamp(1614265330, UTC))
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_each_secret_signs_while_one_takes_the_place_of_another(parts, courier, listener):
    """A receiver that knows the old or the new one finds its signature in the list."""
    other = base64.b64encode(b"k" * 24).decode()
    hook = replace(parts.settings.webhook, secret=f"{SECRET} whsec_{other}")
    parts.store.append([canaries.changed(_canary())])
    courier.deliver(replace(parts, settings=replace(parts.settings, webhook=hook)))
    [(headers, body)] = listener.heard
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for signature, key in zip(
        headers["webhook-signature"].split(), (hook.keys[0], b"k" * 24), strict=True
    ):
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert signature == f"v1,{expected}"


@pytest.mark.parametrize("status", [500, 429, 404, 302])
def test_what_is_not_taken_is_told_again_under_the_same_id(parts, courier, listener, status):
    """And what comes after it waits, so that the order holds. No redirect is followed."""
    parts.store.append([canaries.changed(_canary())])
    parts.store.append([canaries.changed(_canary("passed"))])
    listener.answers = [status, status]
    assert [courier.deliver(parts) for _ in range(3)] == [0, 0, 2]
    assert listener.types() == ["canary.started", "canary.passed"]


def test_a_server_that_is_down_loses_nothing(parts, courier, listener):
    """Nobody listens, then somebody does."""
    parts.store.append([canaries.changed(_canary())])
    away = replace(parts.settings.webhook, url="http://127.0.0.1:9/hook", timeout_seconds=1)
    down = replace(parts, settings=replace(parts.settings, webhook=away))
    assert courier.deliver(down) == 0
    assert len(delivery.waiting(parts.store, away)) == 1
    assert courier.deliver(parts) == 1


def test_a_kill_between_the_answer_and_the_cursor_tells_it_again(
    parts, courier, listener, monkeypatch
):
    """Once more under the same id, and nothing is left out."""
    _happens(parts.store)
    real = cursors.advance

    def killed(store, name, position):
        if len(listener.heard) == 2:
            raise KeyboardInterrupt
        real(store, name, position)

    monkeypatch.setattr(cursors, "advance", killed)
    with pytest.raises(KeyboardInterrupt):
        courier.deliver(parts)
    monkeypatch.setattr(cursors, "advance", real)
    delivery.Courier().deliver(parts)
    assert listener.types() == [*TOLD[:2], *TOLD[1:]]
    assert listener.ids()[1] == listener.ids()[2]


def test_waits_grow_until_something_is_taken(parts, listener, monkeypatch):
    """A server that is down for a day is not asked every second."""
    clock = [0.0]
    monkeypatch.setattr(delivery.time, "monotonic", lambda: clock[0])
    courier = delivery.Courier()
    parts.store.append([canaries.changed(_canary())])
    listener.answers = [500] * 20
    tried = []
    while len(listener.answers) > 6:
        before = len(listener.answers)
        courier.deliver(parts)
        if len(listener.answers) < before:
            tried.append(clock[0])
        clock[0] += 5.0
    waits = [later - earlier for earlier, later in pairwise(tried)]
    assert waits[:5] == [5, 10, 20, 40, 80]
    assert waits[-1] == delivery.LONGEST_WAIT_SECONDS


def test_what_nobody_took_for_days_is_passed_over(parts, courier, listener, monkeypatch):
    """One message that the other side never takes does not silence those behind it."""
    parts.store.append([canaries.changed(_canary())])
    parts.store.append([canaries.changed(_canary("passed"))])
    monkeypatch.setattr(delivery, "now", lambda: now() + timedelta(days=4))
    listener.answers = [400]
    assert courier.deliver(parts) == 1
    assert listener.types() == ["canary.passed"]


def test_only_what_was_asked_for_is_told(parts, courier, listener):
    """By type of message; the rest is passed over."""
    hook = replace(parts.settings.webhook, events=("canary.asked", "cycle.failed"))
    _happens(parts.store)
    assert courier.deliver(replace(parts, settings=replace(parts.settings, webhook=hook))) == 2
    assert listener.types() == ["canary.asked", "cycle.failed"]


def test_what_was_before_the_webhook_is_not_told(store, parts, courier, listener):
    """A new receiver does not hear the history of years."""
    _happens(store)
    with store._write.begin() as connection:
        connection.exec_driver_sql("DELETE FROM cursors")
    assert courier.deliver(parts) == 0
    store.append([canaries.changed(_canary("failed", 1))])
    assert courier.deliver(parts) == 1
    assert listener.types() == ["canary.failed"]


def test_one_of_several_daemons_tells(parts, courier, listener):
    """While another holds the lease this one is silent."""
    parts.store.append([canaries.changed(_canary())])
    with schedule.holding(parts.store, "another daemon", delivery.NAME):
        assert courier.deliver(parts) == 0
    assert courier.deliver(parts) == 1
    assert len(listener.heard) == 1


def test_no_words_of_people_are_told(parts, courier, listener, make_experience):
    """Experiences are in the log, and never in a message."""
    experiences.record(parts.store, [make_experience("e-1", prompt="the heron at the weir")])
    _happens(parts.store)
    courier.deliver(parts)
    assert not any(b"heron" in body for _, body in listener.heard)


def test_a_far_cursor_moves_on_though_there_is_nothing_to_tell(
    parts, courier, make_experience, monkeypatch
):
    """So that a busy log is not looked through at each tick."""
    monkeypatch.setattr(delivery, "FAR", 5)
    experiences.record(parts.store, [make_experience(f"e-{i}") for i in range(9)])
    courier.deliver(parts)
    assert cursors.at(parts.store, delivery.NAME) == 9


def test_a_cursor_never_goes_back(store):
    """Whoever comes second with an older position changes nothing."""
    for position in (5, 3, 7):
        cursors.advance(store, "reader", position)
    assert cursors.at(store, "reader") == 7
    assert cursors.at(store, "other") is None


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("url = 'ftp://x/y'\nsecret = '" + SECRET + "'", "http or https"),
        ("url = 'https://x/y'", "24 bytes"),
        ("url = 'https://x/y'\nsecret = 'whsec_c2hvcnQ='", "24 bytes"),
        ("url = 'https://x/y'\nsecret = 'whsec_***'", "base64"),
    ],
)
def test_a_webhook_that_cannot_be_signed_is_refused_at_the_start(tmp_path, section, said):
    """With the key, and how a secret is made; the secret itself is not repeated."""
    path = tmp_path / "bhavana.toml"
    path.write_text(f"[webhook]\n{section}\n")
    with pytest.raises(Misconfigured, match=said) as caught:
        load(path, {})
    assert SECRET not in str(caught.value)


def test_the_secret_may_lie_in_a_file(tmp_path):
    """As every other secret does."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    given = {"BHAVANA_WEBHOOK__URL": "https://example.org/h"}
    given["BHAVANA_WEBHOOK__SECRET_FILE"] = str(tmp_path / "secret")
    assert load(None, given).webhook.secret == SECRET


def test_the_daemon_watches_and_tells_over_a_kill(serving, data, store_url, listener, eventually):
    """A trial of which nobody hears is extended, then asked of a person; each is told in order."""
    changes = {
        "BHAVANA_STORE__URL": store_url,
        "BHAVANA_WEBHOOK__URL": listener.url,
        "BHAVANA_WEBHOOK__SECRET": SECRET,
        "BHAVANA_CANARY__LOOK_MINUTES": "0.02",
        "BHAVANA_CANARY__EXTEND_HOURS": "0.0001",
        "BHAVANA_CANARY__MOST_EXTENSIONS": "2",
    }
    with Store(store_url) as store:
        cursors.advance(store, delivery.NAME, 0)
        store.append([canaries.changed(_canary())])
    listener.answers = [500] * 1_000
    with serving(data, **changes) as first:
        eventually(lambda: len(listener.answers) < 1_000, "a message is tried")
        first.process.kill()
        first.process.wait()
    assert listener.heard == []
    listener.answers = []
    with serving(data, **changes):
        eventually(lambda: "canary.asked" in listener.types(), "a person is asked")
    told = ["canary.started", "canary.extended", "canary.extended", "canary.asked"]
    assert listener.types() == told
