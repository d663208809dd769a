"""What /metrics tells of answering people."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from daemon.metrics import REGISTRY

REQUESTS = Counter(
    "bhavana_serving_requests",
    "Requests for an answer that ended, by how: answered, refused, failed, hung_up.",
    ["result"],
    registry=REGISTRY,
)
SECONDS = Histogram(
    "bhavana_serving_request_duration_seconds",
    "Time from a request for an answer to the end of it.",
    registry=REGISTRY,
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320),
)
FIRST_SECONDS = Histogram(
    "bhavana_serving_first_piece_seconds",
    "Time from a request to the first piece of its answer, waiting included.",
    registry=REGISTRY,
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40),
)
TOKENS = Counter(
    "bhavana_serving_tokens",
    "Tokens that were read and written for answers.",
    ["kind"],
    registry=REGISTRY,
)
WAITING = Gauge("bhavana_serving_waiting", "Requests that wait for a slot now.", registry=REGISTRY)
ANSWERING = Gauge(
    "bhavana_serving_answering", "Answers that are being given now.", registry=REGISTRY
)
EXCHANGES = Counter(
    "bhavana_serving_exchanges",
    "Exchanges that were to be recorded, by what became of it: recorded, not_recorded.",
    ["result"],
    registry=REGISTRY,
)
READY = Gauge(
    "bhavana_serving_ready", "1 while a process is there that answers.", registry=REGISTRY
)
STARTS = Counter(
    "bhavana_serving_starts",
    "Processes that were started to answer: for new releases, and for those that died.",
    registry=REGISTRY,
)
