# Everything a newcomer needs: `make demo` and `make test` set up what they use.

PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11; do \
	$$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& echo $$candidate && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HOME_FOLDER := $(or $(DUNNING_HOME),data)
PORT ?= 3000

.PHONY: install demo test test-long dev lint format bench clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, and none was found" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: install
	$(BIN)/dunning demo

test: install
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-long: install
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "long or not long"

# Dagster's UI on 127.0.0.1:3000; DEMO=1 opens it on the demo's home.
dev: install
ifdef DEMO
	@test -f $(HOME_FOLDER)/demo/environment || $(BIN)/dunning demo
	@set -a; . $(HOME_FOLDER)/demo/environment; set +a; $(MAKE) --no-print-directory _dev
else
	@$(MAKE) --no-print-directory _dev
endif

.PHONY: _dev
_dev: export DUNNING_HOME := $(abspath $(HOME_FOLDER))
_dev: export DAGSTER_HOME := $(DUNNING_HOME)/dagster
_dev:
	@mkdir -p $(DAGSTER_HOME) && cp -n dagster.yaml $(DAGSTER_HOME)/dagster.yaml || true
	$(BIN)/dagster dev --host 127.0.0.1 --port $(PORT)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV)
