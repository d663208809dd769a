"""Negative controls: a log that holds a canary fails the test that made it."""

from __future__ import annotations

import sys

import pytest

from store import keys
from store.events import Store
from tests import canaries

LEAKING = f"{canaries.LEAK}\nfrom daemon.cli import main\nsys.argv = ['bhavana', 'serve']\nmain()"


def test_a_daemon_that_logs_what_is_posted_is_found(serving, data, experience):
    """Where it ends, not only where somebody looks."""
    data.mkdir()
    with Store(f"sqlite:///{data / 'bhavana.db'}") as store:
        key = keys.create(store, name="t", scopes=("ingest",), source="web", actor="t")[1]
    leaking = serving(data, command=[sys.executable, "-c", LEAKING])
    with pytest.raises(AssertionError, match=canaries.WORD), leaking as daemon:
        assert daemon.post("/v1/experiences", key, experience).status_code == 201


@pytest.mark.parametrize("publishable", [False, True])
def test_the_text_of_a_key_is_found(store, publishable):
    """Of either kind; its public id may be named."""
    options = {"publishable": publishable, "origins": ("https://a.example",)}
    key, text = keys.create(store, name="t", scopes=("ingest",), source="web", actor="t", **options)
    canaries.assert_unspoken(f"key:{key.id} is refused, {text[:17]}[secret] as well")
    with pytest.raises(AssertionError, match="canary"):
        canaries.assert_unspoken(f"refused: {text}")


@pytest.mark.parametrize("said", [canaries.SENTENCE, canaries.SECRET, "nothing"])
def test_a_test_that_printed_a_canary_has_not_passed(said):
    """The rule that tests/conftest.py holds every test of the run to."""
    report = pytest.TestReport(
        "a", ("a", 1, "a"), {}, "passed", None, "call", sections=[("Captured stdout call", said)]
    )
    assert canaries.judged(report).passed == (said == "nothing")
