# Everything a developer or a new user needs. Each target sets up what it needs first.
# Only python3 (with venv), make and git are expected to be on the machine.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PORT   ?= 9300

.DEFAULT_GOAL := help
.PHONY: help setup run test check format bench lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/.ready: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "sparktune needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "setting up $(VENV) (about a minute the first time) …"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "python3 has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(BIN)/.ready ## make the virtual environment in .venv

run: setup ## a simulated GB10 with daemon and API on port 9300 (PORT=…)
	@$(BIN)/sparktune simulate --port $(PORT)

test: setup ## all tests that need no virtual machine
	@$(BIN)/python -m pytest

check: setup ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## reformat the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## measure everything the design has a budget for
	@$(BIN)/python benchmarks/bench.py

lock: ## renew the lock files (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url -c requirements.lock pyproject.toml --group dev -o requirements-dev.lock

clean: ## remove what the targets above made
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/results
