"""A process that answers people: llama.cpp's own server, over the base and several adapters.

The base is loaded once and the adapters beside it; each request says which of them answers. So a
canary shares a model with the release in service, and the way back loads nothing. This side
starts the process and asks it how it is; `trainer.serve` is the process. Loads no torch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import httpx
from msgspec.structs import replace

from store.errors import Misconfigured
from store.records import Identifier, Noun
from trainer.base import Base
from trainer.job import write_record
from trainer.launch import end, start
from trainer.shape import shape_of

EXTRA = "llama"
PACKAGE = "xllamacpp"
HEALTH_SECONDS = 0.5
"""What a process that loads may take to say so: whoever asks has more to do."""
SOCKET = "model.sock"
"""llama.cpp knows a socket by the end of its name."""
LAST_WORDS = 600
"""Bytes of a log that tell why a process ended."""

State = Literal["loading", "ready", "ended"]


class Held(Noun, frozen=True, kw_only=True):
    """An adapter that the process is to hold."""

    release: Identifier
    adapter: str
    """Its folder, in PEFT's layout."""
    adapter_hash: str


class ServeJob(Noun, frozen=True, kw_only=True):
    """What a process is to answer with."""

    base: Base
    """What the adapters were trained on."""
    model: str
    """The same as a GGUF file."""
    adapters: tuple[Held, ...]
    cache: str
    """Where adapters in llama.cpp's form may lie, which are made where they are not there."""
    slots: int
    """Answers at once."""
    context: int
    """Tokens of one conversation with its answer."""
    threads: int
    gpu_layers: int

    def covers(self, wanted: ServeJob) -> bool:
        """Whether a process of this job can do what that one could."""
        held = {one.release: one for one in self.adapters}
        alike = all(
            getattr(self, name) == getattr(wanted, name)
            for name in self.__struct_fields__
            if name != "adapters"
        )
        return alike and all(held.get(one.release) == one for one in wanted.adapters)


class Order(Noun, frozen=True, kw_only=True):
    """What the process finds in its folder."""

    job: ServeJob
    socket: str


class Server:
    """One such process, from its start to its end."""

    def __init__(self, folder: Path, job: ServeJob) -> None:
        """Starts it over a fresh folder, which holds its order and its log."""
        self.job = job
        self.folder = folder
        folder.mkdir(parents=True)
        # Not in the data folder: the name of a socket holds at most 107 bytes.
        self._private = Path(tempfile.mkdtemp(prefix="bhavana-"))
        self.socket = str(self._private / SOCKET)
        write_record(folder / "job.json", Order(job=job, socket=self.socket))
        with (folder / "log.txt").open("ab") as log:
            self._child: subprocess.Popen[bytes] = start("trainer.serve", str(folder), stdout=log)
        self.answering = 0
        """Requests that it answers at this moment; kept by whoever sends them."""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._child.pid

    def state(self) -> State:
        """Whether it answers yet, or no more."""
        if self._child.poll() is not None:
            return "ended"
        if not Path(self.socket).exists():
            return "loading"
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=self.socket)) as client:
                healthy = client.get("http://server/health", timeout=HEALTH_SECONDS)
        except httpx.TransportError:
            return "loading"
        return "ready" if healthy.status_code == httpx.codes.OK else "loading"

    @property
    def alive(self) -> bool:
        """Whether the process is there; quicker to tell than whether it answers."""
        return self._child.poll() is None

    def holds(self, release: str | None) -> bool:
        """Whether this release, or with None the base, can answer here."""
        return release is None or any(one.release == release for one in self.job.adapters)

    def scales(self, release: str | None) -> list[dict[str, float]]:
        """How much of each adapter answers for a release: all of one, or for the base none.

        Every adapter is named. Where some are left out llama.cpp may go on from what another
        one has read of the same conversation (seen in its build of October 2026).
        """
        return [
            {"id": number, "scale": 1.0 if one.release == release else 0.0}
            for number, one in enumerate(self.job.adapters)
        ]

    def last_words(self) -> str:
        """The end of its log, for whoever asks why it ended."""
        text = (self.folder / "log.txt").read_bytes()[-LAST_WORDS:].decode("utf-8", "replace")
        return " ".join(text.split())

    def end(self) -> None:
        """Ends it by force, since it keeps nothing; its folder goes, too. Safe to repeat."""
        end(self._child, 0)
        shutil.rmtree(self._private, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def is_installed() -> bool:
    """Whether llama.cpp is here."""
    return find_spec(PACKAGE) is not None


def require_installed() -> None:
    """Raises Misconfigured where llama.cpp is not here."""
    if not is_installed():
        raise Misconfigured(
            f"Answering people needs llama.cpp: there is no Python package {PACKAGE}.",
            hint=f"Run `pip install 'bhavana[{EXTRA}]'`, or set serving.enabled = false.",
        )


def model_file(base: Base, given: str) -> str:
    """The base as a GGUF file: what the settings name, or the base where it is one.

    Raises Misconfigured, also for a file that is another model by its sizes.
    """
    if not given:
        if base.kind == "gguf":
            return base.location
        raise Misconfigured(
            f"The base {base.name} is no GGUF file, which llama.cpp needs to answer with it.",
            hint="Name its GGUF form in serving.gguf (F16, or what you want to serve); llama.cpp's "
            "convert_hf_to_gguf.py makes one of a model folder.",
        )
    path = Path(given).expanduser().absolute()
    if not path.is_file():
        raise Misconfigured(f"serving.gguf: there is no file {path}.")
    wanted = shape_of(base)
    found = shape_of(Base(name=path.name, kind="gguf", location=str(path), hash=""))
    if replace(found, model_type=wanted.model_type) != wanted:
        raise Misconfigured(
            f"serving.gguf: {path} is another model than the base {base.name}.",
            hint="Name the base's own GGUF form.",
        )
    return str(path)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))
