"""OpenAI's chat completions as its clients know them, answered by real llama.cpp."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from store.records import Experience

from .conftest import QUESTION, Answering, events, question


def _said(response):
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def _mark(text):
    """Three letters in the middle of a text that are not in it before."""
    return next(text[i : i + 3] for i in range(4, len(text)) if text.index(text[i : i + 3]) == i)


def _error(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code
    return error


def _kept(home: Answering, name: str) -> Experience:
    with home.client() as client:
        return client.get(f"/v1/experiences/{name}").json()


def test_an_answer_has_what_clients_look_for(at_home):
    """Who spoke, why it ended, and what it took."""
    answer = at_home.ask().json()
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "release-1"
    assert abs(answer["created"] - time.time()) < 120
    [choice] = answer["choices"]
    assert choice["index"] == 0
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] == "length"
    usage = answer["usage"]
    assert usage["completion_tokens"] == 6
    assert usage["prompt_tokens"] + 6 == usage["total_tokens"]


def test_a_stream_says_the_same_piece_by_piece(at_home):
    """Its pieces together are the answer; its last ones say how it ended, and what it took."""
    with at_home.client() as client:
        body = question(stream=True, stream_options={"include_usage": True})
        response = client.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, end, usage = events(response.text)
    assert {p["object"] for p in [*pieces, end, usage]} == {"chat.completion.chunk"}
    assert len({(p["id"], p["model"], p["created"]) for p in [*pieces, end, usage]}) == 1
    assert pieces[0]["choices"][0]["delta"]["role"] == "assistant"
    said = "".join(p["choices"][0]["delta"].get("content", "") for p in pieces)
    assert said == _said(at_home.ask())
    assert [p["choices"][0]["finish_reason"] for p in pieces] == [None] * len(pieces)
    assert end["choices"][0]["finish_reason"] == "length"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 6)


def test_a_stream_counts_tokens_only_for_who_asks(at_home):
    """As the API has it: otherwise no piece has a usage."""
    with at_home.client() as client:
        response = client.post("/v1/chat/completions", json=question(stream=True))
    assert all("usage" not in event for event in events(response.text))


def test_the_same_seed_draws_the_same_answer(at_home):
    """Another seed another one; greedy needs none."""
    warm = {"temperature": 1.5, "max_tokens": 12}
    first, again, other = (_said(at_home.ask(seed=s, **warm)) for s in (7, 7, 8))
    assert first == again != other
    assert _said(at_home.ask()) == _said(at_home.ask(seed=8))


def test_it_stops_where_it_is_told_to(at_home):
    """At a word of the client's, which is not part of the answer."""
    whole = _said(at_home.ask())
    mark = _mark(whole)
    answer = at_home.ask(stop=[mark]).json()["choices"][0]
    assert answer["finish_reason"] == "stop"
    assert answer["message"]["content"] == whole[: whole.index(mark)]


def test_a_conversation_is_heard_to_its_end(at_home):
    """System, turns and all: what came before changes what is said."""
    turns = [
        {"role": "system", "content": "You speak of mountains only."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Mountains are high."},
        {"role": "user", "content": QUESTION},
    ]
    long, short = at_home.ask(messages=turns), at_home.ask()
    assert long.json()["usage"]["prompt_tokens"] > short.json()["usage"]["prompt_tokens"]
    assert _said(long)


def test_what_can_be_talked_to_is_listed(at_home):
    """And what is listed can be talked to."""
    with at_home.client() as client:
        listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    [model] = listed["data"]
    assert (model["id"], model["object"]) == ("bhavana", "model")
    assert _said(at_home.ask(model=model["id"])) == _said(at_home.ask(model="main"))


def test_an_unknown_model_is_not_found(at_home):
    """And it is said which ones there are."""
    error = _error(at_home.ask(model="gpt-4"), 404, "model_not_found")
    assert "bhavana" in error["message"]
    assert error["param"] == "model"


def test_a_conversation_that_is_too_long_is_refused(at_home):
    """With the numbers, rather than cut or answered from its middle; a stream has not begun."""
    for stream in (False, True):
        response = at_home.ask("sea " * 600, stream=stream)
        error = _error(response, 400, "context_length_exceeded")
        assert "512" in error["message"]


@pytest.mark.parametrize(
    ("fields", "status", "code", "where"),
    [
        ({"tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools"),
        ({"temperature": 3}, 400, "invalid", "temperature"),
        ({"messages": []}, 400, "invalid", "messages"),
        ({"user": "Ada Lovelace"}, 400, "invalid", "subject"),
        ({"messages": [{"role": "user", "content": "a\x07b"}]}, 400, "control_character", None),
    ],
)
def test_a_fault_is_told_in_the_words_of_the_api(at_home, fields, status, code, where):
    """Its clients show `message` and look at `code` and `param`."""
    error = _error(at_home.ask(**fields), status, code)
    assert error["type"] == "invalid_request_error"
    assert where is None or error["param"] == where


def test_it_takes_json_alone(at_home):
    """No beacon of a browser, no lines."""
    with at_home.client() as client:
        head = {"Content-Type": "text/plain"}
        response = client.post("/v1/chat/completions", content="{}", headers=head)
    _error(response, 415, "unsupported_media_type")


def test_only_a_key_for_it_is_answered(at_home):
    """No key, a wrong one, one for other things, or of no source where exchanges are kept."""
    house = at_home.house
    for secret, status, code in (
        (None, 401, "missing_key"),
        ("bhv_no", 401, "bad_key"),
        (house.key("ingest"), 403, "wrong_scope"),
        (house.key("admin", source=None), 403, "no_source"),
    ):
        head = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        url = f"{at_home.daemon.url}/v1/chat/completions"
        with httpx.Client(trust_env=False, headers=head) as client:
            _error(client.post(url, json=question()), status, code)


def test_eight_at_once_are_all_answered(at_home):
    """More than there are slots; each hears what it would hear alone."""
    alone = _said(at_home.ask())
    with ThreadPoolExecutor(8) as people:
        heard = list(people.map(lambda n: _said(at_home.ask(user=f"u-{n}")), range(8)))
    assert heard == [alone] * 8


# --- what is kept -------------------------------------------------------------------------


def test_an_exchange_is_kept_as_an_experience(at_home):
    """Under the answer's id, by who gave it, for the key's source; not to be learned from."""
    head = {"Bhavana-Conversation": "c-kept", "Bhavana-Subject": "s-kept"}
    answer = at_home.ask("Write to ada@example.org.", headers=head).json()
    assert answer["bhavana"] == {"recorded": True, "training": False}
    kept = _kept(at_home, answer["id"])["experience"]
    assert kept["response"] == answer["choices"][0]["message"]["content"]
    assert (kept["model"], kept["source"]) == ("release-1", "web")
    assert (kept["conversation_id"], kept["subject"]) == ("c-kept", "s-kept")
    assert "ada@example.org" not in json.dumps(kept)  # redacted as at any door
    assert kept["consent"] == {"training": False, "policy": None}


def _until_whole(at_home, **fields):
    """An answer that was not cut: it ends at a mark that the client set."""
    return at_home.ask(stop=[_mark(_said(at_home.ask()))], **fields)


def test_consent_is_kept_where_it_was_given(at_home):
    """With the text that was agreed to."""
    head = {"Bhavana-Consent": "training; policy=2026-01"}
    answer = _until_whole(at_home, headers=head).json()
    assert answer["bhavana"] == {"recorded": True, "training": True}
    consent = _kept(at_home, answer["id"])["experience"]["consent"]
    assert consent == {"training": True, "policy": "2026-01"}


def test_an_answer_that_was_cut_is_nothing_to_learn_from(at_home):
    """Kept it is, since somebody heard it."""
    answer = at_home.ask(headers={"Bhavana-Consent": "training"}).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["bhavana"] == {"recorded": True, "training": False}
    assert _kept(at_home, answer["id"])["experience"]["metadata"] == {"finished": False}


def test_who_does_not_want_it_is_not_recorded(at_home):
    """`store: false`, OpenAI's own word for it."""
    answer = at_home.ask(store=False).json()
    assert answer["bhavana"] == {"recorded": False, "training": False}
    with at_home.client() as client:
        assert client.get(f"/v1/experiences/{answer['id']}").status_code == 404


def test_the_end_of_a_stream_says_that_it_was_kept(at_home):
    """And it was."""
    with at_home.client() as client:
        *_, end = events(client.post("/v1/chat/completions", json=question(stream=True)).text)
    assert end["bhavana"]["recorded"]
    assert _kept(at_home, end["id"])["experience"]["response"] == _said(at_home.ask())


def test_feedback_can_be_given_on_an_answer(at_home):
    """By its id."""
    name = at_home.ask().json()["id"]
    with at_home.client() as client:
        body = {
            "kind": "thumb",
            "value": -1,
            "experience_id": name,
            "given_at": "2026-01-02T03:04:05Z",
        }
        assert client.post("/v1/feedback", json=body).status_code == 201


def test_erasure_reaches_what_was_said(at_home):
    """By the person's pseudonym, as sent in OpenAI's `user`."""
    name = at_home.ask("The secret word is plover.", user="s-erased").json()["id"]
    with at_home.client() as client:
        wish = {"scope": "subject", "scope_id": "s-erased"}
        assert client.post("/v1/erasures", json=wish).status_code in (200, 201, 202)
        assert client.get(f"/v1/experiences/{name}").status_code in (404, 410)


def test_what_a_client_did_not_wait_for_is_kept_as_far_as_it_was_sent(at_home, eventually):
    """And the model is not kept busy for nobody."""
    head = {"Bhavana-Conversation": "c-cut", "Bhavana-Consent": "training"}
    body = question("Count to a thousand in words.", stream=True, max_tokens=128)
    with (
        at_home.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body, headers=head) as response,
    ):
        lines = (line for line in response.iter_lines() if line)
        heard = [json.loads(next(lines).removeprefix("data: ")) for _ in range(3)]

    def kept():
        with at_home.client() as client:
            return client.get("/v1/experiences", params={"conversation_id": "c-cut"}).json()[
                "experiences"
            ]

    [found] = eventually(kept, "it is kept")
    assert found["id"] == heard[0]["id"]
    experience = _kept(at_home, found["id"])["experience"]
    sent = "".join(e["choices"][0]["delta"].get("content", "") for e in heard)
    assert experience["response"].startswith(sent)
    assert experience["metadata"] == {"finished": False}
    assert not experience["consent"]["training"]
    assert 'bhavana_serving_requests_total{result="hung_up"}' in at_home.daemon.get("/metrics").text


def test_nothing_that_was_said_is_in_a_log(at_home):
    """Neither in the daemon's nor in that of the process that answers."""
    at_home.ask("The watchword is xylophone.")
    logs = [at_home.daemon.log()]
    logs += [p.read_text() for p in at_home.house.data.glob("serving/*/log.txt")]
    assert len(logs) == 2
    assert not any("xylophone" in log for log in logs)


def test_the_metrics_tell_of_it(at_home):
    """Requests by how they ended, tokens, and that somebody answers."""
    at_home.ask()
    at_home.ask(model="gpt-4")
    shown = at_home.daemon.get("/metrics").text
    for line in (
        'bhavana_serving_requests_total{result="answered"}',
        'bhavana_serving_requests_total{result="refused"}',
        'bhavana_serving_tokens_total{kind="answer"}',
        'bhavana_serving_exchanges_total{result="recorded"}',
        "bhavana_serving_ready 1.0",
        "bhavana_serving_answering 0.0",
    ):
        assert line in shown


def test_the_description_tells_of_it(at_home):
    """Both routes stand in /openapi.json with their schemas."""
    document = at_home.daemon.get("/openapi.json").json()
    described = document["paths"]["/v1/chat/completions"]["post"]
    assert described["security"] == [{"key": []}]
    assert "ChatRequest" in document["components"]["schemas"]
    assert "/v1/models" in document["paths"]
