# SPDX-License-Identifier: Apache-2.0
# The one front door. `make help` lists what there is.

PYTHON ?= python3
AS_ROOT := $(filter 0,$(shell id -u))
VENV ?= .venv
# Library versions: `make test PYTHON=python3.12 VENV=build/py312 CONSTRAINTS=tests/el10.txt` is all of it with those.
CONSTRAINTS ?=
# python3.12 in PATH, or pyenv's.
PYTHON312 ?= $(shell for python in python3.12 "$$(pyenv root 2>/dev/null)"/versions/3.12.*/bin/python3.12; do \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null && echo "$$python" && break; done)
# Installs what Debian packages tests need and the machine lacks.
BOOTSTRAP ?= tests/bootstrap.sh
LABS ?= 3
# Processes that share unit tests, which wait half of the time; pilot scripts have time limits of their own.
WORKERS ?= 4
PILOTS ?= 2
IN_PARALLEL = --numprocesses $(WORKERS)
BIN := $(VENV)/bin
# Where real programs share the machine: what has failed runs once more, alone, and is named when it passes.
AGAIN = $(BIN)/python -m tests.again $$?
# Tests and demo leave no compiled files in the checkout, which the lab mounts read-only.
export PYTHONDONTWRITEBYTECODE := 1

FILES = git ls-files --cached --others --exclude-standard
SHELL_FILES = $(shell { $(FILES) '*.sh'; $(FILES) | xargs -r -d '\n' grep -lsEm1 '^\#!(/usr/bin/env |/bin/)(ba)?sh'; } | grep -vE '[.](py|bats)$$' | sort -u)
# What a host's own /bin/sh runs; tests/shell/posix.bats has what is part of another program.
POSIX_FILES = $(shell $(FILES) | xargs -r -d '\n' grep -Hsm1 '^\#!' | sed -n 's/:\#!.bin.sh$$//p' | grep -v '[.]py$$')
# Code in single quotes is for another shell, variables are for the library under test, and bats stops at a failed cd.
BATS_IS_FINE = SC1003,SC2016,SC2030,SC2031,SC2034,SC2164

.PHONY: help demo test lint shell unit el9 el10 rpm packaging lab lab-next bench docs commands lab-up lab-down lab-shell clean

help:
	@echo 'make demo                a real job from a site file to a worker node, step by step (needs root)'
	@echo 'make test                lint, unit tests and, as root, lab tests: what CI runs'
	@echo 'make el9 | el10          unit tests with the Python and the libraries of EL9 (needs root), EL10 (needs python3.12)'
	@echo 'make rpm                 the packages for EL, into build/rpm'
	@echo 'make lint | shell | unit | packaging | lab   parts of it; PYTEST_ARGS= goes to pytest'
	@echo 'make docs                the pages, into build/docs; make commands writes docs/commands'
	@echo 'make bench               measurements, as ratios'
	@echo 'make lab-up | lab-down   the lab: real hosts in name spaces (needs root)'
	@echo 'make lab-shell HOST=login [USER_IN=pilot]'

demo:
	@$(PYTHON) -m tests.lab.demo

test: lint shell unit $(if $(CONSTRAINTS),,el9 el10) packaging docs lab lab-next

PIP_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check

# Debian packages first: `python3 -m venv` is one of them. The pip of a Python 3.9 may be too old for a checkout without
# setup.py.
$(VENV)/.done: setup.cfg tests/bootstrap.sh tests/readers.txt $(CONSTRAINTS)
	$(BOOTSTRAP)
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) 'pip>=21.3'
	$(PIP_INSTALL) $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) -e '.[test]'
	$(PIP_INSTALL) --no-deps -r tests/readers.txt
	touch $@

lint: $(VENV)/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	if [ -x $(BIN)/mypy ]; then $(BIN)/mypy; else echo 'mypy skipped: it needs Python 3.10'; fi
	shellcheck $(SHELL_FILES)
	shellcheck --exclude=$(BATS_IS_FINE) tests/shell/*.bats tests/shell/*.bash
	checkbashisms $(POSIX_FILES)

# Pilot scripts: the libraries function by function, then whole scripts on nodes that lack things (as root).
shell: $(VENV)/.done
	mkdir -p build/bats
	bats --jobs $(PILOTS) --report-formatter junit --output build/bats tests/shell || $(AGAIN) tests/shell build/bats/report.xml
	$(BIN)/pytest tests/pilot --numprocesses $(PILOTS) $(PYTEST_ARGS) || $(AGAIN) tests/pilot

# As root the factory's root file system serves as a real HTCondor for tests that build a bundle.
GWMS_TEST_CONDOR_ROOT ?= $(if $(AS_ROOT),$$($(PYTHON) -m tests.lab rootfs))

unit: $(VENV)/.done
	export GWMS_TEST_CONDOR_ROOT=$(GWMS_TEST_CONDOR_ROOT); \
	$(BIN)/pytest tests/unit $(IN_PARALLEL) --dist loadfile $(PYTEST_ARGS) || $(AGAIN) tests/unit

# The same tests with what EL9 carries, under a Debian that has its Python.
el9: $(VENV)/.done
	@$(if $(AS_ROOT),GWMS_TEST_CONDOR_ROOT=$(GWMS_TEST_CONDOR_ROOT) $(PYTHON) -m tests.lab.debian11 \
	make unit PYTHON=python3 VENV=build/el9 CONSTRAINTS=tests/el9.txt BOOTSTRAP=,\
	echo 'el9 skipped: the root file system with its Python needs root')

# The same tests with what EL10 carries.
el10:
	@$(if $(PYTHON312),$(MAKE) unit PYTHON=$(PYTHON312) VENV=build/el10 CONSTRAINTS=tests/el10.txt,\
	echo 'el10 skipped: no python3.12 on this machine')

# Tests mostly wait for batch systems: several labs side by side, each with files of tests of its own.
lab: $(VENV)/.done
	$(BIN)/pytest tests/lab -m 'not alone' --numprocesses $(LABS) --dist loadfile $(PYTEST_ARGS) || $(AGAIN) tests/lab
	$(BIN)/pytest tests/lab -m alone $(PYTEST_ARGS)

rpm:
	tests/bootstrap.sh
	packaging/build-rpm build/rpm

# Packages built, checked, and as root installed, upgraded and removed in empty roots.
packaging: $(VENV)/.done
	$(BIN)/pytest tests/packaging $(PYTEST_ARGS)

# HTCondor 25, Slurm 26, OpenSSH 10.6 (Debian testing). The suite moves, so a failure here is a warning.
lab-next: $(VENV)/.done
	@$(if $(AS_ROOT),GWMS_LAB_PROFILE=next $(BIN)/pytest -q tests/lab/test_main_job.py -k 'exit_code or reason or at_once' || \
	echo 'WARNING: the main job does not pass on Debian testing; Debian 13 is the gate',\
	echo 'lab-next skipped: the lab needs root')

# A dead link, a dead anchor, a page that no menu names: each is an error.
docs: $(VENV)/.done
	$(BIN)/mkdocs build --strict

# man pages and completion are made at packaging; these pages lie in the checkout, so that they can be read there.
commands: $(VENV)/.done
	$(BIN)/python -m glideinwms_bosco.cli.manual --markdown docs/commands

bench: $(VENV)/.done
	$(BIN)/python -m tests.bench

lab-up lab-down:
	@$(PYTHON) -m tests.lab $(@:lab-%=%)

lab-shell:
	@$(PYTHON) -m tests.lab shell $(or $(HOST),$(error name a host: make lab-shell HOST=login)) $(if $(USER_IN),--user $(USER_IN))

clean:
	rm -rf $(VENV) build/docs build/el9 build/el10 *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
