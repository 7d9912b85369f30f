# Everything is reached from here: `make demo`, `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := $(CURDIR):$(CURDIR)/client
# Without PYTHONPATH: pip would take the clone's own leftovers for something installed, and complain of them.
PIP := env -u PYTHONPATH $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

.PHONY: demo serve test test-all lint bench catalogue clean

demo: $(VENV)/.run
	@$(BIN)/trimtab demo

serve: $(VENV)/.run
	@$(BIN)/trimtab serve

# Two at a time, each file in one process, in the order of tests/conftest.py.
test: $(VENV)/.dev lint
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/.dev lint
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m ""

lint: $(VENV)/.dev
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(VENV)/.bench
	@$(BIN)/python -m bench

catalogue: $(VENV)/.run
	@$(BIN)/python -m trainers.catalogue > client/trimtab/catalogue.json
	@$(BIN)/python -m trainers.catalogue optimizers > client/trimtab/optimizers.json
	@$(BIN)/python -m trainers.catalogue page > docs/OPTIMIZERS.md
	@$(BIN)/python -c 'import json; from search.strategies import catalogue; print(json.dumps(catalogue(), indent=2))' \
	  > client/trimtab/strategies.json

# A plain `torch` asked for by another package would take the newest build: ask for the pinned one first.
$(VENV)/.run: constraints.txt pyproject.toml client/pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Trimtab into $(VENV) (a few minutes the first time) ..."
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) -e ./client -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(PIP) -e ./client -e ".[dev]"
	@touch $@

$(VENV)/.bench: $(VENV)/.run
	@$(PIP) -e ./client -e ".[bench]"
	@touch $@

clean:
	rm -rf $(VENV) .trimtab .mypy_cache .ruff_cache .pytest_cache
