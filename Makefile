# Every command of the README, nothing hidden.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.PHONY: help setup test test-all check demo clean

help:            ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.installed  ## make the virtual environment and install everything

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q -e ".[serve]" --group dev
	@touch $@

test: setup      ## the default tests: no GPU, loopback only, a few minutes
	$(BIN)/python -m pytest -m "not slow"

test-all: setup  ## every test that this machine can run
	$(BIN)/python -m pytest

check: setup     ## formatting, lint, types, who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:           ## remove what the commands above made
	rm -rf $(VENV) out var .mypy_cache .ruff_cache .hypothesis
