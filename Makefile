# Thin calls of manage.py; without make, run the same commands by hand.
PYTHON ?= python3
PORT ?= 8000
DEBUG ?= 1
NAME ?=
export PORT DEBUG
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help run test check format bench torture mutate

help: ## Show these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/'

run: .venv/.runtime ## Serve the demo on 127.0.0.1:$PORT (8000); SQLite unless DATABASE_URL is set
	@echo "── migrating"
	@$(PY) manage.py migrate --verbosity 0
	@$(PY) manage.py roles --verbosity 0
	@$(PY) manage.py demo
	@$(PY) manage.py serve

test: .venv/.development ## Run every check and the suite, on PostgreSQL and SQLite
	@$(PY) manage.py verify

check: .venv/.development ## Run the checks without the suite
	@$(PY) manage.py verify --only lint --only format --only types --only layers --only migrations --only deploy --only schema

format: .venv/.development ## Format the code and mend what can be mended
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

bench: .venv/.development ## Measure the hot paths; NAME=hot_key for one
	@$(PY) -m benchmarks $(NAME)

torture: .venv/.development ## Break the engine for two hours: faults, and generated requests
	@$(PY) manage.py verify --only faults --only requests

mutate: .venv/.mutation ## Change what decides in small ways and count what its tests notice
	@$(PY) -m benchmarks mutants

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "python3 is missing: install Python 3.11 or newer, or set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is `$(PYTHON) --version`. Set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "── making the virtual environment .venv"
	@$(PYTHON) -m venv .venv || { echo "the venv module is missing: install python3-venv (Debian, Ubuntu) or a full Python"; rm -rf .venv; exit 1; }

.venv/.runtime: requirements.txt .venv/bin/python
	@echo "── installing what the engine runs on"
	@.venv/bin/pip install --disable-pip-version-check --quiet --progress-bar on -r requirements.txt
	@touch $@

.venv/.development: requirements-dev.txt requirements.txt .venv/bin/python
	@echo "── installing what testing needs (a minute or two the first time)"
	@.venv/bin/pip install --disable-pip-version-check --quiet --progress-bar on -r requirements-dev.txt
	@touch $@ .venv/.runtime

.venv/.mutation: requirements-mutation.txt .venv/.development
	@.venv/bin/pip install --disable-pip-version-check --quiet --progress-bar on -r requirements-mutation.txt
	@touch $@
