"""A copy of an adapter as Cloudflare takes it, and its way there. The archive stays as it is."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from trainer.adapter import FILES
from trainer.job import write_atomically
from trainer.targets.cloudflare.client import Client
from trainer.targets.cloudflare.errors import UnknownFinetune
from trainer.targets.cloudflare.pointer import Voice
from trainer.targets.cloudflare.prompts import render
from trainer.targets.cloudflare.settings import CloudflareSettings
from trainer.targets.cloudflare.weights import tensors_of, write_16_bits
from trainer.targets.target import Journal

CONFIG, WEIGHTS = FILES
BEGUN, SENT = "begun", "sent"
UNSENT = dict.fromkeys(FILES, "")
"""What is noted of a finetune that is new."""


def prepare(adapter: Path, model_type: str, folder: Path) -> None:
    """Writes the upload copy: `model_type` is said, which PEFT does not, and weights have 16 bits.

    Raises Rejected as the checks do.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = json.loads((adapter / CONFIG).read_bytes()) | {"model_type": model_type}
    write_atomically(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True).encode())
    write_16_bits(adapter / WEIGHTS, tensors_of(adapter / WEIGHTS), folder / WEIGHTS)


def send(api: Client, journal: Journal, release: str, finetune: str, folder: Path) -> None:
    """Uploads what the journal does not call sent, the config first. Raises Unavailable."""
    noted = journal.noted(release, "publish")
    for name in FILES:
        if noted.get(name) != SENT:
            journal.note(release, "publish", {name: BEGUN})
            api.upload(finetune, folder / name, name, begun=noted.get(name) == BEGUN)
            journal.note(release, "publish", {name: SENT})


def is_sent(noted: Mapping[str, str]) -> bool:
    """Whether both files are there, by the journal."""
    return all(noted.get(name) == SENT for name in FILES)


def await_ready(api: Client, voice: Voice, settings: CloudflareSettings) -> None:
    """Returns when the model answers with the finetune.

    Raises UnknownFinetune where it still does not know it, and what else a run can raise.
    """
    greeting = render(
        voice.prompt_template,
        [{"role": "user", "content": "Hello"}],
        begins_with_bos=voice.begins_with_bos,
    )
    deadline = time.monotonic() + settings.ready_seconds
    while True:
        try:
            api.run(voice.model, greeting, lora=voice.finetune_id, most_tokens=1)
            return
        except UnknownFinetune:
            if time.monotonic() >= deadline:
                raise
        time.sleep(settings.poll_seconds)
