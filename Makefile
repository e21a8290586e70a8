# Everything sets itself up: `make run` and `make test` work on a fresh machine with Python 3.11 to 3.13.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NPROC ?= 2
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: help run test test-gpu check generate clean bench

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: $(STAMP)  ## Train a small GPT-2 on the text of this Python installation, with NPROC=2 workers
	$(BIN)/gpt-run data prepare python-library --replace
	$(BIN)/gpt-run train tiny-gpt2 --nproc $(NPROC)
	$(BIN)/gpt-run generate runs/tiny-gpt2 --prompt 'def ' --max-tokens 60

test: $(STAMP)  ## Unit and integration tests (about ten minutes on two cores)
	$(BIN)/python -m pytest -m 'not gpu'

test-gpu: $(STAMP)  ## Tests that need a GPU
	$(BIN)/python -m pytest -m gpu tests/gpu

check: $(STAMP)  ## What CI says first: format, lint, types, import layers, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python docs/generate.py --check

generate: $(STAMP)  ## Write generated files anew
	$(BIN)/python docs/generate.py

bench: $(STAMP)  ## Measure the figures of the README's table (about an hour)
	$(BIN)/python benchmarks/run_all.py

clean:  ## Remove the environment, caches and build outputs; keeps runs/ and data/
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
