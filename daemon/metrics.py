"""Prometheus metrics: few, with labels of fixed cardinality."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

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
POSITION = Gauge(
    "bhavana_store_position", "Position of the last event in the store.", registry=REGISTRY
)
RELOAD_FAILED = Gauge(
    "bhavana_config_reload_failed",
    "1 when the last reload of the configuration was refused and the old one kept.",
    registry=REGISTRY,
)
