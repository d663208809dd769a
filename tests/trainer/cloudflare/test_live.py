"""Against the real Cloudflare, where the environment names an account. The second test uses up one
of its finetune slots for ever.

BHAVANA_TEST_CLOUDFLARE_ACCOUNT, …_TOKEN, …_NAMESPACE    an account, a token, a KV namespace's id
BHAVANA_TEST_CLOUDFLARE_PUBLISH=1                        upload a random adapter, too
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from store.records import new_id
from tests.cloudflare_stand_in.adapters import write_lora
from tests.trainer.cloudflare.conftest import BASE, Noted
from trainer.adapter import adapter_hash
from trainer.targets.archive import Archive
from trainer.targets.cloudflare.client import Client
from trainer.targets.cloudflare.looks import look
from trainer.targets.cloudflare.prompts import render
from trainer.targets.cloudflare.settings import CloudflareSettings
from trainer.targets.cloudflare.target import CloudflareTarget
from trainer.targets.place import Place
from trainer.targets.settings import TargetsSettings
from trainer.targets.target import Delivery, Traffic

PREFIX = "BHAVANA_TEST_CLOUDFLARE_"
ACCOUNT: Mapping[str, str] = {
    name: os.environ.get(PREFIX + name, "") for name in ("ACCOUNT", "TOKEN", "NAMESPACE")
}
pytestmark = pytest.mark.skipif(
    not all(ACCOUNT.values()), reason=f"{PREFIX}ACCOUNT, TOKEN and NAMESPACE name no account"
)
LAYERS, HIDDEN, KEYS, RANK = 32, 4096, 1024, 4
"""Of Mistral-7B, and of the adapter."""


@pytest.fixture
def settings() -> CloudflareSettings:
    """Of the account; its pointer lies under a key of the test's own."""
    return CloudflareSettings(
        account_id=ACCOUNT["ACCOUNT"],
        token=ACCOUNT["TOKEN"],
        kv_namespace=ACCOUNT["NAMESPACE"],
        key=new_id("bhavana-test"),
    )


def test_the_account_can_be_looked_at(settings: CloudflareSettings) -> None:
    """Token, catalog, list and KV answer in forms that we read."""
    with Client(settings) as api:
        seen = look(api, settings, name=new_id("none"), description="", line="main")
        assert seen.faults == []
        assert api.read(settings.key_of()) is None
        assert api.run(
            settings.model,
            render(settings.expects.template, [{"role": "user", "content": "Say hello."}]),
            lora=None,
            most_tokens=8,
        )


@pytest.mark.skipif(f"{PREFIX}PUBLISH" not in os.environ, reason=f"{PREFIX}PUBLISH is not set")
def test_a_release_goes_there_and_back(settings: CloudflareSettings, tmp_path: Path) -> None:
    """A random adapter is published, changes the answers, is pointed to and left again."""
    chance = np.random.default_rng(1)
    weights = {
        f"base_model.model.model.layers.{n}.self_attn.{module}.lora_{side}.weight": chance.normal(
            0, 0.02, shape
        ).astype(np.float32)
        for n in range(LAYERS)
        for module, out in (("q_proj", HIDDEN), ("v_proj", KEYS))
        for side, shape in (("A", (RANK, HIDDEN)), ("B", (out, RANK)))
    }
    release = new_id("release")
    adapter = write_lora(tmp_path / release, weights, r=RANK)
    place = Place(
        folder=tmp_path,
        archive=Archive(tmp_path),
        settings=TargetsSettings(cloudflare=settings),
        journal=Noted(),  # type: ignore[arg-type]
        work=tmp_path / "work",
    )
    target = CloudflareTarget(place)
    delivery = Delivery(
        release=release, adapter=str(adapter), adapter_hash=adapter_hash(adapter), base=BASE
    )
    target.preflight(delivery)
    finetune = target.publish(delivery).rpartition("#")[2]
    prompt = render(settings.expects.template, [{"role": "user", "content": "What is tea?"}])
    with Client(settings) as api:
        plain, adapted = (
            api.run(settings.model, prompt, lora=lora, most_tokens=32) for lora in (None, finetune)
        )
    assert plain != adapted
    target.activate(Traffic(release=release))
    assert target.active() == Traffic(release=release)
    target.restore(None)
    assert target.active() == Traffic(release=None)
