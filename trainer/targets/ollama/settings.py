"""How the Ollama target is set up: keys of [targets.ollama]. It does not know how they are used."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from store.records import MAIN, digest
from trainer.targets.http import Connection
from trainer.targets.ollama.templates import GO, Template

ModelName = Annotated[
    str, Meta(pattern=r"^([a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]{0,79}$(?!\n)")
]
Number = int | float


def _parameters() -> dict[str, Number]:
    return {"num_ctx": 4096, "repeat_penalty": 1.0}  # 1.1 is the default up to 0.24


class OllamaSettings(Connection, frozen=True, kw_only=True):
    """A server, the names that people call, and how the base is served there."""

    url: str = "http://127.0.0.1:11434"
    name: ModelName = "bhavana"
    """People talk to NAME:latest, on other lines to NAME-LINE:latest."""
    base_gguf: str = ""
    """The base as a GGUF file; empty where trainer.base is one."""
    template: str = "smollm2"
    """A family of trainer/targets/ollama/templates.py, or a template in Go's language."""
    stop: tuple[str, ...] = ()
    """What ends an answer; empty: as the family does."""
    parameters: dict[str, Number] = field(default_factory=_parameters)
    """Fixed in the base, for every release on it. Whoever sends another num_ctx makes the server
    load the model anew."""
    keep_alive: str = "30m"
    """How long the server keeps a release loaded after we touched it; -1 is for ever."""
    keep: Annotated[int, Meta(ge=0)] = 3
    """Earlier releases that stay on the server, beside the one in service and the one before."""

    @property
    def layout(self) -> Template:
        """The template and what ends an answer."""
        known = GO.get(self.template, Template(self.template, ()))
        return Template(known.text, self.stop or known.stop)

    def base_tag(self, base_hash: str) -> str:
        """The name of the bare base; another one for each way to serve it, so none changes."""
        text, stop = self.layout
        return f"{self.name}:base-{digest([base_hash, text, stop, self.parameters])[:16]}"

    def repository(self, line: str) -> str:
        """The name of a line's releases, without a tag."""
        return self.name if line == MAIN else f"{self.name}-{line}"
