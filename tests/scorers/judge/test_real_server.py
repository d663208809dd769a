"""The judge against a real model server: protocol, schema, grammar, log-probabilities."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from scorers.forms import LINES
from scorers.judge import Judge
from store.errors import Misconfigured
from tests.scorers.judge.asking import (
    ROOT,
    MakeExperience,
    by_dimension,
)


@pytest.fixture(scope="session")
def model_server() -> Iterator[str]:
    """The address of llama.cpp's server with SmolLM2; it ends with its stdin."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.scorers.judge.model_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        yield process.stdout.readline().decode().strip()
        process.stdin.close()
        assert process.wait(30) == 0


RELUCTANT = ("The judge could not assess this.", "The judge's answer was cut off.")
"""What a small model may make of a form that it is held to."""
ASSESSES = 'root ::= "{\\"assessable\\": true, \\"score\\": " [0-9] ", \\"evidence\\": \\"\\"}"'
"""Keeps a model that would rather not from saying that it cannot assess."""


def test_a_real_servers_log_probabilities_become_the_score(
    model_server: str,
    judge: Callable[..., Judge],
    experience: MakeExperience,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The value is the mean over the digits that llama.cpp says might have stood there."""
    one = judge(
        url=f"{model_server}/v1",
        dimensions=("karuna",),
        output="grammar",
        extra={"grammar": ASSESSES},
        timeout_seconds=120.0,
    )
    posted = one._endpoint._post
    heard: list[bytes] = []

    def overheard(body: bytes) -> tuple[int, httpx.Headers, bytes]:
        reply = posted(body)
        heard.append(reply[2])
        return reply

    monkeypatch.setattr(one._endpoint, "_post", overheard)
    [findings] = one.score([experience("Hello?", "Hello! How can I help?")])
    found = by_dimension(findings)["karuna"]
    [told] = json.loads(heard[0])["choices"]
    digits = dict.fromkeys("0123456789", 0.0)
    [token] = [token for token in told["logprobs"]["content"] if token["token"].isdigit()]
    for other in token["top_logprobs"]:
        if other["token"].strip() in digits:
            digits[other["token"].strip()] += math.exp(other["logprob"])
    mean = sum(int(d) * p for d, p in digits.items()) / sum(digits.values())
    assert sum(p > 0 for p in digits.values()) > 1
    assert found.value == pytest.approx(mean * 10 / 9, abs=1e-3)
    assert 0 < found.confidence < 1


def test_a_real_server_keeps_to_the_schema(
    model_server: str, judge: Callable[..., Judge], experience: MakeExperience
) -> None:
    """A model that cannot judge still answers in the form: a number or "not assessable"."""
    one = judge(url=f"{model_server}/v1", dimensions=("harshness",), timeout_seconds=120.0)
    found = by_dimension(one.score([experience("Hello?", "Hello! How can I help?")])[0])
    finding = found["harshness"]
    assert (finding.value is not None and 0 <= finding.value <= 1) or finding.reason in (
        "The judge could not assess this.",
        "The judge's answer was cut off.",
    )


def test_a_real_server_is_forced_into_six_lines(
    model_server: str, judge: Callable[..., Judge], experience: MakeExperience
) -> None:
    """The grammar that we ship is one that llama.cpp takes, and what comes is parsed."""
    one = judge(url=f"{model_server}/v1", form="reward", output="grammar", timeout_seconds=120.0)
    found = by_dimension(one.score([experience("Hello?", "Hello! How can I help?")])[0])
    for line in (*LINES, "Overall"):
        finding = found[f"reward.{line.lower().replace('-', '_')}"]
        assert finding.value in range(1, 11)
        assert 0 <= finding.confidence <= 1


@pytest.mark.parametrize("form", ["rubric", "curation"])
def test_a_real_server_takes_our_grammars(
    model_server: str, judge: Callable[..., Judge], experience: MakeExperience, form: str
) -> None:
    """Whatever so small a model thinks, what it writes is in the form."""
    one = judge(
        url=f"{model_server}/v1",
        form=form,
        output="grammar",
        dimensions=("sacca",),
        timeout_seconds=120.0,
    )
    [found] = one.score([experience("Hello?", "Hello! How can I help?")])
    for finding in found:
        assert finding.value is not None or finding.reason in RELUCTANT


def test_a_real_servers_refusal_is_told(
    model_server: str, judge: Callable[..., Judge], experience: MakeExperience
) -> None:
    """A grammar that is none is refused in llama.cpp's own words, with what to do."""
    one = judge(url=f"{model_server}/v1", output="grammar", extra={"grammar": "root ::= nothing"})
    with pytest.raises(Misconfigured, match=r"grammar.*panel\.judge\.output"):
        one.score([experience("Hello?", "Hello! How can I help?")])
