# Everything a developer or a new user needs. Each target sets up what it needs first.
# Only python3 (with venv), make and git are expected to be on the machine.

PYTHON  ?= python3
VENV    ?= .venv
BIN     := $(VENV)/bin
PORT    ?= 9300
ARCH    ?= amd64
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup engines run test vm-image test-vm check format deb lintian piuparts bench lock clean

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

# llama.cpp from source, not optimised: it is to serve a tiny model, and a compiler needs minutes otherwise.
# In an environment of its own: nothing of it may get into the daemon's.
.venv-engines/.ready: requirements-engines.lock requirements-engines-build.lock
	@echo "building llama-cpp-python in .venv-engines (about two minutes the first time) …"
	@$(PYTHON) -m venv .venv-engines
	@.venv-engines/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  -r requirements-engines-build.lock
	@PATH="$(CURDIR)/.venv-engines/bin:$$PATH" \
	  CMAKE_ARGS="-DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS=-O0 -DCMAKE_CXX_FLAGS=-O0 -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=OFF -DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF" \
	  .venv-engines/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  --no-build-isolation -r requirements-engines.lock
	@touch $@

engines: .venv-engines/.ready ## a real inference engine for the tests of the advisor, in .venv-engines

run: setup ## a simulated GB10 with daemon and API on port 9300 (PORT=…)
	@$(BIN)/sparktune simulate --port $(PORT)

test: setup ## all tests that need no virtual machine
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not alone and not real_kernel"
	@$(BIN)/python -m pytest -m "alone or real_kernel"

vm-image: setup ## the disk image of a virtual Spark (ARCH=…), in the cache; else test-vm builds it
	@PYTHONPATH=tests $(BIN)/python -m vm.prepare --arch $(ARCH)

test-vm: deb ## the scenarios on virtual Sparks (ARCH=amd64|arm64, K=part of a name, WORKERS=0: one guest at a time)
	@$(BIN)/python -m pytest tests/vm -q -o console_output_style=classic -n $(WORKERS) \
	  --arch $(ARCH) $(if $(K),-k '$(K)')

check: setup ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## reformat the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

deb: setup ## the Debian packages for amd64 and arm64, in dist/
	@$(BIN)/python packaging/build.py

lintian: deb ## what Debian's package checker says against them
	@command -v lintian >/dev/null || { echo "lintian is missing; on Debian and Ubuntu: apt install lintian" >&2; exit 1; }
	@lintian --allow-root --fail-on error,warning dist/*.changes && echo "lintian: no error, no warning"

piuparts: deb ## install, reinstall, remove and purge in a fresh Debian 12; as root
	@packaging/run-piuparts dist/sparktune_*_amd64.deb

bench: setup ## measure everything the design has a budget for
	@$(BIN)/python benchmarks/bench.py

lock: ## renew the lock files (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url -c requirements.lock pyproject.toml --group dev -o requirements-dev.lock
	printf 'cmake<4\nninja\nscikit-build-core[pyproject]>=0.9.2,<2\n' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -o requirements-engines-build.lock
	printf 'llama-cpp-python[server]==0.2.90\n' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header - -o requirements-engines.lock

clean: ## remove what the targets above made
	rm -rf $(VENV) .venv-engines dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/results
