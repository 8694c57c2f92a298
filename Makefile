# The whole of it: `make demo` shows Repeatr, `make test` tests it. Nothing is needed but
# Python 3.11 or newer; everything that is installed goes into .venv in this directory.

PYTHON ?= python3
PYTEST_ARGS ?=

.PHONY: help demo test lint clean

help:
	@echo 'make demo    run a first formula, twice, in every engine that works here'
	@echo 'make test    run the tests (make test PYTEST_ARGS="-k filters" for some of them)'
	@echo 'make lint    check style, types and which room imports which'
	@echo 'make clean   remove what the other three made: .venv, demo-work, caches'

demo: .venv/installed
	@.venv/bin/python scripts/demo.py

test: .venv/installed-dev
	.venv/bin/python -m pytest -n auto $(PYTEST_ARGS)

lint: .venv/installed-dev
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy
	.venv/bin/lint-imports

# Installed anew only when what is to be installed has changed.
.venv/installed: pyproject.toml scripts/venv
	@PYTHON='$(PYTHON)' scripts/venv .
	@touch $@

.venv/installed-dev: pyproject.toml scripts/venv
	@PYTHON='$(PYTHON)' scripts/venv '.[dev]'
	@touch $@ .venv/installed

clean:
	rm -rf .venv demo-work build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
