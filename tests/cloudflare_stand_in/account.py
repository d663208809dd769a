"""What the stand-in's account holds, and what its models answer."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

LORA_MODEL = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
FILES = ("adapter_config.json", "adapter_model.safetensors")


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: int | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass
class Finetune:
    """An adapter. There is no way to take one away."""

    model: str
    name: str
    description: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    files: dict[str, bytes] = field(default_factory=dict)

    def listed(self) -> dict[str, Any]:
        """As the API shows it."""
        moment = self.made_at.isoformat()
        return {
            "id": self.id,
            "model": self.model,
            "name": self.name,
            "description": self.description,
            "public": False,
            "created_at": moment,
            "modified_at": moment,
        }


Speak = Callable[[str, Finetune | None, dict[str, Any]], str]
"""(prompt, finetune, the whole request) -> what the model says."""


def _parrot(prompt: str, finetune: Finetune | None, _: dict[str, Any]) -> str:
    return f"{'Kindly' if finetune else 'Plainly'}, {prompt[-40:]}"


@dataclass
class Account:
    """One account. A test sets and reads all of it."""

    id: str = "0123456789abcdef0123456789abcdef"
    token: str = "stand-in-token"
    token_status: str = "active"
    namespace: str = "fedcba9876543210fedcba9876543210"
    catalog: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {LORA_MODEL: {"lora": "true"}}
    )
    """Properties by model. Values come in mixed types, as the real ones."""
    finetunes: list[Finetune] = field(default_factory=list)
    list_shape: str = "flat"
    """`flat`, `nested`, or `object` (the published schema's), which can only show the last."""
    values: dict[str, list[bytes]] = field(default_factory=dict)
    """Every value that a key ever had."""
    stale_reads: int = 0
    """So many reads more show what was there before the last write."""
    unknown_runs: int = 0
    """So many runs more do not know a finetune that is there."""
    ignores_lora: bool = False
    speak: Speak = _parrot

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """A new finetune each time: nothing says that names must differ."""
        if body["name"].startswith("cf-public-") or body["model"] not in self.catalog:
            raise Refused(400, None, "The model or the name cannot be used.")
        made = Finetune(body["model"], body["name"], body.get("description", ""))
        self.finetunes.append(made)
        return made.listed()

    def listed(self) -> Any:
        """All finetunes, in one of the three shapes that are known."""
        shown = [finetune.listed() for finetune in self.finetunes]
        if self.list_shape == "object":
            return shown[-1] if shown else {}
        return [shown] if self.list_shape == "nested" else shown

    def keep(self, id_or_name: str, file_name: str, content: bytes) -> None:
        """A file is taken once."""
        finetune = self._find(id_or_name)
        if finetune is None:
            raise Refused(404, 3037, "Finetune not found")
        if file_name not in FILES or file_name in finetune.files:
            raise Refused(400, None, f"{file_name} is not allowed or already there.")
        finetune.files[file_name] = content

    def run(self, model: str, asked: dict[str, Any]) -> dict[str, Any]:
        """What the model says."""
        if model not in self.catalog:
            raise Refused(400, 5007, f"No such model {model}")
        lora = asked.get("lora")
        finetune = None if lora is None else self._loaded(model, lora)
        heard = None if self.ignores_lora else finetune
        return {"response": self.speak(asked["prompt"], heard, asked)}

    def _loaded(self, model: str, lora: str) -> Finetune:
        if str(self.catalog[model].get("lora")).lower() != "true":
            raise Refused(405, 5005, "LoRA unsupported for this model")
        finetune = self._find(lora)
        if finetune is None or finetune.model != model or self.unknown_runs > 0:
            self.unknown_runs -= 1
            raise Refused(400, 3037, "Finetune not found")
        if set(finetune.files) != set(FILES):
            raise Refused(400, 3039, "Finetune is missing model.safetensors or config.json")
        return finetune

    def read(self, key: str) -> bytes:
        """A value, perhaps the one before."""
        values = self.values.get(key, [])
        if self.stale_reads > 0:
            self.stale_reads -= 1
            values = values[:-1]
        if not values:
            raise Refused(404, 10009, "get: 'key not found'")
        return values[-1]

    def models(self, search: str) -> list[dict[str, Any]]:
        """The catalog."""
        return [
            {
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
                "name": name,
                "properties": [
                    {"property_id": key, "value": value} for key, value in properties.items()
                ],
            }
            for name, properties in self.catalog.items()
            if search in name
        ]

    def _find(self, id_or_name: str) -> Finetune | None:
        return next((f for f in self.finetunes if id_or_name in (f.id, f.name)), None)
