# Everything sets itself up: `make run` and `make test` work on a fresh machine with Python 3.11 to 3.13.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NPROC ?= 2
# Of `make faults`: how many runs, from which seed on, and where.
N ?= 100
SEED ?= 1
WHERE ?= local
# The helm of the cluster tests' pins, compiled at its first use.
HELM = $$($(PYTHON) -m tests.cluster.tools helm)
# Hashes and ids are all over the place, and meant to be; a line that looks like a secret of another kind and is none says
# `pragma: allowlist secret`.
NOT_SECRETS := --disable-plugin HexHighEntropyString --disable-plugin Base64HighEntropyString
# A process that dies ends the tests with the name of the one it was in; replaced, it would leave the others waiting.
PARALLEL := --numprocesses 2 --dist loadfile --max-worker-restart 0
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: help run test test-slow test-ray test-gpu faults fuzz test-cluster test-cluster-full cluster-up cluster-down check audit generate docs constraints bench compare
.PHONY: images charts charts-push clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP):  # named after what it installs, so times of files do not matter
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
		sys.exit(None if (3, 11) <= v < (3, 14) else f"Python {v[0]}.{v[1]} found, 3.11 to 3.13 needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: $(STAMP)  ## Train a small GPT-2 on the text of this Python installation, with NPROC=2 workers
	$(BIN)/gpt-run data prepare python-library --replace
	$(BIN)/gpt-run train tiny-gpt2 --nproc $(NPROC)
	$(BIN)/gpt-run generate runs/tiny-gpt2 --prompt 'def ' --max-tokens 60

test: $(STAMP)  ## Unit, integration and chart tests (under ten minutes on two cores)
	@$(BIN)/python -m tests.cluster.tools helm actionlint || echo 'tests that need these will be skipped'
	$(BIN)/python -m pytest -m 'not gpu and not cluster and not ray and not slow' $(PARALLEL)

test-slow: $(STAMP)  ## The tests that take longest: runs under much trouble, every documented command
	$(BIN)/python -m pytest -m slow $(PARALLEL)

test-ray: $(STAMP)  ## Runs on Ray clusters of this machine, one after another
	$(BIN)/python -m pytest -m ray tests/integration/ray

faults: $(STAMP)  ## Small runs under drawn faults: N=100 of them from SEED=1 on; SEED=17 N=1 plays one again; WHERE=cluster
	$(BIN)/python -m tests.faults --n $(N) --seed $(SEED) --where $(WHERE)

fuzz: $(STAMP)  ## A hundred times as many examples of the fuzz tests as in `make test`
	$(BIN)/python -m pytest --hypothesis-profile=long tests/unit/fuzz --timeout 3600

test-gpu: $(STAMP)  ## Tests that need a GPU
	$(BIN)/python -m pytest -m gpu tests/gpu

cluster-up: $(STAMP)  ## Bring up a real Kubernetes cluster on this machine (root, Go; 20 minutes the first time)
	$(BIN)/python -m tests.cluster up

cluster-down:  ## Take it away again
	$(BIN)/python -m tests.cluster down

test-cluster: $(STAMP)  ## What users do first, on that cluster or the one of GPTRUN_TEST_KUBECONFIG
	$(BIN)/python -m pytest tests/cluster/test_smoke.py

test-cluster-full: $(STAMP)  ## All cluster tests
	$(BIN)/python -m pytest -m cluster tests/cluster

check: $(STAMP)  ## What CI says first: format, lint, types, import layers, secrets, generated files, the pages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook $(NOT_SECRETS)
	$(BIN)/python -m docs.generate --check
	$(BIN)/python -m charts.generator --check
	$(BIN)/python -m docs.check

audit: $(STAMP)  ## Known holes in the versions of constraints.txt, by the Python advisory database (needs pypi.org)
	$(BIN)/uv tool run pip-audit==2.10.1 --requirement constraints.txt --no-deps --disable-pip

generate: $(STAMP)  ## Write generated files anew
	$(BIN)/python -m docs.generate
	$(BIN)/python -m charts.generator --helm "$(HELM)"

docs: generate  ## Write generated pages anew and look for dead links, stale commands and undocumented values in all
	$(BIN)/python -m docs.check

constraints: $(STAMP)  ## Resolve the pins of constraints.txt anew
	@echo '# Tested versions of everything, for Python 3.11 to 3.13; written by `make constraints`.' > constraints.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header --no-emit-index-url \
		--no-emit-find-links --all-extras pyproject.toml >> constraints.txt

bench: $(STAMP)  ## Measure the figures of the README's table (about an hour)
	$(BIN)/python -m benchmarks.run_all

compare: $(STAMP)  ## Measure gpt-run and its peers side by side, and draw docs/compare.md (about twenty minutes)
	$(BIN)/python -m benchmarks.compare

images:  ## Build the container images; IMAGES='trainer --base NAME' and more, IMAGES=--help lists it
	$(PYTHON) images/build.py $(IMAGES)

charts:  ## Package the charts as VERSION into dist/charts
	@test -n "$(VERSION)" || { echo 'say which version: make charts VERSION=1.2.3'; exit 2; }
	helm=$(HELM) && for chart in charts/*/Chart.yaml; do \
		"$$helm" package "$${chart%/*}" --version $(VERSION) --app-version $(VERSION) --destination dist/charts || exit 1; \
	done

charts-push: charts  ## Package the charts and push them to REGISTRY (oci://...)
	@test -n "$(REGISTRY)" || { echo 'say where to: make charts-push VERSION=1.2.3 REGISTRY=oci://HOST/PATH'; exit 2; }
	helm=$(HELM) && for chart in dist/charts/*-$(VERSION).tgz; do "$$helm" push "$$chart" $(REGISTRY) || exit 1; done

clean:  ## Remove the environment, caches and build outputs; keeps runs/ and data/
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
