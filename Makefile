# `make book` and `make test` do everything from a fresh clone; see README.md.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin

# Everything that tools would leave in the home folder stays inside the clone.
CACHE := $(CURDIR)/.cache
export XDG_CACHE_HOME := $(CACHE)
export PIP_CACHE_DIR := $(CACHE)/pip
export MPLCONFIGDIR := $(CACHE)/matplotlib
export IPYTHONDIR := $(CACHE)/ipython
export JUPYTER_CONFIG_DIR := $(CACHE)/jupyter/config
export JUPYTER_DATA_DIR := $(CACHE)/jupyter/data
export JUPYTER_RUNTIME_DIR := $(CACHE)/jupyter/runtime
export TORCHINDUCTOR_CACHE_DIR := $(CACHE)/inductor
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PAGE := book/_build/html/index.html
SOURCES := $(shell find book vggkit results -type f -not -path '*/_build/*' -not -path '*/__pycache__/*' -not -path '*/.checkpoints/*' 2>/dev/null)

.PHONY: setup book test lint notebooks
setup: $(VENV)/ready

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and f"vggkit needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
ifeq ($(TORCH),system)
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/python -c 'import torch; print("keeping torch", torch.__version__)'
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(TORCH)
endif
	$(BIN)/pip install -q --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

book: $(PAGE)
	@echo "The book is built: open $(PAGE)"

$(PAGE): $(VENV)/ready $(SOURCES)
	$(BIN)/jupyter-book build book/ --all -W --keep-going
	@touch $@

test: $(VENV)/ready
	$(BIN)/python -m pytest

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: $(VENV)/ready
	$(BIN)/jupytext --sync notebooks/*.py
	$(BIN)/vggkit notebooks

# What the tests find of the faults in tests/faults/faults.toml: make mutation FAULTS="trainer he-gain", or --quick.
.PHONY: mutation
mutation: $(VENV)/ready
	$(BIN)/python -m tests.faults $(FAULTS)
