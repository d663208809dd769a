"""What Cloudflare says before anything is sent: of the token, the model, the slots, the key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from store.errors import Halted, NotFound, Rejected
from trainer.targets.cloudflare.client import Client
from trainer.targets.cloudflare.pointer import Voice, decoded
from trainer.targets.cloudflare.replies import CatalogEntry, Finetune
from trainer.targets.cloudflare.settings import CloudflareSettings

NO_DELETE = "Cloudflare has no delete for finetunes (workers-sdk#14450)"
Said = TypeVar("Said")


class Seen(NamedTuple):
    """What keeps a release from being served there, and what soon will."""

    faults: list[str]
    warnings: list[str]


def look(
    api: Client, settings: CloudflareSettings, *, name: str, description: str, line: str
) -> Seen:
    """Looks at all that a release needs. Raises Unavailable where Cloudflare cannot say."""
    seen = Seen([], [])
    finetunes = _told(api.finetunes, seen.faults)
    # A token of an account, rather than of a user, is not known to `verify`; a list shows it works.
    status = _told(api.token_status, seen.faults if finetunes is None else [])
    if status not in (None, "active"):
        seen.faults.append(f"the token is {status}")
    if finetunes is not None:
        _slots(finetunes, settings, name, description, seen)
    entry = _told(lambda: [api.catalog_entry(settings.model)], seen.faults)
    if entry is not None:
        _model(settings.model, entry[0], seen)
    key = settings.key_of(line)
    value = _told(lambda: api.read(key), seen.faults)
    if value is not None:
        _told(lambda: decoded(value, key), seen.faults)
    return seen


def require_served(api: Client, voices: Collection[Voice]) -> None:
    """Raises NotFound for a finetune that is gone, and Rejected for a model that is deprecated."""
    there = {finetune.id for finetune in api.finetunes()} if voices else set()
    for voice in voices:
        if voice.finetune_id not in there and not api.dry:
            raise NotFound(
                f"The finetune {voice.finetune_id} of {voice.version} is not at Cloudflare any "
                "more.",
                hint="Roll back to another release: `bhavana status` shows them.",
            )
    for model in sorted({voice.model for voice in voices}):
        _model(model, api.catalog_entry(model), seen := Seen([], []))
        if seen.faults:
            raise Rejected(
                f"Workers AI serves this no more: {'; '.join(seen.faults)}.",
                hint="Train for another model: targets.cloudflare.model and trainer.base.",
            )


def _model(model: str, entry: CatalogEntry | None, seen: Seen) -> None:
    if entry is None:
        seen.faults.append(f"the catalog has no {model} (any more)")
        return
    if not entry.serves_lora:
        seen.faults.append(f"by the catalog {model} serves no LoRA")
    if entry.deprecated_on is not None:
        is_past = entry.deprecated_on <= datetime.now(UTC).date()
        said = f"{model} is deprecated from {entry.deprecated_on} on"
        (seen.faults if is_past else seen.warnings).append(said)


def _slots(
    finetunes: Sequence[Finetune],
    settings: CloudflareSettings,
    name: str,
    description: str,
    seen: Seen,
) -> None:
    same = next((each for each in finetunes if each.name == name), None)
    if same is not None:  # an earlier try has made it: it takes no further slot
        if not is_ours(same, settings.model, description):
            seen.faults.append(f"the name {name} is taken by a finetune of something else")
        return
    most = settings.quotas.max_finetunes
    used = f"{len(finetunes)} of {most} finetunes are used, and {NO_DELETE}"
    if len(finetunes) >= most:
        seen.faults.append(used)
    elif len(finetunes) >= settings.quotas.warn_finetunes:
        seen.warnings.append(used)


def is_ours(found: Finetune, model: str, description: str) -> bool:
    """Whether a finetune of the right name is the right one. A list may leave descriptions out."""
    return found.model == model and found.description in ("", description)


def _told(ask: Callable[[], Said], faults: list[str]) -> Said | None:
    """What was asked for, or None and a fault. Unavailable is no fault: nothing is known then."""
    try:
        return ask()
    except (Rejected, Halted) as error:
        faults.append(error.message.rstrip("."))
        return None
