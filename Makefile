# `make demo` and `make test` install what they need into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
INSTALLED := $(VENV)/.installed
# including the tools for tests and checks
INSTALLED_DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := demo

# Processes take tests from each other at the end, and share few modules: fixtures are set up once.
PARALLEL := -n auto --dist worksteal

# Without commands, training runs and processes.
FAST := tests/architectures tests/foundation tests/likelihoods tests/mathematics tests/priors \
  tests/recipe tests/regularizers tests/sampling tests/test_model.py tests/trust/test_words.py

# bytecode that is written once saves seconds in every process of the tests
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast test-slow test-lowest test-newest check bench docs wheel dist runtime clean

demo: $(INSTALLED)
	@mkdir -p $(DEMO)
	cd $(DEMO) && ../$(BIN)/dpvae train beta_h_moons prior=standard_normal --overwrite
	cd $(DEMO) && ../$(BIN)/dpvae train beta_h_moons --overwrite
	cd $(DEMO) && ../$(BIN)/dpvae eval runs/beta_h_moons-standard_normal-seed0 \
	  runs/beta_h_moons-decoupled-seed0 --metrics skl,leak,manifold,manifold_lp
	cd $(DEMO) && ../$(BIN)/dpvae plot moons runs/beta_h_moons-standard_normal-seed0 \
	  runs/beta_h_moons-decoupled-seed0 --labels "standard normal prior,decoupled prior" --out figure1
	@cd $(DEMO) && ../$(BIN)/dpvae explore runs/beta_h_moons-standard_normal-seed0 \
	  runs/beta_h_moons-decoupled-seed0 --out explore.html >/dev/null
	@cd $(DEMO) && ../$(BIN)/dpvae report runs/beta_h_moons-standard_normal-seed0 \
	  runs/beta_h_moons-decoupled-seed0 >/dev/null
	@echo "Figure 1 of the paper: $(CURDIR)/$(DEMO)/figure1.png"
	@echo "The report: $(CURDIR)/$(DEMO)/report/report.html"
	@echo "Both latent spaces, to explore in a browser: $(CURDIR)/$(DEMO)/explore.html"

# For the habit before every commit; target: less than a minute on two cores.
test-fast: $(INSTALLED_DEV)
	$(BIN)/pytest $(PARALLEL) $(FAST)

# Every feature by at least one real run; tests/tiers.py names what only test-slow runs.
test: $(INSTALLED_DEV)
	$(BIN)/pytest $(PARALLEL)

test-slow: $(INSTALLED_DEV)
	$(BIN)/pytest $(PARALLEL) -m slow -rP

# `make test` with the oldest versions that pyproject.toml allows, in a separate environment. The first
# run downloads gigabytes.
test-lowest:
	PYTHON=$(PYTHON) bash .ci/lowest $(PARALLEL)

# `make test` with the newest versions.
test-newest: $(INSTALLED_DEV)
	$(PIP) --upgrade --upgrade-strategy eager --editable '.[dev]'
	$(BIN)/pytest $(PARALLEL)

check: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

# The site in docs/_build/html; a warning is an error.
docs: $(INSTALLED_DEV)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "The site: $(CURDIR)/docs/_build/html/index.html"

# Ratios to a floor and to other packages, on an idle machine; NAME="training nll" selects benchmarks.
# Pythae is installed without its requirements, one of which is only for old versions of Python.
bench: $(INSTALLED_DEV)
	$(PIP) --editable '.[bench]'
	$(PIP) --no-deps 'pythae>=0.1.2'
	$(BIN)/python -m benchmarks $(NAME)
	$(BIN)/python -m benchmarks.page

# Build the wheel and run it in an empty environment outside the repository.
wheel: $(INSTALLED_DEV)
	PYTHON=$(PYTHON) bash .ci/wheel

# The distributions for the package index in dist/, checked as the index does.
dist: $(INSTALLED_DEV)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*

# Fetch the runtime of `dpvae explore` anew by npm and compare it with its digests; VERSION=... updates it.
runtime:
	bash .ci/runtime

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dpvae needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[export]'
	@touch $@

$(INSTALLED_DEV): pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(INSTALLED)

clean:
	rm -rf $(VENV) .venv-lowest $(DEMO) build dist docs/_build docs/generated
