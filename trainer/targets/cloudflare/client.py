"""Cloudflare's API, as far as a release needs it: the finetunes, the catalog, a run, a KV key.

The HTTP status is believed before the body's `success`. Nothing is asked twice that would make
two of one; what failed in a way that leaves it open is looked up by its name.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from store.errors import BhavanaError, NotFound, Rejected, Unavailable
from trainer.targets.cloudflare import errors
from trainer.targets.cloudflare.replies import (
    Answer,
    CatalogEntry,
    Envelope,
    Finetune,
    Model,
    Token,
    catalog_entry,
    finetunes_in,
)
from trainer.targets.cloudflare.settings import CloudflareSettings
from trainer.targets.http import Connection, Server
from trainer.targets.told import Tell

Kind = TypeVar("Kind")

NOWHERE = "00000000-0000-0000-0000-000000000000"
"""The id of what a dry run makes."""
SENDING = 10
"""A file may take so many times as long as an answer."""


class Client:
    """One account; a context that closes its connections."""

    def __init__(self, settings: CloudflareSettings, tell: Tell | None = None) -> None:
        """Connects to nothing yet. `tell` makes it a dry run. Raises Misconfigured."""
        self._settings = settings
        self._account = f"accounts/{settings.account_id}"
        self._server = Server(
            "Cloudflare",
            Connection(
                url=settings.api,
                token=settings.token,
                answer_seconds=settings.timeout_seconds,
                retries=settings.retries,
                retry_seconds=settings.retry_seconds,
            ),
            self._fault,
            tell=tell,
            success=_made_up,
            passes=errors.passes,
        )

    @property
    def dry(self) -> bool:
        """Nothing is changed: what would be sent is told."""
        return self._server.dry

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def token_status(self) -> str:
        """`active`, or why it is not. Raises Misconfigured, for a token of an account, too."""
        return self._ask("GET", "user/tokens/verify", Token).status

    def catalog_entry(self, model: str) -> CatalogEntry | None:
        """What the catalog says of a model; None where it is not in it."""
        wanted = {"search": model, "include_deprecated": "true"}
        path = f"{self._account}/ai/models/search"
        found = self._ask("GET", path, list[Model], params=wanted)
        entry = next((each for each in found if each.name == model), None)
        return None if entry is None else catalog_entry(entry)

    def finetunes(self) -> tuple[Finetune, ...]:
        """All of the account's. Raises Unavailable for a list in no form that we know."""
        return finetunes_in(self._ask("GET", f"{self._account}/ai/finetunes", Any))

    def named(self, name: str) -> Finetune | None:
        """The finetune of this name, if the account has it."""
        return next((each for each in self.finetunes() if each.name == name), None)

    def create(self, model: str, name: str, description: str) -> Finetune:
        """A new finetune, or the one that a create whose answer was lost has made.

        Raises Unavailable where it is not known whether there is one: asking again adopts it.
        """
        wanted = {"model": model, "name": name, "description": description, "public": False}
        path = f"{self._account}/ai/finetunes"
        try:
            return self._ask("POST", path, Finetune, again=False, json=wanted)
        except Unavailable as error:
            found = self.named(name)
            if found is None:
                raise Unavailable(
                    f"Whether Cloudflare has made the finetune {name} is not known yet: {error}",
                    hint="Promote again: if it is there by then, it is used, and no other is made.",
                ) from error
            return found

    def upload(self, finetune: str, path: Path, name: str, *, begun: bool = False) -> None:
        """Sends one file of a finetune, in pieces; again where no answer came.

        A file cannot be replaced. What is refused after a try whose answer was lost, or that was
        `begun` before, is there already, for all that we know: a run will tell.
        """
        for attempt in range(self._settings.retries + 1):
            try:
                return self._send(finetune, path, name)
            except Unavailable:
                if attempt == self._settings.retries:
                    raise
                begun = True
            except Rejected:
                if not begun:
                    raise
                return None
            time.sleep(self._settings.retry_seconds * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _send(self, finetune: str, path: Path, name: str) -> None:
        with path.open("rb") as file:
            self._ask(
                "POST",
                f"{self._account}/ai/finetunes/{finetune}/finetune-assets",
                Any,
                again=False,
                data={"file_name": name},
                files={"file": (name, file, "application/octet-stream")},
                timeout=self._settings.timeout_seconds * SENDING,
            )

    def run(self, model: str, prompt: str, *, lora: str | None, most_tokens: int) -> str:
        """What the model answers to a prompt that is rendered already: greedy, and not cached.

        Raises UnknownFinetune, and what else the codes mean.
        """
        asked: dict[str, Any] = {
            "prompt": prompt,
            "raw": True,
            "stream": False,
            "max_tokens": most_tokens,
            "temperature": 0,
            "seed": 1,
        }
        if lora is not None:
            asked["lora"] = lora
        path = f"{self._account}/ai/run"
        if self._settings.gateway:
            options = {"gateway": {"id": self._settings.gateway, "skipCache": True}}
            whole = {"model": model, "input": asked, "options": options}
            return self._ask("POST", path, Answer, json=whole).response
        return self._ask("POST", f"{path}/{model}", Answer, json=asked).response

    def read(self, key: str) -> bytes | None:
        """What lies in KV under a key; None for nothing."""
        try:
            return self._server.ask("GET", self._value(key)).content
        except NotFound:
            return None

    def write(self, key: str, value: bytes) -> None:
        """Puts it there. Raises NotFound for a namespace that the account has not."""
        headers = {"Content-Type": "application/octet-stream"}
        self._ask("PUT", self._value(key), Any, content=value, headers=headers)

    def _value(self, key: str) -> str:
        namespace = self._settings.kv_namespace
        return f"{self._account}/storage/kv/namespaces/{namespace}/values/{quote(key, safe='')}"

    def _ask(
        self, method: str, path: str, kind: type[Kind], *, again: bool = True, **parts: Any
    ) -> Kind:
        """The result of a success."""
        response = self._server.ask(method, path, again=again, **parts)
        try:
            envelope = msgspec.json.decode(response.content, type=Envelope)
            if envelope.success:
                return msgspec.convert(envelope.result, kind)
        except msgspec.DecodeError as error:
            raise Unavailable(
                f"{self._server.name} answered with something else than its API does: {error} "
                f"(HTTP {response.status_code}, {len(response.content)} bytes).",
                hint="Is targets.cloudflare.api right, and does a proxy stand in between?",
            ) from error
        raise self._fault(response, "")

    def _fault(self, response: httpx.Response, _: str) -> BhavanaError:
        return errors.fault(response, self._server.clean)


def _made_up(request: httpx.Request) -> httpx.Response:
    """What a dry run is answered where something would have been changed."""
    finetune: Mapping[str, Any] = {"id": NOWHERE, "model": "", "name": ""}
    result = {**finetune, "response": ""}
    return httpx.Response(200, json={"success": True, "result": result}, request=request)
