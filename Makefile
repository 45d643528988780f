# Each target makes the virtual environment when it is missing. PYTHON chooses the interpreter that makes it.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEVELOPMENT := .venv/.development

.DEFAULT_GOAL := help
.PHONY: help bench leaderboard test test-slow check clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

bench: $(INSTALLED)  ## run the quick suite: train, evaluate, report (goes on where it was stopped)
	$(BIN)/mrl-bench bench --suite quick

leaderboard: $(INSTALLED)  ## write the site of the leaderboard in leaderboard/ to site/
	$(BIN)/mrl-bench leaderboard site

test: $(DEVELOPMENT)  ## run the fast tests, two at a time
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(DEVELOPMENT)  ## run the tests that train for minutes
	$(BIN)/python -m pytest -m slow

check: $(DEVELOPMENT)  ## lint, format and type checks
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:  ## remove the virtual environment, runs and caches
	rm -rf .venv runs site .pytest_cache .mypy_cache .ruff_cache build dist

# Python compiles a module when it is first imported; to compile all that torch brings along takes a minute.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

$(DEVELOPMENT): $(INSTALLED)
	$(PIP) -e '.[carla,dev]'
	touch $@
