# Nine verbs: run, test, soak, demo, check, fix, bench, screenshots, image. Each makes the environment it needs first.
# VENV chooses where that environment lives, PYTHON what it is made of (3.11 or newer), WORKERS how many tests
# run at a time (each takes one core and up to 2 GB), POSTGRES=no leaves out the tests on PostgreSQL.

VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

WORKERS ?= logical
POSTGRES ?= yes

# What is tried on PostgreSQL too: what runs, dispatcher, shim and worker do with rows, and all of storage.
ON_POSTGRES := $(addprefix tests/runs/test_,$(addsuffix .py,worker tickets judging afterwards blind_drawing dispatcher \
	evaluating exchange_jobs generation hosts jobs local publishing runner score_cache)) \
	tests/faults/test_killed_postgres.py tests/storage

# A worker takes a file at a time, in the order that they stand in: the long ones are begun first, so that at the
# end, which is of short ones, no core waits for another.
SHARED := -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# A stamp is named for the requirements it was made from, so a change installs anew and a fresh clone
# beside a good environment does not.
KEY := $(shell cat requirements.txt | cksum | tr ' ' -)
DEV_KEY := $(shell cat requirements.txt requirements-dev.txt | cksum | tr ' ' -)
INSTALLED := $(VENV)/.run-$(KEY)
DEV_INSTALLED := $(VENV)/.dev-$(DEV_KEY)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off
PACKAGES := $(wildcard flowgrpo storage ui app.py)
SOURCES := $(PACKAGES) tests $(wildcard benchmarks tools)

BENCHMARKS := $(filter-out browser common rows hacking newcomer,$(basename $(notdir $(wildcard benchmarks/*.py))))

# What `make image` hands on to tools/replay_dockerfile.py.
IMAGE_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run demo test soak check fix bench docs screenshots image

help:
	@echo "make run    the studio at http://127.0.0.1:7860"
	@echo "make demo   a whole tuning run without a browser; writes demo/"
	@echo "make test   every test"
	@echo "make soak   the promises of docs/reliability.md in full; hours, prints their numbers"
	@echo "make check  format, lint, types, import rules"
	@echo "make fix    formats and repairs what can be repaired"
	@echo "make bench  measures the budgets; prints tables"
	@echo "make docs   writes docs/api.md from the code"
	@echo "make screenshots   the pictures of the guide, of a studio where people have worked (ten minutes)"
	@echo "make image  replays the Dockerfile without Docker, as root; starts it, checks it, prints its size"

run: $(INSTALLED)
	$(BIN)/python app.py serve

demo: $(INSTALLED)
	$(BIN)/python app.py demo

test: $(DEV_INSTALLED)
ifneq ($(POSTGRES),no)
	PATH="$$(tools/postgres.sh):$$PATH" && export PATH && \
		$(BIN)/python -m pytest --postgres $(SHARED) --quiet $(ON_POSTGRES)
endif
	CHROMIUM="$$(tools/chromium.sh)" && export CHROMIUM && $(BIN)/python -m pytest $(SHARED) $(PYTEST_ARGS)

soak: $(DEV_INSTALLED)
	rm -f soak.jsonl
	CHROMIUM="$$(tools/chromium.sh)" && export CHROMIUM && \
		PATH="$$(tools/postgres.sh):$$PATH" && export PATH && $(BIN)/python -m pytest tests/soak $(PYTEST_ARGS)

check: $(DEV_INSTALLED)
	$(BIN)/ruff format --check --quiet $(SOURCES)
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/mypy $(SOURCES)
	$(BIN)/python -m pytest --quiet tests/repository

fix: $(DEV_INSTALLED)
	$(BIN)/ruff check --fix --quiet $(SOURCES)
	$(BIN)/ruff format --quiet $(SOURCES)

docs: $(DEV_INSTALLED)
	$(BIN)/python -m tools.api_docs

screenshots: $(DEV_INSTALLED)
	CHROMIUM="$$(tools/chromium.sh)" && export CHROMIUM && $(BIN)/python -m tools.screenshots

image: | $(BIN)/python
	$(BIN)/python -m tools.replay_dockerfile $(IMAGE_ARGS)

bench: $(DEV_INSTALLED)
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
