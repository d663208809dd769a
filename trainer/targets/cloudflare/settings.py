"""How Cloudflare Workers AI is reached, and what it takes: `[targets.cloudflare]`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, field

from store.records import MAIN, Noun
from trainer.targets.cloudflare.prompts import SPECIAL
from trainer.targets.limits import CLOUDFLARE, Limits

Feature = Literal["rslora", "bias", "modules_to_save", "embeddings"]
"""What Cloudflare's pages say nothing of, either way. DoRA is not among them: never."""


class Expects(NamedTuple):
    """What a model of Cloudflare's is made of."""

    base: str
    """The repository whose weights an adapter must have been trained on."""
    model_type: str
    """As adapter_config.json must say; PEFT does not write it."""
    template: str
    """Of trainer.templates.TAGGED: how its prompts look."""


MODELS = {
    "@cf/mistral/mistral-7b-instruct-v0.2-lora": Expects(
        "mistralai/Mistral-7B-Instruct-v0.2", "mistral", "mistral-v0.2"
    ),
    "@cf/google/gemma-2b-it-lora": Expects("google/gemma-2b-it", "gemma", "gemma"),
    "@cf/google/gemma-7b-it-lora": Expects("google/gemma-7b-it", "gemma", "gemma"),
}
"""Announced on 2026-05-08 as staying active. `@cf/meta-llama/llama-2-7b-chat-hf-lora` is, too, but
the trainer has no template for Llama 2."""


class Quotas(Noun, frozen=True, kw_only=True):
    """What an account may have; Cloudflare changes it, so it is configuration with a date."""

    as_of: str = "2026-04-21"
    """When its pages said so. Before, it was rank 8, 100 MB and 30 finetunes."""
    max_rank: Annotated[int, Meta(ge=1)] = 32
    max_adapter_bytes: Annotated[int, Meta(ge=1)] = 299_999_999
    max_finetunes: Annotated[int, Meta(ge=1)] = 100
    """Refused from here on: there is no delete, so a slot that is used stays used."""
    warn_finetunes: Annotated[int, Meta(ge=1)] = 80


class CloudflareSettings(Noun, frozen=True, kw_only=True):
    """An account, the model that its adapters are for, and where the pointer lies."""

    account_id: str = ""
    token: str = ""
    """A secret: give it as BHAVANA_TARGETS__CLOUDFLARE__TOKEN_FILE. It needs Workers AI Write and
    Workers KV Storage Write."""
    api: str = "https://api.cloudflare.com/client/v4"
    model: str = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
    base: str = ""
    """The base that the model is made of; empty: what is known of it (MODELS)."""
    model_type: Literal["", "mistral", "gemma", "llama"] = ""
    """Empty: what is known of the model."""
    template: str = ""
    """How its prompts look, by name of trainer.templates; empty: what is known of the model."""
    begins_with_bos: bool = True
    """Whether a prompt begins with the template's own mark; false where the server adds one."""
    gateway: str = ""
    """An AI Gateway through which probes go, past its cache; empty: none."""
    kv_namespace: str = ""
    """Id of the KV namespace that the Worker reads."""
    key: str = "bhavana"
    """Each line's pointer lies under `<key>-<line>`."""
    worker_url: str = ""
    """The Worker, asked after a switch which version it serves; empty: KV's word is enough."""
    quotas: Quotas = field(default_factory=Quotas)
    accept: tuple[Feature, ...] = ()
    """What is published although Cloudflare does not say that it serves it."""
    timeout_seconds: Annotated[float, Meta(gt=0, le=600)] = 60.0
    """For an answer; sending a file may take ten times as long."""
    retries: Annotated[int, Meta(ge=0, le=10)] = 4
    """Of what may be sent twice, after 5xx, no answer, or a model that is busy."""
    retry_seconds: Annotated[float, Meta(ge=0, le=60)] = 2.0
    """Before the first retry, doubled before each next one; Retry-After goes before it."""
    ready_seconds: Annotated[float, Meta(ge=0, le=7200)] = 600.0
    """How long an uploaded finetune may be unknown to the models."""
    switch_seconds: Annotated[float, Meta(ge=0, le=7200)] = 180.0
    """How long a moved pointer may take to be seen; KV itself says 60 s or more."""
    poll_seconds: Annotated[float, Meta(gt=0, le=600)] = 5.0
    probes: Annotated[int, Meta(ge=2, le=200)] = 16
    """Questions of a probe; each is asked twice."""
    least_agreement: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Mean share of an answer up to which the served words are those of this machine. Another
    kernel rounds differently, and one other word changes all that follow it."""

    def __repr__(self) -> str:
        """Without the token, which no traceback may show."""
        return f"CloudflareSettings(account_id={self.account_id!r}, model={self.model!r}, …)"

    @property
    def expects(self) -> Expects:
        """What the model is made of; empty strings where nothing is known and nothing was said."""
        known = MODELS.get(self.model, Expects("", "", ""))
        return Expects(
            self.base or known.base,
            self.model_type or known.model_type,
            self.template or known.template,
        )

    @property
    def limits(self) -> Limits:
        """What is looked at before training."""
        return Limits(
            max_rank=self.quotas.max_rank,
            max_adapter_bytes=self.quotas.max_adapter_bytes,
            bytes_per_weight=CLOUDFLARE.bytes_per_weight,
            model_types=CLOUDFLARE.model_types,
            serves_dora=CLOUDFLARE.serves_dora,
            serves_rslora="rslora" in self.accept,
        )

    def key_of(self, line: str = MAIN) -> str:
        """The line's key in KV."""
        return f"{self.key}-{line}"

    def is_made_of(self, base: str) -> bool:
        """Whether the model is this base: a hub id, or a folder, of which only the name tells."""
        expected, repository = self.expects.base, base.partition("@")[0]
        is_hub_id = repository.count("/") == 1 and not repository.startswith((".", "/", "~"))
        same_name = Path(base).name.lower() == expected.rpartition("/")[2].lower()
        return repository == expected or (same_name and not is_hub_id)

    def faults(self, base: str = "") -> Iterator[str]:
        """What keeps the target from work, each with the key and the next step.

        `base`: what is trained, if that is known already.
        """
        here = "targets.cloudflare"
        for name, what in (
            ("account_id", "it stands on the account's page"),
            ("token", "give it as BHAVANA_TARGETS__CLOUDFLARE__TOKEN_FILE"),
            ("kv_namespace", "`wrangler kv namespace create RELEASES` makes one and tells its id"),
        ):
            value = getattr(self, name)
            if not value:
                yield f"{here}.{name} is empty: {what}."
            elif not all("!" <= character <= "~" for character in value):
                yield f"{here}.{name} holds a blank or a letter that no request can carry."
        for name in ("api", "worker_url"):
            address = getattr(self, name)
            is_address = address.startswith(("http://", "https://"))
            if (address or name == "api") and (not is_address or "@" in address.partition("?")[0]):
                yield f"{here}.{name} must be an http(s) address without a password in it."
        for name, value in self.expects._asdict().items():
            if not value:
                known = ", ".join(MODELS)
                yield f"{here}.{name} is empty and {self.model} is none of {known}: name it."
        if base and not self.is_made_of(base):
            yield (
                f"{here}.model {self.model} is made of {self.expects.base}, and trainer.base is "
                f"{base}: change one of them, or say in {here}.base that they are the same."
            )
        if self.expects.template and self.expects.template not in SPECIAL:
            yield f"{here}.template must be one of {', '.join(SPECIAL)}."
