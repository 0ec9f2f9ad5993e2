# `make serve` and `make test` do all the set-up on a fresh machine: they make the virtual environment if it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PORT ?= 8000

.PHONY: install serve test lint format bench clean

install: $(INSTALLED)

serve: $(INSTALLED)
	$(BIN)/tunelab serve --port $(PORT)

# One thread for each of the two processes: threads that share a core spin while they wait for each other. A process that
# died is not replaced: what was left to it may then never be run, and the other would wait for that for ever.
test: $(INSTALLED)-test
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadgroup --max-worker-restart 0

lint: $(INSTALLED)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Options go into ARGS: make bench ARGS="--quick --no-peers"
bench: $(INSTALLED) benchmarks/.venv/.installed
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) benchmarks/.venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Stamps, because `python -m venv` leaves a half-made environment behind where it cannot install pip (Debian without
# python3-venv): one without a working pip is made anew.
$(VENV)/.made benchmarks/.venv/.made:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "TuneLab needs Python 3.11 or newer"'
	$(@D)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(@D)
	touch $@

$(BIN)/python: | $(VENV)/.made ;

# torch alone and first, by its exact version: a package index may offer a CPU build of just this one.
$(VENV)/.torch: pyproject.toml | $(VENV)/.made
	$(BIN)/pip install --quiet torch==2.13.0
	touch $@

$(INSTALLED): pyproject.toml $(VENV)/.torch
	$(BIN)/pip install --quiet --editable .
	touch $@

$(INSTALLED)-test: $(INSTALLED)
	$(BIN)/pip install --quiet --editable '.[test,train]'
	touch $@

# The peers that the benchmark compares with have an environment of their own; TuneLab never imports them.
benchmarks/.venv/.installed: benchmarks/requirements.txt | benchmarks/.venv/.made
	benchmarks/.venv/bin/pip install --quiet torch==2.13.0
	benchmarks/.venv/bin/pip install --quiet --requirement benchmarks/requirements.txt
	touch $@
