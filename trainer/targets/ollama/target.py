"""The Ollama target: immutable releases on one server, and for each line a name that people call.

    bhavana:base-…       the bare base, with its template, stop and parameters; made once
    bhavana:release-…    one release: the bare base and exactly one adapter
    bhavana:latest       what people call: a copy of one of these. Other lines: bhavana-LINE:latest

A release is always made from the bare base: made from an earlier release it would have both
adapters. All that a switch does is to copy a name, and a copy has the digest of what it copies:
that is how it is seen what serves. One server cannot serve two releases of one base at a time
without loading the model anew for each request, so a canary answers all of the traffic.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from store.errors import IntegrityError, NotFound, ProbeFailed, Rejected, Unavailable
from store.records import MAIN
from trainer.adapter import adapter_hash
from trainer.targets.limits import OLLAMA
from trainer.targets.ollama import provenance
from trainer.targets.ollama.base import PREFIX as BASE
from trainer.targets.ollama.base import BareBase, bare_base
from trainer.targets.ollama.client import Ollama
from trainer.targets.ollama.documents import Tag
from trainer.targets.ollama.provenance import Provenance
from trainer.targets.place import Place
from trainer.targets.target import Delivery, References, Traffic

if TYPE_CHECKING:
    from trainer.gguf.lora import GgufAdapter

ALIAS = "latest"
LOOKS = 5
"""A copy is no single step on the server's disk: it is looked at, and made again if need be."""
PAUSE_SECONDS = 0.05

T = TypeVar("T")


class OllamaTarget:
    """Releases as models of an Ollama server."""

    name = "ollama"
    limits = OLLAMA
    shares = False

    def __init__(self, place: Place) -> None:
        self._place = place
        self._settings = place.settings.ollama

    def preflight(self, delivery: Delivery) -> None:
        """Looks at server, names, base and adapter. Raises Rejected with all faults."""
        faults: list[str] = []

        def looked(look: Callable[[], T]) -> T | None:
            try:
                return look()
            except (Rejected, IntegrityError) as fault:
                faults.append(str(fault))
                return None

        with self._server() as ollama:
            era = looked(ollama.era)
            looked(lambda: self._serving(ollama, delivery.line))
        looked(lambda: bare_base(delivery.base, self._settings))
        adapter = looked(lambda: self._adapter(delivery))
        if era and adapter and not era.serves_adapters_of(adapter.architecture):
            faults.append(
                f"Ollama {era.version} applies no adapter to {adapter.architecture}; 0.30 does."
            )
        if faults:
            raise Rejected(f"Ollama cannot take {delivery.release}: {' '.join(faults)}")

    def publish(self, delivery: Delivery) -> str:
        """Makes NAME:release from the bare base and its one adapter, and looks that it is so."""
        model = self._model(delivery.release, delivery.line)
        base = bare_base(delivery.base, self._settings)
        adapter = self._adapter(delivery)
        with self._server() as ollama, self._nobody_deletes():
            base.ensure(ollama)
            if not _is_whole(ollama, model, base, adapter):
                ollama.upload(Path(adapter.path), adapter.sha256)
                ollama.create(model, _document(delivery, base, adapter))
                if not ollama.dry and not _is_whole(ollama, model, base, adapter):
                    raise IntegrityError(
                        f"{ollama.name} made {model} of something else than it was given.",
                        hint=f"`ollama show --modelfile {model}` there shows of what.",
                    )
            digest = _digest(ollama.tags(), model)
        if digest:
            facts = {"model": model, "digest": digest, "base": base.tag, "adapter": adapter.sha256}
            self._place.journal.note(delivery.release, "publish", facts)
        Path(adapter.path).unlink(missing_ok=True)
        return f"{self._settings.url}/{model}"

    def probe(self, delivery: Delivery, references: References) -> Mapping[str, float]:
        """Loads the release and compares its next tokens with the trained model's."""
        model = self._model(delivery.release, delivery.line)
        from trainer.targets.ollama.probe import probe, require_template

        positions = references.forced(Path(delivery.adapter))
        with self._server() as ollama:
            ollama.load(model)
            require_template(ollama, model, references.judged(), positions)
            return probe(ollama, model, positions, ollama.era())

    def activate(self, traffic: Traffic, line: str = MAIN) -> None:
        """Copies the release's name over what people call; answers that are begun end as begun."""
        if traffic.canary is not None:
            raise Rejected("An Ollama server cannot share its traffic between two releases.")
        with self._server() as ollama:
            tags = ollama.tags()
            if traffic.release is None:
                source = self._bare(ollama, tags, line)
                if source is None:
                    return  # nothing was published yet: nobody is served here, not even the base
            else:
                source = self._model(traffic.release, line)
                if source not in tags and not ollama.dry:
                    raise NotFound(
                        f"There is no {source} on {ollama.name}.",
                        hint="Promote the release again; its adapter is in the archive.",
                    )
            self._switch(ollama, source, self._alias(line))

    def active(self, line: str = MAIN) -> Traffic:
        """Whose copy the name is that people call.

        Raises IntegrityError where it is nothing of ours, and Unavailable.
        """
        with self._server() as ollama:
            return Traffic(release=self._serving(ollama, line))

    def restore(self, release: str | None, line: str = MAIN) -> None:
        """Copies the earlier name back."""
        self.activate(Traffic(release=release), line)

    def retire(self, keep: Collection[str], line: str = MAIN) -> tuple[str, ...]:
        """Deletes the line's other releases but the newest few that the settings keep.

        Only what says of itself that we made it: models that people made by hand stay.
        """
        with self._server() as ollama, self._nobody_deletes():
            serving = self._serving(ollama, line)
            spare = [r for r in self._releases(ollama, line) if r not in {*keep, serving}]
            gone = spare[self._settings.keep :]
            for release in gone:
                ollama.delete(self._model(release, line))
        return tuple(gone)

    # --- names ----------------------------------------------------------------------------

    def _model(self, tag: str, line: str) -> str:
        return f"{self._settings.repository(line)}:{tag}"

    def _alias(self, line: str) -> str:
        return self._model(ALIAS, line)

    def _releases(self, ollama: Ollama, line: str) -> list[str]:
        """What we made for the line, newest first."""
        named = [t for t in ollama.tags().values() if t.name.startswith(self._model("", line))]
        newest = sorted(named, key=lambda t: t.modified_at, reverse=True)
        made = [(t.name, provenance.read(ollama.show(t.name).license).release) for t in newest]
        return [release for name, release in made if name == self._model(release, line)]

    def _bare(self, ollama: Ollama, tags: Mapping[str, Tag], line: str) -> str | None:
        """The base of what is served; else the newest; None before anything was published."""
        alias = self._alias(line)
        if alias in tags:
            base = provenance.read(ollama.show(alias).license).base_tag
            if base in tags:
                return base
        bases = [t for t in tags.values() if t.name.startswith(self._model(BASE, MAIN))]
        return max(bases, key=lambda t: t.modified_at).name if bases else None

    def _serving(self, ollama: Ollama, line: str) -> str | None:
        """The release of which the line's alias is a copy; None for the base, or for no alias.

        Looked at more than once where it makes no sense: somebody may be switching just now.
        """
        alias = self._alias(line)
        for attempt in range(LOOKS):
            time.sleep(PAUSE_SECONDS * attempt)
            tags = ollama.tags()
            if alias not in tags:
                if attempt:
                    return None
                continue
            with suppress(NotFound):
                made = provenance.read(ollama.show(alias).license)
                source = self._model(made.release, line) if made.release else made.base_tag
                if source and _digest(tags, source) in ("", _digest(tags, alias)):
                    return made.release or None
        raise IntegrityError(
            f"{alias} on {ollama.name} is not what we made: somebody else named a model so.",
            hint=f"Give that one another name (`ollama cp`, `ollama rm {alias}`), or set "
            "targets.ollama.name.",
        )

    # --- doing ----------------------------------------------------------------------------

    def _server(self) -> Ollama:
        return Ollama(self._settings, tell=self._place.tell)

    def _adapter(self, delivery: Delivery) -> GgufAdapter:
        """The adapter as GGUF, in the scratch folder. Raises what `write_lora` does."""
        from trainer.gguf.lora import write_lora  # loads numpy, which no rollback waits for

        folder = Path(delivery.adapter)
        if adapter_hash(folder) != delivery.adapter_hash:
            raise IntegrityError(f"{folder} is not the adapter that was evaluated.")
        self._place.work.mkdir(parents=True, exist_ok=True)
        return write_lora(folder, delivery.base, self._place.work / f"{delivery.release}.gguf")

    @contextmanager
    def _nobody_deletes(self) -> Iterator[None]:
        """Between a blob's upload and the model that uses it no other process deletes."""
        self._place.work.mkdir(parents=True, exist_ok=True)
        with (self._place.work / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _switch(self, ollama: Ollama, source: str, alias: str) -> None:
        """Copies until the copy has the digest of its source, then has it answer."""
        if ollama.dry:
            ollama.copy(source, alias)
            return
        for attempt in range(LOOKS):
            time.sleep(PAUSE_SECONDS * attempt)
            ollama.copy(source, alias)
            tags = ollama.tags()
            if (wanted := _digest(tags, source)) and wanted == _digest(tags, alias):
                break
        else:
            raise Unavailable(
                f"{alias} on {ollama.name} did not become {source}, in {LOOKS} tries.",
                hint="Look at its disk and its log, and promote or roll back again.",
            )
        ollama.load(alias)
        memory = ollama.loaded()
        stale = [m for m in memory if m.name == alias and m.digest != wanted]
        if stale and all(m.digest != wanted for m in memory):
            raise ProbeFailed(f"{ollama.name} still answers for {alias} with what was before.")


def _document(delivery: Delivery, base: BareBase, adapter: GgufAdapter) -> dict[str, object]:
    made = Provenance(release=delivery.release, adapter=delivery.adapter_hash, base_tag=base.tag)
    return {
        "from": base.tag,
        "adapters": {"adapter.gguf": f"sha256:{adapter.sha256}"},
        "license": provenance.written(made),
    }


def _is_whole(ollama: Ollama, model: str, base: BareBase, adapter: GgufAdapter) -> bool:
    """Whether the model is there: the bare base, our adapter and no other, our template."""
    if model not in ollama.tags():
        return False
    made, bare = ollama.show(model), ollama.show(base.tag)
    return (
        made.adapters == [adapter.sha256]
        and made.bases == bare.bases
        and made.template == base.template
    )


def _digest(tags: Mapping[str, Tag], name: str) -> str:
    return tags[name].digest if name in tags else ""
