# Each target does all the set-up that it needs; Python 3.11 and make are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

AUDIT := .venv-audit

.PHONY: run test check audit setup

run: $(READY)
	$(BIN)/python -m aesearch run studies/beta_sweep.py

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=10

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/helpers/doc_blocks.py

# Asks PyPI for known faults of the packages; one that it cannot tell about is an error, too.
audit:
	test -x $(AUDIT)/bin/pip-audit || ($(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9,<3')
	$(AUDIT)/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@
