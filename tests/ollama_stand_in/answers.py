"""What the stand-in answers: prompts by its models' templates, tokens by llama.cpp."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tests.ollama_stand_in.golang import parse, render
from tests.ollama_stand_in.library import ApiError, Library, Model
from tests.ollama_stand_in.making import CHILD_PROCESS, keyed
from tests.ollama_stand_in.runners import CONTEXT, Runner, Runners, seconds
from trainer.targets.ollama.era import Era

Document = dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """Of one server."""

    era: Era
    library: Library
    runners: Runners

    def generate(self, request: Document) -> Document:
        """The answer to a prompt; an empty one loads the model or unloads it."""
        model = self.library.model(request["model"])
        prompt = request.get("prompt") or ""
        keep_alive = seconds(request.get("keep_alive", "5m"))
        with self._running(model, request, keep_alive) as runner:
            if not prompt:
                reason = "load" if keep_alive else "unload"
                return self._answer(request, response="", done_reason=reason)
            if not request.get("raw"):
                prompt = rendered(model, [{"role": "user", "content": prompt}])
            return self._said(request, model, runner, prompt, lambda text: {"response": text})

    def chat(self, request: Document) -> Document:
        """The answer to a conversation; or, for `_debug_render_only`, what would be asked."""
        model = self.library.model(request["model"])
        prompt = rendered(model, request.get("messages") or [])
        if request.get("_debug_render_only"):
            return self._answer(request, _debug_info={"rendered_template": prompt})
        keep_alive = seconds(request.get("keep_alive", "5m"))
        with self._running(model, request, keep_alive) as runner:
            return self._said(
                request,
                model,
                runner,
                prompt,
                lambda text: {"message": {"role": "assistant", "content": text}},
            )

    def _running(
        self, model: Model, request: Document, keep_alive: float
    ) -> AbstractContextManager[Runner]:
        options = model.parameters | (request.get("options") or {})
        self._require_served(model)
        return self.runners.using(model, int(options.get("num_ctx", CONTEXT)), keep_alive)

    def _require_served(self, model: Model) -> None:
        if model.adapters and self.era.number < CHILD_PROCESS:
            architecture = keyed(model.base, "general.architecture") or ""
            if not self.era.serves_adapters_of(architecture):
                raise ApiError(500, "error loading model: loras are not yet implemented")

    def _said(
        self,
        request: Document,
        model: Model,
        runner: Runner,
        prompt: str,
        worded: Callable[[str], Document],
    ) -> Document:
        usual = {"repeat_penalty": 1.0 if self.era.number >= CHILD_PROCESS else 1.1}
        options = usual | model.parameters | (request.get("options") or {})
        asked = bool(request.get("logprobs")) and self.era.log_probabilities
        choice = runner.complete(prompt, options, request.get("top_logprobs", 0) if asked else 0)
        answer = worded(choice["text"])
        if asked and choice["logprobs"]:  # of half a character there are none
            answer["logprobs"] = [_without_id(t) for t in choice["logprobs"]["content"]]
        return self._answer(request, done_reason=choice["finish_reason"], **answer)

    def _answer(self, request: Document, **said: Any) -> Document:
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {"model": request["model"], "created_at": created, "done": True, **said}

    def processes(self) -> list[Document]:
        """What is in memory, as it was when it was loaded."""
        return [
            {"name": r.name, "model": r.name, "digest": r.digest, "context_length": r.context}
            for r in self.runners.loaded()
        ]


def rendered(model: Model, messages: list[Document]) -> str:
    """The prompt that the model's template makes; without one the words alone."""
    if messages and messages[0]["role"] != "system" and model.system:
        messages = [{"role": "system", "content": model.system}, *messages]
    if not model.template:
        return "\n\n".join(m["content"] for m in messages)
    fields = [{"Role": m["role"], "Content": m["content"]} for m in messages]
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    return render(parse(model.template), {"Messages": fields, "System": system})


def _without_id(token: Document) -> Document:
    """A token as Ollama tells it; parts of it are llama.cpp's."""
    told = {name: token[name] for name in ("token", "logprob", "bytes") if name in token}
    if "top_logprobs" in token:
        told["top_logprobs"] = [_without_id(t) for t in token["top_logprobs"]]
    return told
