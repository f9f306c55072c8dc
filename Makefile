# make demo: the main job in minutes.  make test: the fast tests.  Everything else: see CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
FIND_LINKS := $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)",--torch-backend auto)
# Telemetry and update checks of the packages we build on stay off, Byte code is compiled once for all Ray workers.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
export UV_PYTHON_DOWNLOADS := never
export UV_COMPILE_BYTECODE := 1

.PHONY: setup demo test test-all check format lock wheel clean

setup: $(STAMP)

$(STAMP): pyproject.toml requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	UV=$$(command -v uv || echo $(BIN)/uv); VIRTUAL_ENV=$(VENV) $$UV pip install --quiet $(FIND_LINKS) -r requirements.txt -e .
	touch $(STAMP)

demo: setup
	$(BIN)/fedsched demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadscope

test-all: setup
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "slow or not slow"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Names and versions only, no hosts: the CPU or CUDA build of torch is chosen at install time, so the old line goes first
lock:
	sed -i.bak -e '/^torch==/d' requirements.txt
	uv pip compile pyproject.toml --group dev --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		$(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)") --output-file requirements.txt
	sed -i.bak -e 's/^torch==\([0-9.]*\)+cpu/torch==\1/' requirements.txt && rm requirements.txt.bak

wheel: setup
	$(BIN)/python -m build --no-isolation --wheel

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache
