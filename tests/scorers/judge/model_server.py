"""llama.cpp's own server (xllamacpp), by default over the embedded base: `python -m … [OPTIONS]`.

A real endpoint: for the judge's tests its protocol, schema, grammar and log-probabilities (the
model is far too small to judge anything), for the trainer's what llama.cpp makes of a model and
of adapters that we wrote. Ends with its stdin, so it cannot outlive the tests.
"""

from __future__ import annotations

import argparse
import sys

import xllamacpp

from trainer.base import locate


def main() -> None:
    """Serves on a free port of 127.0.0.1 until stdin ends; prints the address first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="a GGUF file")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        help="a GGUF adapter, applied only where a request asks for it by number",
    )
    arguments = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = arguments.model or locate("smollm2-135m").location
    params.lora_adapters = [
        xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in arguments.adapter
    ]
    params.n_ctx = 16_384
    params.n_parallel = 2
    params.cache_ram_mib = 0  # it hands prompts read under one adapter to requests under another
    params.cpuparams.n_threads = 1  # two wait for each other by spinning, on a busy machine long
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
