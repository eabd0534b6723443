# Every command of the project.  `make` prints them.
# Needs python3 (>= 3.11) with pip, make, and a network the first time.  All paths below are relative: the checkout may
# stand in a folder with spaces in its name.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3#  the Python to make .venv with, read when .venv is made
MARK ?= not slow#  which tests by marker; `make test MARK=` runs all
TESTS ?= tests#  which tests by file
PYTEST_ARGS ?=#  anything else for pytest
QUICK ?=#  anything here makes `make bench` short
SECONDS_EACH ?= 60#  how long `make fuzz` looks at each target
TARGETS ?=#  which of tests/fuzz/fuzz_targets, all by default
N ?=#  how many executions `make soak` runs
JSON ?=#  a file for every measurement of `make bench`

READY := .venv/.ready
# A checkout that was moved or copied has a .venv that points at the old place: make it again.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: $(READY) ## make .venv with .venv/bin/bichat (PYTHON=python3.12 chooses the Python)
	@echo "==> ready: .venv/bin/bichat"

$(READY): pyproject.toml requirements/dev.txt requirements/bootstrap.txt scripts/setup.sh
	@PYTHON='$(PYTHON)' sh scripts/setup.sh

.PHONY: demo
demo: $(READY) ## sales CSV in; chart, CSV, XLSX and PDF out of the sandbox into build/demo
	@.venv/bin/bichat run examples/sales_report.py --file examples/data/sales.csv --output-dir build/demo --timings

.PHONY: test
test: $(READY) ## run every test (MARK="slow or not slow" adds the slow ones)
	@.venv/bin/python -m pytest -m "$(MARK)" $(PYTEST_ARGS) $(TESTS)

.PHONY: check
check: $(READY) ## format, lint, types and layers; changes nothing
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/basedpyright
	.venv/bin/lint-imports --no-cache

.PHONY: bench
bench: $(READY) ## what sessions cost on this machine, into docs/benchmarks.md (QUICK=1 for a glance, JSON=FILE for every measurement)
	@PYTHONPATH=scripts .venv/bin/python -m bench --effort $(if $(QUICK),quick,full) $(if $(JSON),--json '$(JSON)')

.PHONY: fuzz
fuzz: $(READY) ## look for bytes that break a promise, guided by coverage (TARGETS="names saved", SECONDS_EACH=600)
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements/fuzz.txt
	@nice -n 19 .venv/bin/python tests/fuzz/fuzz.py --seconds $(SECONDS_EACH) $(TARGETS)

.PHONY: soak
soak: $(READY) ## thousands of mixed executions: what grows?, into docs/soak.md (N=200 for a short one)
	@PYTHONPATH=scripts .venv/bin/python -m soak $(if $(N),--executions '$(N)')

.PHONY: format
format: $(READY) ## put the code into its form, and mend what ruff can mend
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

.PHONY: lock
lock: $(READY) ## compile requirements/*.txt and the environments' lock files again (UPGRADE=--upgrade for newer ones)
	@sh scripts/lock.sh $(UPGRADE)

.PHONY: clean
clean: ## remove .venv and everything built in the checkout
	rm -rf .venv build dist .hypothesis .pytest_cache .ruff_cache .import_linter_cache .coverage
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
