# optrelay: `make demo` shows it, `make test` proves it, `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

.PHONY: help install dev demo test lint bench clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

install: $(VENV)/.installed ## make .venv with the locked versions and the optrelay command

dev: $(VENV)/.dev ## the same, with what the tests and linters need

demo: install ## the whole product on this machine: sandbox, broker, a CSV delivered
	@$(BIN)/optrelay demo --folder .demo

test: dev ## every test, on real servers that come from wheels
	@$(BIN)/python -m pytest -q -n 3 --dist worksteal -m "not pace"
	@$(BIN)/python -m pytest -q -m pace

lint: dev ## style, types and the direction of imports
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: dev ## how fast intake is, SQLite and PostgreSQL side by side
	@$(BIN)/python tests/bench/intake.py

clean: ## remove what the commands above made
	@rm -rf $(VENV) .demo build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
