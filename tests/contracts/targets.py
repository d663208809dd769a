"""Where each target of the roster can be tried: on this machine, or with a stand-in of its server.

A newcomer adds one line to SITES.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from store.records import MAIN, Noun
from tests.cloudflare_stand_in import Finetune
from tests.cloudflare_stand_in import StandIn as CloudflareStandIn
from tests.cloudflare_stand_in.adapters import write_lora
from tests.ollama_stand_in.server import StandIn
from tests.tiny_releases import prepared
from trainer.adapter import FILES, adapter_hash
from trainer.base import Base, locate
from trainer.jobs import Observation, Position
from trainer.questions import Answer, Question
from trainer.targets.archive import Archive
from trainer.targets.cloudflare.settings import CloudflareSettings
from trainer.targets.ollama.settings import OllamaSettings
from trainer.targets.settings import TargetsSettings
from trainer.targets.target import Delivery, Judged, References

ADAPTERS = ("one", "two", "three")
"""Three releases' worth; each answers otherwise than the others and the base."""
TINY_BASE = {
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64,
    "num_attention_heads": 2,
}  # fmt: skip
Said = dict[str, dict[str, str]]
PutBack = Callable[[], None]


class Order(Noun, frozen=True, kw_only=True):
    """All that a process needs to promote there; it travels to the children that are killed."""

    target: str
    base: str
    """As trainer.base names it."""
    adapters: dict[str, str]
    """Folders, by ADAPTERS."""
    said: Said
    """What each answers to each question: by adapter, "" for the base, and the question's id."""
    forced: dict[str, tuple[Position, ...]] = field(default_factory=dict)
    """What each adapter's model says next."""
    settings: TargetsSettings = field(default_factory=TargetsSettings)

    def located(self) -> Base:
        """The base."""
        return locate(self.base)

    def deliver(
        self, archive: Archive, release: str, adapter: str = "one", line: str = MAIN
    ) -> Delivery:
        """A release of one of the adapters on its way; it lies in the archive."""
        folder = Path(self.adapters[adapter])
        expected = adapter_hash(folder)
        kept = archive.keep(release, folder, expected)
        return Delivery(
            release=release,
            line=line,
            adapter=str(kept),
            adapter_hash=expected,
            base=self.located(),
        )

    def references(self, adapter: str) -> References:
        """A stand-in for the evaluation and for the model on this machine: answers are given."""
        return GivenReferences(self, adapter)


class GivenReferences:
    """Stands in for an evaluation of an adapter and for the child process that answers."""

    def __init__(self, order: Order, adapter: str) -> None:
        self._order = order
        self._said = order.said.get(adapter, {})
        self._forced = order.forced.get(adapter, ())

    def judged(self) -> tuple[Judged, ...]:
        """Every question, with what adapter and base were said to answer."""
        base = self._order.said.get("", {})
        return tuple(
            Judged(
                question=Question(id=name, prompt=name),
                candidate=_observed(name, said),
                base=_observed(name, base[name]),
            )
            for name, said in self._said.items()
        )

    def answers(self, questions: Collection[Question], adapter: Path | None) -> tuple[Answer, ...]:
        """What the adapter of these very bytes answers."""
        folders = {adapter_hash(Path(f)): name for name, f in self._order.adapters.items()}
        said = self._order.said["" if adapter is None else folders[adapter_hash(adapter)]]
        return tuple(_answer(q.id, said[q.id]) for q in questions)

    def forced(self, adapter: Path) -> tuple[Position, ...]:
        """What the evaluated one's model says next, whatever is published."""
        return self._forced


class Site(Struct, frozen=True, kw_only=True):
    """A place where a target can be tried."""

    order: Order
    left_over: Callable[[Collection[str]], list[str]]
    """What lies there, by the place's own word, beside these releases, whole."""
    kept: Callable[[], PutBack] = lambda: lambda: None
    """Remembers what lies there, beside the data folder; what it returns puts that back."""


def _observed(name: str, said: str) -> Observation:
    return Observation(id=name, answer=_answer(name, said))


def _answer(name: str, said: str) -> Answer:
    return Answer(id=name, response=said, tokens=3, finished=True)


def write_adapter(folder: Path, weights: str, size: int = 0) -> Path:
    """Two files that stand for an adapter, and say this; with so many bytes of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_bytes(f"{name} {weights}".encode())
    with (folder / FILES[1]).open("ab") as file:
        file.write(os.urandom(size))
    return folder


def write_base(folder: Path) -> Path:
    """Files that stand for a base."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(TINY_BASE))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@contextmanager
def taking_files_up_to(size: int) -> Iterator[None]:
    """The kernel refuses what would make a file longer than so many bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def on_this_machine(folder: Path, size: int = 0) -> Iterator[Site]:
    """The local target needs nothing but the data folder, `folder`/data.

    `size`: of an adapter's weights, in bytes.
    """
    releases = folder / "data" / "releases"
    questions = [f"question-{n}" for n in range(10)]

    def left_over(keep: Collection[str]) -> list[str]:
        links = [p for p in releases.iterdir() if p.name.startswith("current")]
        ways = [link.readlink().parts[0] for link in links]  # that of a trial is a folder's
        known = {*keep, *ways, *(link.name for link in links)}
        found = [p for p in releases.iterdir() if p.name not in known and p.suffix != ".lock"]
        half = [p for p in map(releases.joinpath, keep) if p.is_dir() and not _whole(p)]
        return sorted(p.name for p in (*found, *half))

    yield Site(
        order=Order(
            target="local",
            base=str(write_base(folder / "base")),
            adapters={n: str(write_adapter(folder / "adapters" / n, n, size)) for n in ADAPTERS},
            said={n: {q: f"{n} to {q}" for q in questions} for n in ("", *ADAPTERS)},
        ),
        left_over=left_over,
    )


def _whole(release: Path) -> bool:
    return {p.name for p in release.iterdir()} == set(FILES)


@contextmanager
def with_ollama(folder: Path) -> Iterator[Site]:
    """A stand-in for the server, in this process; the adapters are real, on a tiny base."""
    ready = prepared(folder)
    with StandIn(folder / "ollama") as server:

        def left_over(keep: Collection[str]) -> list[str]:
            names = (str(tag["name"]).partition(":")[2] for tag in server.library.tags())
            ours = {n for n in names if n != "latest" and not n.startswith("base-")}
            return sorted(ours - set(keep))

        numbers = count()

        def kept() -> PutBack:
            disk, copy = server.library.folder, folder / f"ollama-{next(numbers)}"
            _copy_disk(disk, copy)

            def put_back() -> None:
                shutil.rmtree(disk)
                _copy_disk(copy, disk)

            return put_back

        yield Site(
            order=Order(
                target="ollama",
                base=ready.base.name,
                adapters=ready.adapters,
                said={},
                forced=ready.positions,
                settings=TargetsSettings(ollama=OllamaSettings(url=server.url, keep=0)),
            ),
            left_over=left_over,
            kept=kept,
        )


def _copy_disk(source: Path, destination: Path) -> None:
    """Blobs never change, so a second name is a copy; manifests are written over where they lie."""

    def copy(old: str, new: str) -> None:
        (os.link if Path(old).parent.name == "blobs" else shutil.copy2)(old, new)

    shutil.copytree(source, destination, copy_function=copy)


@contextmanager
def at_cloudflare(folder: Path) -> Iterator[Site]:
    """A stand-in of Cloudflare, which speaks as the uploaded adapter's lora_alpha says."""
    questions = [f"question-{n}" for n in range(10)]
    said = {n: {q: f"{n} to {q}" for q in questions} for n in ("", *ADAPTERS)}
    base = write_base(folder / "Mistral-7B-Instruct-v0.2")

    def speak(prompt: str, finetune: Finetune | None, _: Mapping[str, Any]) -> str:
        question = prompt.partition("[INST] ")[2].partition(" [/INST]")[0]
        alpha = json.loads(finetune.files[FILES[0]])["lora_alpha"] if finetune else 0
        return said[("", *ADAPTERS)[alpha]].get(question, "")

    with CloudflareStandIn() as stand_in:
        stand_in.account.speak = speak

        def left_over(keep: Collection[str]) -> list[str]:
            # A half sent finetune cannot be deleted: the next try goes on with it, and a second one
            # of the same release is one too many.
            names = [finetune.name for finetune in stand_in.account.finetunes]
            kept = {name for name in names if any(release in name for release in keep)}
            return sorted(n for i, n in enumerate(names) if n not in kept or n in names[:i])

        def kept() -> PutBack:
            account = stand_in.account
            lying = deepcopy((account.finetunes, account.values))

            def put_back() -> None:
                account.finetunes, account.values = deepcopy(lying)

            return put_back

        yield Site(
            order=Order(
                target="cloudflare",
                base=str(base),
                adapters={
                    name: str(
                        write_lora(
                            folder / "adapters" / name,
                            base_model_name_or_path=str(base),
                            lora_alpha=alpha,
                        )
                    )
                    for alpha, name in enumerate(ADAPTERS, start=1)
                },
                said=said,
                settings=TargetsSettings(
                    cloudflare=CloudflareSettings(
                        account_id=stand_in.account.id,
                        token=stand_in.account.token,
                        api=stand_in.url,
                        kv_namespace=stand_in.account.namespace,
                        poll_seconds=0.01,
                        probes=2,
                    )
                ),
            ),
            left_over=left_over,
            kept=kept,
        )


SITES: dict[str, Callable[[Path], AbstractContextManager[Site]]] = {
    "cloudflare": at_cloudflare,
    "local": on_this_machine,
    "ollama": with_ollama,
}
