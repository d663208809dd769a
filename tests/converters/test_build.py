"""The build in a process of its own: the same dataset, the same errors, and it can be stopped."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from converters.build import Order, build_apart
from converters.selection import Asked
from store.errors import NotEnoughData, Unavailable
from store.records import Policy, now
from tests.converters.building import ALIKE, build

POLICY = Policy(min_examples=10, **ALIKE)


@pytest.fixture
def order(store, store_url, keep, make_assessed, tmp_path):
    """To build from forty answers."""
    position = keep(store, [make_assessed(f"e-{i}") for i in range(40)])
    return Order(
        store=store_url,
        high_water=None,
        folder=str(tmp_path / "dataset"),
        asked=Asked(
            policy=POLICY,
            panel="panel-1",
            as_of=position,
            moment=now(),
            ends=(7,),
            earlier={"train": (5,), "validation": (4,), "test": (3,)},
            forbidden=("Who are you?",),
            barred=frozenset({1, 2}),
        ),
        dataset_id="dataset-1",
        cycle_id="cycle-1",
    )


def _bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def test_a_child_builds_what_this_process_would(order, store, tmp_path):
    """Byte for byte, and the same record but for its place and time."""
    apart = build_apart(order)
    asked = {name: getattr(order.asked, name) for name in Asked.__struct_fields__}
    here = build(store, tmp_path / "here", **asked)
    assert _bytes(apart.path) == _bytes(here.path)
    same = {"path": here.path, "built_at": here.built_at}
    assert msgspec.structs.replace(apart, **same) == here
    assert apart.funnel["paraphrase"] == 2


def test_too_few_are_told_as_they_are_here(order):
    """The error of the house, with its hint, and nothing is written."""
    policy = msgspec.structs.replace(POLICY, min_examples=41)
    asked = msgspec.structs.replace(order.asked, policy=policy)
    with pytest.raises(NotEnoughData, match="38 match, 41 are asked for") as caught:
        build_apart(msgspec.structs.replace(order, asked=asked))
    assert "No single threshold" in caught.value.hint
    assert not Path(order.folder).exists()


def test_a_stop_ends_the_wait(order):
    """The service does not hang on a long build."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(Unavailable):
        build_apart(order, stop)
    assert not Path(order.folder).exists()
