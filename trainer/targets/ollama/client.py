"""Ollama's API as far as we use it, over httpx; in every error the server's own words.

Not the `ollama` package: it sends blobs that are there already, misses a stream that ends without
`success`, waits for ever, and reads its address from the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from store.errors import (
    BhavanaError,
    DoesNotFit,
    Misconfigured,
    NotFound,
    ProbeFailed,
    Rejected,
    Unavailable,
)
from trainer.targets.http import Server, Upload
from trainer.targets.ollama.documents import Generated, Progress, Shown, Tag, Tags, Version
from trainer.targets.ollama.era import Era, era_of
from trainer.targets.ollama.settings import OllamaSettings
from trainer.targets.told import Tell, only_reads

FULL = ("no space left", "disk quota", "not enough space")
READS = ("/api/show",)
"""POSTs that change nothing."""
ANSWERS = ("/api/generate", "/api/chat")

T = TypeVar("T")


class Ollama:
    """A server, inside a `with` block."""

    def __init__(self, settings: OllamaSettings, *, tell: Tell | None = None) -> None:
        """Connects to nothing yet. `tell`: a dry run, which says what it would send."""
        self._settings = settings
        self._server = Server(
            "Ollama", settings, self._fault, tell=tell, reads=_reads, success=_success
        )
        self.name = self._server.name
        self.dry = self._server.dry

    def __enter__(self) -> Ollama:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    # --- what there is --------------------------------------------------------------------

    def era(self) -> Era:
        """What the server can do. Raises Misconfigured for one that is too old or no Ollama."""
        try:
            response = self._server.ask("GET", "/api/version")
        except NotFound as error:
            raise Misconfigured(
                f"{self.name} has no /api/version.", hint="Is targets.ollama.url an Ollama?"
            ) from error
        return era_of(self._read(response, Version).version)

    def tags(self) -> dict[str, Tag]:
        """Every model on the server, by name."""
        models = self._read(self._server.ask("GET", "/api/tags"), Tags).models
        return {model.name: model for model in models}

    def show(self, model: str) -> Shown:
        """What a model is made of. Raises NotFound."""
        return self._read(self._server.ask("POST", "/api/show", json={"model": model}), Shown)

    def loaded(self) -> list[Tag]:
        """The models in memory, under the names by which they were loaded."""
        return self._read(self._server.ask("GET", "/api/ps"), Tags).models

    # --- what changes it ------------------------------------------------------------------

    def upload(self, file: Path, sha256: str) -> None:
        """Has the file there under its digest; sends it only where it is not."""
        blob = f"/api/blobs/sha256:{sha256}"
        with suppress(NotFound):
            self._server.ask("HEAD", blob)
            return
        body = Upload(file)
        self._server.ask("POST", blob, content=body, headers=body.headers)

    def create(self, model: str, document: Mapping[str, Any]) -> None:
        """Creates a model; whole when this returns. The same document makes the same model.

        Raises Rejected in the server's words, DoesNotFit for a full disk, and Unavailable where
        the stream ended without its `success`.
        """
        wanted = {"model": model, "stream": True, **document}
        with self._server.listen("POST", "/api/create", json=wanted) as response:
            last = ""
            for line in self._lines(response):
                if line.error:
                    raise self._ended(model, line.error)
                last = line.status or last
        if last != "success":
            raise Unavailable(
                f"{self.name} ended without success while making {model}; its last word was "
                f"{self._server.clean(last)!r}.",
                hint="Look at its log. What serves was not touched; promote again.",
            )

    def copy(self, source: str, destination: str) -> None:
        """Lets `destination` name what `source` names. Raises NotFound."""
        self._server.ask("POST", "/api/copy", json={"source": source, "destination": destination})

    def delete(self, model: str) -> None:
        """Takes the name away, and what nothing else uses."""
        with suppress(NotFound):
            self._server.ask("DELETE", "/api/delete", json={"model": model})

    def load(self, model: str) -> None:
        """Has the model in memory, for `keep_alive`. Raises ProbeFailed where it cannot be."""
        self._ask(model, prompt="", keep_alive=self._settings.keep_alive)

    # --- what it says ---------------------------------------------------------------------

    def next_token(self, model: str, prompt: str, *, top: int) -> Generated:
        """The likeliest next token after a raw prompt; with alternatives where there are any."""
        wanted = {"temperature": 0, "repeat_penalty": 1.0, "seed": 0, "num_predict": 1}
        probable = {"logprobs": True, "top_logprobs": top} if top else {}
        return self._ask(model, prompt=prompt, raw=True, options=wanted, **probable)

    def rendered(self, model: str, messages: list[dict[str, str]]) -> str | None:
        """The prompt that the server makes of a conversation; None where it does not tell."""
        document = {"model": model, "messages": messages, "stream": False}
        document["_debug_render_only"] = True
        document["options"] = {"num_predict": 1}  # what it does where it knows no such thing
        found = self._server.ask("POST", "/api/chat", json=document).json()
        text = found.get("_debug_info", {}).get("rendered_template")
        return text if isinstance(text, str) else None

    def _ask(self, model: str, **document: Any) -> Generated:
        document |= {"model": model, "stream": False}
        document.setdefault("keep_alive", self._settings.keep_alive)
        answer = self._read(self._server.ask("POST", "/api/generate", json=document), Generated)
        if not answer.done:
            raise ProbeFailed(f"{self.name} did not finish its answer as {model}.")
        return answer

    # --- what comes back ------------------------------------------------------------------

    def _read(self, response: httpx.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Unavailable(
                f"{self.name} answered {response.request.url.path} with no document of Ollama's: "
                f"{self._server.words(response)!r}.",
                hint="Is targets.ollama.url an Ollama, and nothing in between?",
            ) from error

    def _lines(self, response: httpx.Response) -> Iterator[Progress]:
        for line in response.iter_lines():
            if not line.strip():
                continue
            try:
                yield msgspec.json.decode(line, type=Progress)
            except msgspec.MsgspecError as error:
                raise Unavailable(
                    f"{self.name} broke off in the middle of a line: {self._server.clean(line)!r}.",
                    hint="What serves was not touched; promote again.",
                ) from error

    def _fault(self, response: httpx.Response, words: str) -> BhavanaError:
        status, path = response.status_code, response.request.url.path
        said = f"{self.name} answered {path} with HTTP {status}: {words or 'nothing more'}"
        if status == 404:
            return NotFound(said)
        if status in (401, 403):
            return Misconfigured(said, hint="Look at targets.ollama.token.")
        if status in (429, 503):
            return Unavailable(f"{said}; it is busy.", hint="OLLAMA_MAX_QUEUE says how much waits.")
        if status >= 500 and path.endswith(ANSWERS):
            return ProbeFailed(
                f"{self.name} cannot load or run the model: {words or f'HTTP {status}'}",
                hint="These are the last words of its log, which knows more.",
            )
        if status >= 500:
            return self._failed(path, words or f"HTTP {status}")
        return Rejected(said)

    def _failed(self, doing: str, words: str) -> BhavanaError:
        if any(full in words.lower() for full in FULL):
            return DoesNotFit(
                f"The disk of {self.name} is full ({doing}): {words}",
                hint="Free some space there; targets.ollama.keep says how many releases stay.",
            )
        return Unavailable(f"{self.name} failed at {doing}: {words}", hint="Look at its log.")

    def _ended(self, model: str, words: str) -> BhavanaError:
        """An error in the middle of a stream, whose status was 200 by then."""
        failed = self._failed(f"making {model}", words)
        if isinstance(failed, DoesNotFit):
            return failed
        return Rejected(
            f"{self.name} did not make {model}: {words}",
            hint="These are its own words; what serves was not touched.",
        )


def _reads(request: httpx.Request) -> bool:
    return only_reads(request) or request.url.path.endswith(READS)


def _success(request: httpx.Request) -> httpx.Response:
    """What a dry run gets: as far as it goes, everything succeeds."""
    if request.url.path.endswith("/api/create"):
        return httpx.Response(200, content=b'{"status":"success"}\n')
    return httpx.Response(200, json={"done": True})
