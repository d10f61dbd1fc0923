# Two commands: `make demo` runs the whole chain on what the package ships, `make test` checks it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test bench clean

demo: $(VENV)/demo.ready
	$(BIN)/retinacodec demo --overwrite

test: $(VENV)/test.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10

bench: $(VENV)/test.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,bench]"
	for file in tests/benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

$(BIN)/python:
	@echo "Setting up $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/demo.ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing retinacodec and what it needs (a few minutes the first time)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/test.ready: pyproject.toml constraints.txt | $(VENV)/demo.ready
	@echo "Installing the test tools"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
