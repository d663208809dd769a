"""Prometheus metrics: few, with labels of fixed cardinality."""

from __future__ import annotations

import math
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from scorers.ledger import RESULTS, Costs
from scorers.oversight import Health, Scores

REGISTRY = CollectorRegistry()

RECEIVED = Counter(
    "bhavana_received_items",
    "Items received at the ingest endpoint, by kind and result.",
    ["kind", "result"],
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "bhavana_ingest_request_duration_seconds",
    "Time from the first byte of an ingest request to its answer.",
    ["kind"],
    registry=REGISTRY,
)
REDACTED = Counter(
    "bhavana_redacted",
    "Pieces of personal data and secrets replaced before storing, by kind.",
    ["kind"],
    registry=REGISTRY,
)
CYCLES = Counter("bhavana_cycles", "Cycles that ended, by how.", ["state"], registry=REGISTRY)
CYCLE_RUNNING = Gauge("bhavana_cycle_running", "1 while a cycle is under way.", registry=REGISTRY)
LAST_CYCLE = Gauge(
    "bhavana_last_cycle_end_timestamp_seconds",
    "When the last cycle of this process ended, in Unix time.",
    registry=REGISTRY,
)
PANEL_TRUSTED = Gauge(
    "bhavana_panel_trusted",
    "1 when the panel passed its self-test at the start, 0 when it assesses nothing.",
    registry=REGISTRY,
)
RANDOM_REVIEWS = Gauge(
    "bhavana_panel_random_reviews",
    "Random reviews of answers that the panel judged; the next two stand on the newest of them.",
    registry=REGISTRY,
)
CALIBRATION_ERROR = Gauge(
    "bhavana_panel_calibration_error",
    "Expected calibration error of actual harm against people's word; NaN: too few reviews.",
    registry=REGISTRY,
)
AGREEMENT = Gauge(
    "bhavana_panel_auroc",
    "AUROC of actual harm against people's word; NaN: too few reviews.",
    registry=REGISTRY,
)
DRIFT = Gauge(
    "bhavana_panel_drift",
    "Population stability index of a score, since answers were last reviewed; NaN: too few.",
    ["score"],
    registry=REGISTRY,
)
TRAINING_HALTED = Gauge(
    "bhavana_training_halted",
    "1 while an alarm about the panel keeps cycles from training.",
    registry=REGISTRY,
)
REFITS = Counter(
    "bhavana_refits", "Refits of the panel's heads, by outcome.", ["outcome"], registry=REGISTRY
)
for _unknown in (CALIBRATION_ERROR, AGREEMENT):
    _unknown.set(math.nan)
OVERRIDDEN = Gauge(
    "bhavana_release_overridden",
    "1 while what serves was promoted by a person although its gates held it back.",
    registry=REGISTRY,
)
POSITION = Gauge(
    "bhavana_store_position", "Position of the last event in the store.", registry=REGISTRY
)
RELOAD_FAILED = Gauge(
    "bhavana_config_reload_failed",
    "1 when the last reload of the configuration was refused and the old one kept.",
    registry=REGISTRY,
)


def show_health(found: Health) -> None:
    """Sets the gauges of the panel's health."""

    def known(value: float | None) -> float:
        return math.nan if value is None else value

    RANDOM_REVIEWS.set(found.labels)
    CALIBRATION_ERROR.set(known(found.calibration_error))
    AGREEMENT.set(known(found.agreement))
    for score in Scores._fields:
        DRIFT.labels(score).set(known(found.drift.get(score)))
    TRAINING_HALTED.set(bool(found.alarms))


def shown(costs: Costs) -> bytes:
    """All metrics in Prometheus's text format, with what the judge costs."""
    judge = CollectorRegistry()
    judge.register(_JudgeCosts(costs))
    return generate_latest(REGISTRY) + generate_latest(judge)


class _JudgeCosts(Collector):
    """Its calls are made in other processes, so the ledger counts, and this tells."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The counters since the ledger was made; none where no judge was ever asked."""
        counters, today = self._costs
        if not counters:
            return
        requests = CounterMetricFamily(
            "bhavana_judge_requests",
            "Judge requests that ended, by result; cached and over_budget were not sent.",
            labels=["result"],
        )
        for result in (*RESULTS, "cached", "over_budget"):
            requests.add_metric([result], counters.get(("calls", result), 0.0))
        yield requests
        tokens = CounterMetricFamily(
            "bhavana_judge_tokens", "Tokens that the judge read and wrote.", labels=["kind"]
        )
        for kind in ("prompt", "answer"):
            tokens.add_metric([kind], counters.get(("tokens", kind), 0.0))
        yield tokens
        yield CounterMetricFamily(
            "bhavana_judge_request_seconds",
            "Time that judge requests took, those that failed included.",
            value=counters.get(("seconds", ""), 0.0),
        )
        for name, value in today._asdict().items():
            yield GaugeMetricFamily(
                f"bhavana_judge_today_{name}", f"Judge {name} of this day (UTC).", value=value
            )
