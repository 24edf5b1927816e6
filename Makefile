# Every target works from a bare clone with Python 3.11 or newer and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# One torch thread a process: the tests run in two processes.
export OMP_NUM_THREADS ?= 1
# The same random examples at every run; pytest alone draws new ones.
export HYPOTHESIS_PROFILE ?= ci

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint clean

help: ## This list
	@echo "maskdsl: a compiler for structured-mask attention"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## The virtual environment .venv with pinned versions; done once

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "maskdsl needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "[1/3] creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "[2/3] installing torch (the largest package)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@echo "[3/3] installing maskdsl and its tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## Train two small models on associative recall, log-linear against plain Mamba-2 (under two minutes)
	@OMP_NUM_THREADS=2 $(BIN)/python examples/mqar.py

test: $(STAMP) ## All tests, in two processes
	@$(BIN)/python -m pytest -q --numprocesses 2 --dist worksteal tests

lint: $(STAMP) ## ruff (style, import rule) and mypy (types)
	@$(BIN)/ruff check .
	@rm -rf build/typed && mkdir -p build/typed
	@cp -R maskdsl build/typed/ && cp -R codegen runtime library build/typed/maskdsl/
	@cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p maskdsl
	@MYPYPATH=build/typed $(BIN)/mypy examples

clean: ## Remove build outputs and caches, but not .venv
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
