"""What Cloudflare says went wrong, as the house's errors: by the code, which says more than the
HTTP status. Status 429 alone means three things with opposite next steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

from store.errors import BhavanaError, Misconfigured, NotFound, Rejected, Unavailable


class UnknownFinetune(NotFound):
    """Cloudflare's models do not know this finetune, or not yet."""


class Outage(Unavailable):
    """Cloudflare itself failed, and says nothing of why."""


class Meaning(NamedTuple):
    """What a code is to us."""

    kind: type[BhavanaError]
    what: str
    hint: str
    passes: bool = False
    """Whether the same request may succeed in a moment."""


NO_MODEL = Meaning(
    Misconfigured,
    "Workers AI has no such model",
    "Was it deprecated? The model catalog says so; set targets.cloudflare.model.",
)
NOT_ALLOWED = Meaning(
    Misconfigured,
    "this account may not use the model",
    "Accept its licence in the dashboard, or ask for access; then promote again.",
)
BUSY = Meaning(
    Unavailable,
    "Workers AI has no capacity for this model just now",
    "It says nothing of the adapter: promote again later.",
    passes=True,
)
SLOW = Meaning(
    Unavailable,
    "Workers AI did not answer in time",
    "It says nothing of the adapter: promote again later.",
    passes=True,
)
NO_TOKEN = Meaning(
    Misconfigured,
    "the token is refused",
    "It needs Workers AI Write and Workers KV Storage Write, for this account: make one and give "
    "it as BHAVANA_TARGETS__CLOUDFLARE__TOKEN_FILE.",
)
CODES = {
    3007: SLOW,
    3008: SLOW,
    3023: NOT_ALLOWED,
    3036: Meaning(
        Unavailable,
        "the account's daily allocation of Workers AI is used up",
        "It begins anew at 00:00 UTC; promote again then, or change the account's plan.",
    ),
    3037: Meaning(
        UnknownFinetune,
        "Workers AI does not know the finetune",
        "An upload can take minutes to be seen: promote again, which goes on with the same "
        "finetune. If it stays so, ask Cloudflare (cloudflare-docs#14757 is alike).",
    ),
    3039: Meaning(
        Rejected,
        "the finetune's files are not all there",
        "adapter_config.json or adapter_model.safetensors did not arrive whole. Files cannot be "
        "replaced and finetunes not deleted: train again, or release under another id.",
    ),
    3040: BUSY,
    3041: NOT_ALLOWED,
    3042: NO_MODEL,
    5005: Meaning(
        Misconfigured,
        "the model serves no LoRA",
        "Set targets.cloudflare.model to one whose catalog entry says lora.",
    ),
    5007: NO_MODEL,
    5016: NOT_ALLOWED,
    5018: NOT_ALLOWED,
    10009: Meaning(NotFound, "KV has no such key", "Nothing was released on this line yet."),
    10013: Meaning(
        Misconfigured,
        "there is no such KV namespace",
        "Set targets.cloudflare.kv_namespace; `wrangler kv namespace list` shows the ids.",
    ),
}
STATUSES = {
    401: NO_TOKEN,
    403: NO_TOKEN,
    404: Meaning(NotFound, "there is no such thing", "Are account_id and kv_namespace right?"),
    408: SLOW,
    429: Meaning(
        Unavailable,
        "the account asks too often",
        "Cloudflare takes 1200 requests in five minutes: promote again in five minutes.",
        passes=True,
    ),
}
"""Where no code says more."""
BROKEN = Meaning(
    Outage, "Cloudflare itself failed", "See its status page; promote again later.", True
)
REFUSED = Meaning(Rejected, "Cloudflare refuses the request", "Its words say why.")


def meaning_of(response: httpx.Response) -> Meaning:
    """What a response that is no success is to us."""
    status = response.status_code
    for code in (_number(error.get("code")) for error in _errors(response)):
        if code in CODES:
            return CODES[code]
    return STATUSES.get(status, BROKEN if status >= 500 else REFUSED)


def passes(response: httpx.Response) -> bool:
    """Whether it is worth asking again in a moment."""
    return meaning_of(response).passes


def fault(response: httpx.Response, words: Callable[[str], str]) -> BhavanaError:
    """The error to raise: code, meaning, the server's words, the next step.

    `words` makes them short and takes our token out.
    """
    meaning = meaning_of(response)
    errors = _errors(response)
    said = "; ".join(str(e["message"]) for e in errors if e.get("message")) or response.text
    codes = "".join(f", {e['code']}" for e in errors if e.get("code"))
    what = f"{meaning.what[0].upper()}{meaning.what[1:]}"
    return meaning.kind(
        f"{what} (HTTP {response.status_code}{codes}): {words(said)}.", hint=meaning.hint
    )


def _errors(response: httpx.Response) -> list[dict[str, Any]]:
    """The envelope's errors; a code can be missing, and the body can be a proxy's page."""
    try:
        errors = response.json()["errors"]
        return [error for error in errors if isinstance(error, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _number(code: Any) -> int | None:
    try:
        return int(code)
    except (TypeError, ValueError):
        return None
