"""`python -m trainer.serve DIR`: answers people until its parent ends, over a socket of its own.

llama.cpp's server in this process; nothing of ours runs between a request and its answer. The
socket lies in a folder that only this user can enter.
"""

from __future__ import annotations

import argparse
import mmap
import sys
import threading
from pathlib import Path

import xllamacpp

from store.errors import BhavanaError
from store.orphans import end_without_parent
from trainer.base import Base
from trainer.gguf.lora import write_lora
from trainer.job import OOM_SCORE, OOM_SCORE_ADJUSTMENT, exit_code, read_record
from trainer.serving import Held, Order, ServeJob
from trainer.templates import PLAIN

HEAD_BYTES = 64 << 20
"""More than the head of any GGUF file holds, which ends with its tokenizer."""
TEMPLATE_KEY = b"tokenizer.chat_template"
ERRORS_ONLY = 1
REASONING_AS_IT_IS = 0
"""What a model thinks aloud is part of what it said."""


def serve(order: Order) -> xllamacpp.Server:
    """A server that has loaded everything and answers on the order's socket."""
    job = order.job
    params = xllamacpp.CommonParams()
    params.model.path = job.model
    params.lora_adapters = [
        xllamacpp.CommonAdapterLoraInfo(str(path), 0.0) for path in adapter_files(job)
    ]
    params.lora_init_without_apply = True  # each request says which
    params.n_ctx = job.context * job.slots
    params.n_parallel = job.slots
    params.n_gpu_layers = job.gpu_layers
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job.threads
    params.hostnames = [order.socket]
    params.port = 0
    if not _has_template(Path(job.model)):
        params.chat_template = PLAIN  # what it was trained with
    # What a model writes is passed on as it is: no tools are looked for, no thoughts are cut out.
    params.force_pure_content_parser = True
    params.reasoning_format = REASONING_AS_IT_IS
    params.prefill_assistant = False
    params.cache_ram_mib = 0  # no conversation stays in memory once another takes its slot
    params.endpoint_slots = params.endpoint_props = params.ui = False
    params.verbosity = ERRORS_ONLY
    return xllamacpp.Server(params)


def adapter_files(job: ServeJob) -> list[Path]:
    """The job's adapters in llama.cpp's form, in its order; those of earlier jobs go."""
    folder = Path(job.cache)
    folder.mkdir(parents=True, exist_ok=True)
    files = [_file(one, job.base, folder) for one in job.adapters]
    for other in set(folder.glob("*.gguf")) - set(files):
        other.unlink(missing_ok=True)
    return files


def _file(one: Held, base: Base, folder: Path) -> Path:
    path = folder / f"{one.adapter_hash}.gguf"
    if not path.is_file():
        write_lora(Path(one.adapter), base, path)
    return path


def _has_template(model: Path) -> bool:
    """Whether the file brings a chat template; a reader of all its keys would take seconds."""
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        return content.find(TEMPLATE_KEY, 0, HEAD_BYTES) >= 0


def main() -> int:
    """The exit code of a start that failed; a server that stands is ended from outside."""
    parser = argparse.ArgumentParser(prog="python -m trainer.serve", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with job.json")
    folder = parser.parse_args().folder
    end_without_parent()
    OOM_SCORE.write_text(OOM_SCORE_ADJUSTMENT)
    try:
        server = serve(read_record(folder / "job.json", Order))
    except BhavanaError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    except RuntimeError as error:  # llama.cpp's, which has said more in the lines above
        print(f"error: llama.cpp does not load this: {error}", file=sys.stderr)
        return 2
    threading.Event().wait()
    del server  # never reached; it must live until then
    return 0


if __name__ == "__main__":
    sys.exit(main())
