"""The rest of the HTTP edge: health, metrics, its own description, and unknown paths."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from daemon.api import make_app
from store.errors import Unavailable

METRICS = {
    "bhavana_received_items",
    "bhavana_ingest_request_duration_seconds",
    "bhavana_cycles",
    "bhavana_cycle_running",
    "bhavana_last_cycle_end_timestamp_seconds",
    "bhavana_store_position",
    "bhavana_config_reload_failed",
}


@pytest.fixture
def ready():
    """Whether the daemon takes work: a test may change the one value."""
    return [True]


@pytest.fixture
def client(store, ready):
    """A client of the application."""
    with TestClient(make_app(store, lambda: ready[0]), raise_server_exceptions=False) as opened:
        yield opened


def test_a_living_process_is_healthy(client, ready):
    """/healthz answers while the process does, ready or not."""
    ready[0] = False
    assert client.get("/healthz").json() == {"status": "ok"}


def test_readiness_tells_the_position(client):
    """/readyz asks the store and answers 200."""
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready", "position": 0})


def test_not_ready_asks_to_come_again(client, ready):
    """While starting or stopping /readyz is 503 with Retry-After."""
    ready[0] = False
    response = client.get("/readyz")
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "unavailable"


def test_a_store_that_does_not_answer_is_not_ready(client, store, monkeypatch):
    """When the store is unavailable the daemon is not ready, and says when to ask again."""

    def fail():
        raise Unavailable

    monkeypatch.setattr(store, "position", fail)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert "retry-after" in response.headers


def test_metrics_are_prometheus_text(client):
    """/metrics can be read by Prometheus and holds what the house measures."""
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(response.text)}
    assert names >= METRICS


def test_the_description_contains_the_ingest_routes(client):
    """/openapi.json describes both ingest routes with resolvable schemas of their items."""
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, name in (("/v1/experiences", "Experience"), ("/v1/feedback", "Feedback")):
        operation = document["paths"][path]["post"]
        one, many = operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
        assert one == many["items"] == {"$ref": f"#/components/schemas/New{name}"}
        assert operation["requestBody"]["content"].keys() >= {"application/x-ndjson", "text/plain"}
        assert {"200", "201", "207", "401", "409", "413", "422", "429", "503"} <= (
            operation["responses"].keys()
        )
        assert schemas[f"New{name}"]["additionalProperties"] is False
        assert set(schemas[name]["required"]) - set(schemas[f"New{name}"]["required"]) <= {
            "id",
            "source",
        }
    assert schemas["Experience"]["properties"].keys() >= {"id", "messages", "response", "consent"}
    assert {"/healthz", "/readyz", "/metrics"} <= document["paths"].keys()
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas


def _references(value):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for child in value.values():
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/experience", 404, "not_found"),
        ("PUT", "/v1/experiences", 405, "method_not_allowed"),
        ("DELETE", "/v1/feedback", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods_are_problems(client, method, path, status, code):
    """404 and 405 are problem+json, and 405 says what is allowed."""
    response = client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (document["status"], document["code"]) == (status, code)
    assert {"type", "title", "detail"} <= document.keys()
    assert status != 405 or response.headers["allow"]


def test_an_unforeseen_fault_is_a_problem_without_its_insides(client, store, monkeypatch, capsys):
    """500 tells the caller nothing of how the house is built."""

    def fail():
        raise ZeroDivisionError("the secret insides")

    monkeypatch.setattr(store, "position", fail)
    response = client.get("/readyz")
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert "insides" not in response.text
