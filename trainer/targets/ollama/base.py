"""The bare base on the server: uploaded by us, made once, and never changed.

Its tag holds the digest of all that it is made of, so another template is another tag.
"""

from __future__ import annotations

from pathlib import Path

from store.errors import IntegrityError, Misconfigured
from store.records import Noun, digest
from trainer.base import Base, hash_files
from trainer.targets.ollama import provenance
from trainer.targets.ollama.client import Ollama
from trainer.targets.ollama.documents import Shown
from trainer.targets.ollama.provenance import Provenance
from trainer.targets.ollama.settings import Number, OllamaSettings

PREFIX = "base-"


class BareBase(Noun, frozen=True, kw_only=True):
    """The base as it is served."""

    tag: str
    file: str
    sha256: str
    trained_on: str
    """Hash of the base in training: the file's own where that is what was trained on."""
    template: str
    parameters: dict[str, Number | list[str]]

    def ensure(self, ollama: Ollama) -> None:
        """Has it on the server. Raises IntegrityError where something else has its name."""
        if self.tag not in ollama.tags():
            ollama.upload(Path(self.file), self.sha256)
            ollama.create(self.tag, self._document())
        if not ollama.dry:
            self._require_same(ollama, ollama.show(self.tag))

    def _document(self) -> dict[str, object]:
        return {
            "files": {"base.gguf": f"sha256:{self.sha256}"},
            "template": self.template,
            "parameters": self.parameters,
            "license": provenance.written(Provenance(base=self.trained_on, base_tag=self.tag)),
        }

    def _require_same(self, ollama: Ollama, shown: Shown) -> None:
        """That it is one model layer, ours where the era keeps it as it came, and our template."""
        ours = len(shown.bases) == 1 and not shown.adapters
        if ours and ollama.era().keeps_uploads:
            ours = shown.bases == [self.sha256]
        if not ours or shown.template != self.template:
            raise IntegrityError(
                f"{self.tag} on {ollama.name} is not the base that was trained on.",
                hint=f"See what `ollama show --modelfile {self.tag}` says there; `ollama rm` it, "
                "and promoting makes it anew.",
            )


def bare_base(base: Base, settings: OllamaSettings) -> BareBase:
    """The base as these settings serve it. Raises Misconfigured where there is no GGUF of it."""
    if base.kind == "gguf":
        file, sha256 = Path(base.location), base.hash
    elif settings.base_gguf:
        file = Path(settings.base_gguf).expanduser()
        if not file.is_file():
            raise Misconfigured(f"targets.ollama.base_gguf: there is no file {file}.")
        sha256 = hash_files([file])
    else:
        raise Misconfigured(
            f"Ollama serves GGUF files, and the base {base.name} is none.",
            hint="Name a GGUF of it in targets.ollama.base_gguf, or better train on that file.",
        )
    template, parameters = settings.template_text, settings.all_parameters
    made_of = digest([sha256, template, parameters])[:16]
    return BareBase(
        tag=f"{settings.name}:{PREFIX}{made_of}",
        file=str(file),
        sha256=sha256,
        trained_on=base.hash,
        template=template,
        parameters=parameters,
    )
