"""What is seen of an adapter before Cloudflare is asked: every fault at once, and no slot used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from store.errors import Misconfigured, Rejected, Unavailable
from tests.cloudflare_stand_in import LORA_MODEL, Finetune, StandIn
from tests.cloudflare_stand_in.adapters import PLACE, matrices
from tests.trainer.cloudflare.conftest import BASE, Make, Noted
from trainer.adapter import FILES, adapter_hash
from trainer.base import Base
from trainer.targets.cloudflare.settings import MODELS, CloudflareSettings, Quotas
from trainer.targets.cloudflare.target import CloudflareTarget
from trainer.targets.target import Delivery

Deliver = Callable[..., Delivery]


def with_matrix(shape: tuple[int, ...], name: str = "lora_A", value: float = 0.01) -> Any:
    """The usual matrices and one more."""
    full = f"{PLACE}.o_proj.{name}.weight"
    return matrices() | {full: np.full(shape, value, np.float32)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "LOHA"}, "only LORA for CAUSAL_LM"),
        ({"task_type": "SEQ_CLS"}, "only LORA for CAUSAL_LM"),
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "whether rslora is served"),
        ({"bias": "lora_only"}, "whether bias is served"),
        ({"modules_to_save": ["lm_head"]}, "whether modules_to_save is served"),
        ({"r": 64}, r"rank 64 \(r\)"),
        ({"r": None}, r"rank None \(r\)"),
        ({"rank_pattern": {"layers.0": 48}}, r"rank 48 \(layers.0\)"),
        ({"model_type": "qwen2"}, "says model_type qwen2, the model is mistral"),
        ({"base_model_name_or_path": "google/gemma-2b-it"}, "trained on google/gemma-2b-it"),
        ({"weights": with_matrix((48, 16))}, "o_proj.lora_A.weight has rank 48"),
        ({"weights": with_matrix((16, 48), "lora_B")}, "o_proj.lora_B.weight has rank 48"),
        ({"weights": with_matrix((4, 16), "lora_embedding_A")}, "embeddings"),
        ({"weights": with_matrix((4, 16), "bias")}, "no LoRA matrices"),
        ({"weights": with_matrix((4, 16), value=np.nan)}, "not finite in 16 bits"),
        ({"weights": with_matrix((4, 16), value=1e5)}, "not finite in 16 bits"),
        ({"weights": {"x.lora_A.weight": np.zeros((4, 4), np.float64)}}, "weights in F64"),
    ],
    ids=lambda v: None if isinstance(v, str) else "-".join(v),
)
def test_what_is_not_served_is_told(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn, change: Any, said: str
) -> None:
    """By its name, before a slot is used."""
    with pytest.raises(Rejected, match=said):
        target.preflight(deliver(**change))
    assert {e.method for e in stand_in.exchanges} == {"GET"}


def test_every_fault_is_told_at_once(make: Make, deliver: Deliver, stand_in: StandIn) -> None:
    """Those of the files here and those of the account there."""
    stand_in.account.token_status = "expired"
    stand_in.account.catalog[LORA_MODEL] = {"lora": False}
    stand_in.account.finetunes += [Finetune(LORA_MODEL, f"other-{n}") for n in range(100)]
    with pytest.raises(Rejected) as raised:
        make(kv_namespace="another").preflight(deliver(r=64, use_dora=True))
    for said in (
        "rank 64",
        "use_dora",
        "the token is expired",
        "serves no LoRA",
        "100 of 100 finetunes are used",
        "workers-sdk#14450",
        "no such KV namespace",
    ):
        assert said in raised.value.message


@pytest.mark.parametrize("lacking", FILES)
def test_a_missing_file_is_told(target: CloudflareTarget, deliver: Deliver, lacking: str) -> None:
    """By its name."""
    delivery = deliver()
    (Path(delivery.adapter) / lacking).unlink()
    with pytest.raises(Rejected, match=f"lacks {lacking}"):
        target.preflight(delivery)


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-7], lambda b: b[:20], lambda _: b"", lambda b: b"x" + b]
)
def test_weights_that_are_not_whole_are_told(
    target: CloudflareTarget, deliver: Deliver, spoil: Callable[[bytes], bytes]
) -> None:
    """The head and the file's length must agree."""
    delivery = deliver()
    path = Path(delivery.adapter) / FILES[1]
    path.write_bytes(spoil(path.read_bytes()))
    changed = msgspec.structs.replace(delivery, adapter_hash=adapter_hash(Path(delivery.adapter)))
    with pytest.raises(Rejected, match="no whole safetensors file"):
        target.preflight(changed)


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_a_config_that_is_none_is_told(
    target: CloudflareTarget, deliver: Deliver, content: str
) -> None:
    """It must be a JSON object."""
    delivery = deliver()
    (Path(delivery.adapter) / FILES[0]).write_text(content)
    with pytest.raises(Rejected, match="no JSON object"):
        target.preflight(delivery)


def test_too_many_bytes_are_told_as_they_would_be_sent(make: Make, deliver: Deliver) -> None:
    """In 16 bits: half of what lies here may be small enough."""
    delivery = deliver(weights=matrices(rank=32))
    size = (Path(delivery.adapter) / FILES[1]).stat().st_size
    make(quotas=Quotas(max_adapter_bytes=size - 1000)).preflight(delivery)
    with pytest.raises(Rejected, match=r"MB are taken \(2026-04-21\)"):
        make(quotas=Quotas(max_adapter_bytes=size // 4)).preflight(delivery)


def test_what_nobody_documents_can_be_tried(make: Make, deliver: Deliver) -> None:
    """By its name in the settings; DoRA never."""
    make(accept=("rslora",)).preflight(deliver(use_rslora=True))
    with pytest.raises(Rejected, match="bias"):
        make(accept=("rslora",)).preflight(deliver(use_rslora=True, bias="all"))


@pytest.mark.parametrize(
    ("base", "fits"),
    [
        (BASE, True),
        (
            Base(name="/srv/Mistral-7B-Instruct-v0.2", kind="folder", location="/srv", hash="h"),
            True,
        ),
        (Base(name="/srv/models/mine", kind="folder", location="/srv", hash="h"), False),
        (
            Base(name="me/Mistral-7B-Instruct-v0.2", kind="hub", location="me/M@0", hash="h"),
            False,
        ),
    ],
    ids=["the hub's", "a folder of its name", "another folder", "somebody's copy"],
)
def test_the_base_must_be_the_models(make: Make, deliver: Deliver, base: Base, fits: bool) -> None:
    """And where the name says nothing, a person may: targets.cloudflare.base."""
    delivery = deliver(base=base, base_model_name_or_path=base.name)
    make(base=base.name).preflight(delivery)
    if fits:
        make().preflight(delivery)
    else:
        with pytest.raises(Rejected, match=r"is made of mistralai/Mistral-7B-Instruct-v0\.2"):
            make().preflight(delivery)


def test_a_line_may_not_take_cloudflares_own_names(
    target: CloudflareTarget, deliver: Deliver
) -> None:
    """Public finetunes begin with cf-public-."""
    with pytest.raises(Rejected, match="cf-public-"):
        target.preflight(deliver(line="cf-public"))


# --- what the account says ----------------------------------------------------------------


def test_few_slots_are_told_before_they_are_used_up(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn, journal: Noted
) -> None:
    """From 80 on; an adapter whose finetune is there already takes no further one."""
    stand_in.account.finetunes += [Finetune(LORA_MODEL, f"other-{n}") for n in range(80)]
    target.preflight(deliver())
    assert "80 of 100" in journal.noted("release-1", "preflight")["warning"]
    stand_in.account.finetunes += [Finetune(LORA_MODEL, f"more-{n}") for n in range(19)]
    target.publish(deliver())
    target.preflight(deliver())
    assert len(stand_in.account.finetunes) == 100


def test_a_name_that_something_else_has_is_told(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """It is neither adopted nor used twice."""
    delivery = deliver()
    name = f"main-release-1-{delivery.adapter_hash[:8]}"
    stand_in.account.finetunes.append(Finetune(LORA_MODEL, name, "Somebody's"))
    with pytest.raises(Rejected, match="taken by a finetune of something else"):
        target.preflight(delivery)
    with pytest.raises(Rejected, match="taken by a finetune of something else"):
        target.publish(delivery)
    assert stand_in.asked("create", "asset") == []


def test_a_planned_deprecation_is_told(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn, journal: Noted
) -> None:
    """Before its day it is a warning."""
    stand_in.account.catalog[LORA_MODEL] = {
        "lora": True,
        "planned_deprecation_date": "2999-05-30",
    }
    target.preflight(deliver())
    assert "deprecated from 2999-05-30" in journal.noted("release-1", "preflight")["warning"]


def test_a_refused_token_is_told_without_itself(
    make: Make, deliver: Deliver, stand_in: StandIn
) -> None:
    """What it needs, and where to put another; Cloudflare's words without our secret."""
    with pytest.raises(Rejected, match=r"token is refused \(HTTP 401, 10000\)") as raised:
        make(token="wrong-token").preflight(deliver())
    assert "wrong-token" not in str(raised.value)
    stand_in.exchanges.clear()


def test_a_token_of_the_account_works(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """The verification knows those of users alone; what it can do is seen by doing it."""
    stand_in.faults["verify"] = [401]
    target.preflight(deliver())


def test_what_is_wrong_here_is_told_when_cloudflare_is_down(
    target: CloudflareTarget, deliver: Deliver, stand_in: StandIn
) -> None:
    """It stays wrong; without a fault here nothing is known yet."""
    stand_in.faults["list"] = [500] * 6
    with pytest.raises(Unavailable, match="Cloudflare itself failed"):
        target.preflight(deliver())
    with pytest.raises(Rejected, match="rank 64"):
        target.preflight(deliver(r=64))


# --- settings -----------------------------------------------------------------------------


def test_settings_that_lack_something_are_told_together(make: Make) -> None:
    """Each key with the next step."""
    with pytest.raises(Misconfigured) as raised:
        make(account_id="", token="two words", kv_namespace="", api="cloudflare.com", model="@cf/x")
    for key in ("account_id", "token", "kv_namespace", "api", "base", "model_type", "template"):
        assert f"targets.cloudflare.{key} " in str(raised.value)


def test_the_token_stands_in_no_repr() -> None:
    """A traceback shows reprs."""
    assert "secret" not in repr(CloudflareSettings(token="secret"))


@pytest.mark.parametrize("model", MODELS)
def test_known_models_need_no_further_words(make: Make, model: str) -> None:
    """Base, family and template are known."""
    assert make(model=model).limits.model_types


def test_a_model_that_is_not_known_can_be_described(
    make: Make, deliver: Deliver, stand_in: StandIn
) -> None:
    """By its base, family and template."""
    described: dict[str, Any] = {"base": "me/mine", "model_type": "llama", "template": "llama-3.1"}
    stand_in.account.catalog["@cf/x"] = {"lora": "true"}
    base = Base(name="me/mine", kind="hub", location="me/mine@0", hash="h")
    delivery = deliver(base=base, base_model_name_or_path="me/mine")
    make(model="@cf/x", **described).preflight(delivery)
    stand_in.exchanges.clear()


def test_a_copy_is_the_same_each_time(
    make: Make, deliver: Deliver, stand_in: StandIn, tmp_path: Path
) -> None:
    """So that a second try sends the bytes of the first."""
    from trainer.targets.cloudflare.upload import prepare

    delivery = deliver()
    copies = []
    for n in range(2):
        prepare(Path(delivery.adapter), "mistral", tmp_path / f"copy-{n}")
        copies.append([(tmp_path / f"copy-{n}" / name).read_bytes() for name in FILES])
    assert copies[0] == copies[1]
    config = json.loads(copies[0][0])
    assert config.pop("model_type") == "mistral"
    assert config == json.loads((Path(delivery.adapter) / FILES[0]).read_bytes())


def test_the_copys_numbers_are_the_archives_rounded(deliver: Deliver, tmp_path: Path) -> None:
    """float32 becomes float16; bfloat16 and float16 go as they are."""
    import torch
    from safetensors.torch import load_file, save_file

    from trainer.targets.cloudflare.upload import prepare

    folder = Path(deliver().adapter)
    weights = {
        "a.lora_A.weight": torch.randn(4, 8, generator=torch.Generator().manual_seed(1)),
        "b.lora_A.weight": torch.full((4, 8), 0.1, dtype=torch.bfloat16),
        "c.lora_A.weight": torch.full((4, 8), 0.1, dtype=torch.float16),
    }
    save_file(weights, folder / FILES[1])
    prepare(folder, "mistral", tmp_path / "copy")
    copied = load_file(tmp_path / "copy" / FILES[1])
    assert copied.keys() == weights.keys()
    assert torch.equal(copied["a.lora_A.weight"], weights["a.lora_A.weight"].half())
    for name in ("b.lora_A.weight", "c.lora_A.weight"):
        assert copied[name].dtype == weights[name].dtype
        assert torch.equal(copied[name], weights[name])
