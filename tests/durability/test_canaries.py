"""A negative control: a daemon of the nursery that logs what is posted fails its test."""

from __future__ import annotations

import httpx
import pytest

from tests import canaries
from tests.durability.daemons import Place
from tests.durability.load import experience


def test_a_daemon_that_logs_what_is_posted_is_found(nursery, tmp_path):
    """However it ends."""
    (tmp_path / "data").mkdir()
    place = Place(nursery, tmp_path / "data", tmp_path, first=canaries.LEAK)
    headers = {"Authorization": f"Bearer {place.key}"}
    daemon = place.start()
    with httpx.Client(base_url=daemon.url, headers=headers, trust_env=False) as client:
        answer = client.post("/v1/experiences", json=experience("e-1", "It was kind."))
    assert answer.status_code == 201
    with pytest.raises(AssertionError, match=canaries.WORD):
        daemon.kill()
