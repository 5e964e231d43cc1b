# SPDX-License-Identifier: Apache-2.0
# The one front door. `make help` lists what there is.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests and demo leave no compiled files in the checkout, which the lab mounts read-only.
export PYTHONDONTWRITEBYTECODE := 1

SHELL_FILES = $(shell git ls-files --cached --others --exclude-standard | xargs -r -d '\n' grep -lE -m1 '^\#!(/usr/bin/env |/bin/|/usr/bin/)(sh|bash|bats)' 2>/dev/null)

.PHONY: help demo test lint unit lab bench lab-up lab-down lab-shell clean

help:
	@echo 'make demo                a real job from a site file to a worker node, step by step (needs root)'
	@echo 'make test                lint, unit tests and, as root, lab tests: what CI runs'
	@echo 'make lint | unit | lab   parts of it; PYTEST_ARGS= goes to pytest'
	@echo 'make bench               measurements, as ratios'
	@echo 'make lab-up | lab-down   the lab: real hosts in name spaces (needs root)'
	@echo 'make lab-shell HOST=login [USER_IN=pilot]'

demo:
	@$(PYTHON) -m tests.lab.demo

test: lint unit lab

# Debian packages first: `python3 -m venv` is one of them.
$(VENV)/.done: setup.cfg tests/bootstrap.sh
	tests/bootstrap.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

lint: $(VENV)/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	shellcheck $(SHELL_FILES)

unit: $(VENV)/.done
	$(BIN)/pytest tests/unit $(PYTEST_ARGS)
	bats tests/shell

lab: $(VENV)/.done
	$(BIN)/pytest tests/lab $(PYTEST_ARGS)

bench: $(VENV)/.done
	$(BIN)/python -m tests.bench

lab-up lab-down:
	@$(PYTHON) -m tests.lab $(@:lab-%=%)

lab-shell:
	@$(PYTHON) -m tests.lab shell $(or $(HOST),$(error name a host: make lab-shell HOST=login)) $(if $(USER_IN),--user $(USER_IN))

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
