# Two commands are enough: `make demo` and `make test`. Everything is installed in .venv; nothing else is changed.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two more than processors: tests wait half of the time, for a server, a child process or a delay.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 2)))
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
# Hundreds of test processes import the package and the tests: these are compiled once, even if the environment forbids
# bytecode files.
test test-all faults: export PYTHONDONTWRITEBYTECODE :=

help:  ## what can be done
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(READY): requirements.lock pyproject.toml
	@deployments/install.sh "$(PYTHON)" "$(VENV)"
	@touch $@

install: $(READY)  ## the isolated environment with the locked dependencies

demo: $(READY)  ## back up, verify, list, restore and compare a demo library
	@$(BIN)/scriptorium demo

check: $(READY)  ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY) tools  ## every test (long matrices in their reduced form)
	PYTEST_DEBUG_TEMPROOT="$$(deployments/test_folder.sh)" $(BIN)/pytest -m "not slow" -n $(WORKERS) \
	    --dist loadfile --no-loadscope-reorder -o tmp_path_retention_policy=failed

test-all: $(READY) tools  ## every test, with complete long matrices
	$(BIN)/pytest

faults: $(READY) tools  ## the complete matrix of faults: every step killed, every write on a full disk, 1,000 bits changed
	$(BIN)/pytest tests/faults

tools: $(READY)
	@deployments/test_tools.sh

bench: $(READY) tools  ## measured against the usual alternatives
	$(BIN)/python -m benchmarks.backup
	PATH="$$PWD/$(BIN):$$PATH" $(BIN)/python -m benchmarks.stores
	PATH="$$PWD/$(BIN):$$PATH" $(BIN)/python -m benchmarks.bucket

lock:  ## resolve the dependencies again, with hashes
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header --upgrade -q pyproject.toml -o requirements.lock

clean:  ## remove what the demo and the benchmarks left
	rm -rf .demo .bench .cache dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help install demo check test test-all faults tools bench lock clean
