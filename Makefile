# Two commands on a fresh machine do everything: `make demo` and `make test`.

PYTHON ?= python3
BIN = .venv/bin
OFFLINE = HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: .venv/ready ## make the virtual environment from requirements.lock

# torch first and with its dependencies: its builds differ in them (CPU, CUDA).
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup ## turn the whole loop once on the embedded default and show the result
	$(OFFLINE) $(BIN)/python -m daemon.demo

serve: setup ## run the daemon in the foreground
	$(BIN)/bhavana serve

test: setup ## the tests, without those marked slow
	$(OFFLINE) $(BIN)/pytest -m "not slow" -n 2 --durations 40

test-all: setup ## every test
	$(OFFLINE) $(BIN)/pytest -n 2 --durations 40

bench: setup ## figures, each beside a reference measured in the same run
	$(OFFLINE) $(BIN)/python -m tests.benchmarks

gate-trial: setup ## try to get wrong adapters through the gates, and right ones (hours)
	$(OFFLINE) $(BIN)/python -m tests.trial

lint: setup ## formatting, lint and types, as CI checks them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup ## format the code and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup ## write requirements.lock anew from the virtual environment
	(grep '^#' requirements.lock; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu//' \
	    | grep -v '^bhavana') > requirements.new && mv requirements.new requirements.lock

.PHONY: help setup demo serve test test-all bench gate-trial lint format lock
