# Every command of the README, nothing hidden.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
# Each process that the tests start would compile every module anew.
export PYTHONDONTWRITEBYTECODE :=
# A file's tests stay in one process, since they share its servers.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

# Pages of progress and notes, shown only when the command fails.
QUIETLY = >$(VENV)/setup.log 2>&1 || { cat $(VENV)/setup.log >&2; exit 1; }

.PHONY: help setup test test-all check schema demo lock lock-torch clean

help:            ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.installed  ## make the virtual environment and install everything

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade "pip>=25.1" $(QUIETLY)
	$(BIN)/python -m pip install -e ".[serve]" --group dev $(QUIETLY)
	@touch $@

test: setup      ## the default tests: no GPU, loopback only, three minutes of processor time
	$(PYTEST) -m "not slow"

test-all: setup  ## every test that this machine can run
	$(PYTEST)

demo: setup      ## a video from URL to results with everything on this machine; VIDEO=my.mp4 for yours
	$(BIN)/python -m examples.demo $(VIDEO)

check: setup     ## formatting, lint, types, who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

schema: setup    ## write docs/schema, the TypeScript types and the table of settings anew
	$(BIN)/python -m docs.generate

# Resolved for the image's platform, whatever the machine; wheels only, so nothing is compiled at build time.
UV_LOCK := $(BIN)/uv pip compile --upgrade --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	--only-binary :all: --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet
# Where torch's CPU build is read from: PyTorch's own index, or --find-links FOLDER.
TORCH_SOURCE ?= --torch-backend=cpu

lock: setup      ## resolve the image's dependencies anew and record their hashes (locks/)
	$(UV_LOCK) locks/tools.in -c locks/constraints.txt -o locks/tools.txt
	$(UV_LOCK) pyproject.toml -c locks/constraints.txt --no-emit-package torch $(TORCH_SOURCE) -o locks/image.txt
	$(UV_LOCK) locks/cuda-cu128.in -c locks/image.txt -o locks/cuda-cu128.txt

lock-torch: setup  ## record the hashes of torch's builds; needs PyTorch's index
	$(UV_LOCK) locks/torch-cu128.in --no-deps --torch-backend=cu128 -o locks/torch-cu128.txt
	$(UV_LOCK) locks/torch-cpu.in --no-deps --torch-backend=cpu -o locks/torch-cpu.txt

clean:           ## remove what the commands above made
	rm -rf $(VENV) out var .mypy_cache .ruff_cache .hypothesis
