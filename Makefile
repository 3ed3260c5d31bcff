# Six verbs: run, test, demo, check, fix, bench. Each makes the environment it needs first.
# VENV chooses where that environment lives, PYTHON what it is made of (3.11 or newer), WORKERS how many tests
# run at a time (each takes one core and up to 2 GB).

VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

WORKERS ?= logical

# A stamp is named for the requirements it was made from, so a change installs anew and a fresh clone
# beside a good environment does not.
KEY := $(shell cat requirements.txt | cksum | tr ' ' -)
DEV_KEY := $(shell cat requirements.txt requirements-dev.txt | cksum | tr ' ' -)
INSTALLED := $(VENV)/.run-$(KEY)
DEV_INSTALLED := $(VENV)/.dev-$(DEV_KEY)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off
PACKAGES := $(wildcard flowgrpo storage ui app.py)
SOURCES := $(PACKAGES) tests $(wildcard benchmarks)

BENCHMARKS := $(filter-out common hacking,$(basename $(notdir $(wildcard benchmarks/*.py))))

.DEFAULT_GOAL := help
.PHONY: help run demo test check fix bench

help:
	@echo "make run    the studio at http://127.0.0.1:7860"
	@echo "make demo   a whole tuning run without a browser; writes demo/"
	@echo "make test   every test"
	@echo "make check  format, lint, types, import rules"
	@echo "make fix    formats and repairs what can be repaired"
	@echo "make bench  measures the budgets; prints tables"

run: $(INSTALLED)
	$(BIN)/python app.py serve

demo: $(INSTALLED)
	$(BIN)/python app.py demo

test: $(DEV_INSTALLED)
	CHROMIUM="$$(tools/chromium.sh)" && export CHROMIUM && $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

check: $(DEV_INSTALLED)
	$(BIN)/ruff format --check --quiet $(SOURCES)
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/mypy $(SOURCES)
	$(BIN)/python -m pytest --quiet tests/repository

fix: $(DEV_INSTALLED)
	$(BIN)/ruff check --fix --quiet $(SOURCES)
	$(BIN)/ruff format --quiet $(SOURCES)

bench: $(INSTALLED)
	@for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "FlowGRPO Studio needs Python 3.11 or newer: install it, or set PYTHON to its path." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): | $(BIN)/python
	@echo "Installing what the studio needs into $(VENV) (a few minutes, once) ..."
	$(PIP) -r requirements.txt
	@touch $@

$(DEV_INSTALLED): | $(BIN)/python
	@echo "Installing what the studio and its tests need into $(VENV) (a few minutes, once) ..."
	$(PIP) -r requirements-dev.txt
	@touch $@ $(INSTALLED)
