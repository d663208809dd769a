"""How the Ollama target is set up: keys of [targets.ollama]. It does not know how they are used."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from store.records import MAIN
from trainer.targets.http import Connection
from trainer.targets.ollama.templates import GO

ModelName = Annotated[
    str, Meta(pattern=r"^([a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]{0,79}$(?!\n)")
]
Number = int | float


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
    num_ctx: Annotated[int, Meta(ge=256)] = 4096
    """Tokens of a conversation. Whoever sends another number makes the server load anew."""
    parameters: dict[str, Number] = field(default_factory=dict)
    """What else is fixed, for every release, as Ollama calls it; such as temperature."""
    keep_alive: str = "30m"
    """How long the server keeps a release loaded after we touched it; -1 is for ever."""
    keep: Annotated[int, Meta(ge=0)] = 3
    """Earlier releases that stay on the server, beside the one in service and the one before."""

    @property
    def template_text(self) -> str:
        """The template in Go's language."""
        return GO[self.template].text if self.template in GO else self.template

    @property
    def all_parameters(self) -> dict[str, Number | list[str]]:
        """What is fixed in the base. Penalties are none of ours: 1.1 is the default up to 0.24."""
        known = GO[self.template].stop if self.template in GO else ()
        usual = {"num_ctx": self.num_ctx, "repeat_penalty": 1.0, **self.parameters}
        return {**usual, "stop": list(self.stop or known)}

    def repository(self, line: str) -> str:
        """The name of a line's releases, without a tag."""
        return self.name if line == MAIN else f"{self.name}-{line}"
