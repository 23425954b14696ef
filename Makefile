# optrelay: `make demo` shows it, `make test` proves it, `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
EXAMPLES ?= 1000
STEPS ?= 50
SEED ?= 1
SECONDS ?= 120
CHANGES ?= 6000
KILLS ?= 12
LEDGER ?= sqlite
PART ?=
ONLY ?= tests
# The files of tests that run alone: reading all the others would take longer than these tests.
PACED = $(shell grep -rl 'mark\.pace' tests --include='test_*.py')
# Where files of bytecode are forbidden, each of the hundreds of commands that the tests start compiles the product anew.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help

.PHONY: help install dev demo picture screenshot test coverage lint bench bench-quick hops model chaos clean audit proofs

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

install: $(VENV)/.installed ## make .venv with the locked versions and the optrelay command

dev: $(VENV)/.dev ## the same, with what the tests and linters need

demo: install ## the whole product on this machine: sandbox, broker, a CSV delivered; KEEP=1 shows it in a browser
	@$(BIN)/optrelay demo --folder .demo $(if $(KEEP),--keep)

picture: install ## the picture of the README from a real demo: docs/demo.svg
	@$(BIN)/python -m console.demo.picture docs/demo.svg

screenshot: dev demo ## the README's picture of the page, from the demo: docs/page.png; needs chromium
	@$(BIN)/python -m tests.support.browser.picture .demo docs/page.png

# Four processes keep two cores as busy as six do, and each of them collects all tests and imports all commands.
test: dev ## the tests, on real servers that come from wheels; two and a half to four minutes on two cores
	@$(BIN)/python -m pytest -q -n 6 --dist worksteal -m "not pace and not proof"
	@$(BIN)/python -m pytest -q -m "pace and not proof" $(PACED)

proofs: dev ## the longer proofs, and properties with all their examples; PART=2/3 runs the second third of them
	@PROOFS=1 PROOF_PART=$(PART) $(BIN)/python -m pytest -q -n 3 --dist worksteal -m "(proof or hypothesis) and not pace"
	@PROOFS=1 PROOF_PART=$(PART) $(BIN)/python -m pytest -q -m "proof and pace" $(PACED) || [ $$? = 5 ]


coverage: dev ## the branches of the product that the tests take, commands that they start included; ONLY picks tests
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(BIN)/python -m coverage run -m pytest -q -n 4 --dist worksteal -m "not pace and not proof" $(ONLY)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report | tee build/coverage/report.txt

lint: dev ## style, types and the direction of imports
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: dev ## beside what a user would pick instead, and every other benchmark; writes build/bench.json
	@$(BIN)/python -m bench

bench-quick: dev ## the regression guard: fails only if a goal is missed by far
	@$(BIN)/python -m bench.guard

hops: dev ## the functions and files that a change passes on its way through the code
	@$(BIN)/python -m bench.hops

model: dev ## everything that can happen to a ledger, in any order, against a model; minutes
	@PROOF_MODEL_EXAMPLES=$(EXAMPLES) PROOF_MODEL_STEPS=$(STEPS) $(BIN)/python -m pytest -q -s tests/model

chaos: dev ## real processes, faults from a seed, a verdict: SEED, SECONDS, CHANGES, KILLS, LEDGER
	@$(BIN)/python -m chaos --seed $(SEED) --seconds $(SECONDS) --changes $(CHANGES) --kills $(KILLS) --ledger $(LEDGER)

audit: build/audit/.installed ## look the locked packages up in the advisory database
	@build/audit/bin/python tests/deployment/audit.py

clean: ## remove what the commands above made
	@rm -rf $(VENV) .demo build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing the locked packages into $(VENV): about 20 seconds"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.installed
	@echo "installing what the tests and linters need: about 20 seconds"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

build/audit/.installed: requirements-audit.lock
	@$(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-audit.lock
	@touch $@
