# `make demo` and `make test` are all a new user needs; each installs what it needs into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# with what tests and checks need
INSTALLED_DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := demo

.PHONY: demo test test-slow test-lowest check bench wheel clean

demo: $(INSTALLED)
	@mkdir -p $(DEMO)
	cd $(DEMO) && ../$(BIN)/dpvae train beta_h_moons prior=standard_normal --overwrite
	cd $(DEMO) && ../$(BIN)/dpvae train beta_h_moons --overwrite
	cd $(DEMO) && ../$(BIN)/dpvae eval runs/beta_h_moons-standard_normal-seed0 \
	  runs/beta_h_moons-decoupled-seed0 --metrics skl,leak,manifold,manifold_lp
	cd $(DEMO) && ../$(BIN)/dpvae plot moons runs/beta_h_moons-standard_normal-seed0 \
	  runs/beta_h_moons-decoupled-seed0 --labels "standard normal prior,decoupled prior" --out figure1
	@echo "Figure 1 of the paper, from models trained just now: $(CURDIR)/$(DEMO)/figure1.png"

test: $(INSTALLED_DEV)
	$(BIN)/pytest -n auto

test-slow: $(INSTALLED_DEV)
	$(BIN)/pytest -n auto -m slow -rP

# The fast tests with the oldest versions of everything that pyproject.toml allows, in an environment of
# its own. It fetches gigabytes the first time.
test-lowest:
	PYTHON=$(PYTHON) bash .ci/lowest -n auto

check: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples
	$(BIN)/lint-imports
	$(BIN)/deptry .

# Ratios to a floor and to other packages, on a quiet machine; NAME="training nll" measures a part.
# Pythae comes without its requirements, one of which no current Python needs.
bench: $(INSTALLED_DEV)
	$(PIP) --editable '.[bench]'
	$(PIP) --no-deps 'pythae>=0.1.2'
	$(BIN)/python -m benchmarks $(NAME)
	$(BIN)/python -m benchmarks.page

# Build the wheel and run it in an empty environment, outside the repository.
wheel: $(INSTALLED_DEV)
	PYTHON=$(PYTHON) bash .ci/wheel

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dpvae needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(INSTALLED_DEV): pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(INSTALLED)

clean:
	rm -rf $(VENV) .venv-lowest $(DEMO) build dist
