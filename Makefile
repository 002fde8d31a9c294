# make demo   the dashboard in JupyterLab          ARGS="--no-browser --port 8899"
# make test   everything, browser tests included   ARGS="-k heads" JOBS=3
# make bench  measured ratios beside their budgets
# make hostile   random hostile input at length   ARGS="--attempts 5000 files"
# make mutate   each line of docs/thesis.md made false in a copy: its test has to fail   ARGS="'Equation 3.1' Figure --fresh"
# make lowest   the tests on the least versions that pyproject.toml allows   ARGS=tests/lens
# make demo-assets   what the demo ships, made again where something changed   ARGS=--list
# make docs   the documentation site in build/site   ARGS="--serve 8000"
# make lint   ruff, mypy, prettier, tsc and eslint
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 3
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS)

APT := DEBIAN_FRONTEND=noninteractive apt-get install -y -qq
FOUND := command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || command -v google-chrome >/dev/null || [ -n "$$CHROMIUM" ]

.PHONY: demo demo-assets docs test bench hostile mutate lowest lint lint-python browser chromium scripts clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 10) else "clipviz needs Python 3.10 or newer, found %d.%d; pass PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(INSTALL) -e ".[all]"
	@touch $@

$(VENV)/.tools: pyproject.toml | $(BIN)/python
	$(INSTALL) -e ".[dev]"
	@touch $(VENV)/.installed $@

demo: $(VENV)/.installed
	$(BIN)/clipviz demo $(ARGS)

# One process more than two cores have, since the browser's tests also wait.
test: $(VENV)/.tools browser scripts
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadgroup --no-loadscope-reorder $(ARGS)

# A Chromium for the browser tests: the system's, else apt as root, else Playwright's own; tests say if there is none.
# Debian's shell without windows and menus needs less computing than the whole of Chromium, Ubuntu's apt has none.
browser: $(VENV)/.tools chromium
	@if $(FOUND); then :; \
	else $(BIN)/python -m playwright install chromium >/dev/null 2>&1 || echo "Playwright could not install chromium"; fi

chromium:
	@if $(FOUND); then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		(apt-get update -qq && ($(APT) chromium-headless-shell || $(APT) chromium)) >/dev/null 2>&1 || echo "apt could not install chromium"; fi

# What checks the panels' scripts; the browser tests read axe-core from it.
scripts: $(VENV)/.tools
	@tools/js/install $(VENV)

bench: $(VENV)/.tools
	$(BIN)/python -m benchmarks $(ARGS)

hostile: $(VENV)/.tools
	$(BIN)/python -m tests.hostile $(ARGS)

mutate: $(VENV)/.tools
	$(BIN)/python -m tests.mutations $(ARGS)

demo-assets: $(VENV)/.tools
	$(BIN)/python -m tools.demo $(ARGS)

docs: $(VENV)/.tools
	$(BIN)/python -m tools.docs $(ARGS)

# Old packages warn of each other, so warnings are no errors here. uv resolves the least versions.
lowest: $(VENV)/.tools
	$(INSTALL) uv
	test -d $(VENV)/lowest || $(BIN)/uv venv --quiet --python $(BIN)/python $(VENV)/lowest
	$(BIN)/uv pip install --quiet --system-certs --python $(VENV)/lowest/bin/python --resolution lowest-direct -e ".[dev]"
	$(VENV)/lowest/bin/python -m pytest -W default $(or $(ARGS),tests/lens tests/models tests/session tests/panels tests/data)

lint: lint-python scripts
	tools/js/check $(VENV)

lint-python: $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist artifacts *.egg-info
