"""llama.cpp's own server (xllamacpp) over the embedded base model: `python -m … PORT_FILE`.

A real endpoint for the judge's tests: its protocol, schema, grammar and log-probabilities. The
model is far too small to judge anything. Ends with its stdin, so it cannot outlive the tests.
"""

from __future__ import annotations

import sys

import xllamacpp

from trainer.base import locate


def main() -> None:
    """Serves on a free port of 127.0.0.1 until stdin ends; prints the address first."""
    params = xllamacpp.CommonParams()
    params.model.path = locate("smollm2-135m").location
    params.n_ctx = 16_384
    params.n_parallel = 2
    params.cpuparams.n_threads = 1  # two wait for each other by spinning, on a busy machine long
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
