# make demo | test | check | bench, and nothing to know besides.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME_VENV := .venv-runtime

# pip builds the extension; its sources are what a rebuild depends on.
SOURCES := pyproject.toml CMakeLists.txt $(wildcard csrc/*)
PACKAGES := engine kernels trainer
PYTHON_FILES := engine kernels trainer benchmarks tests conftest.py
CPP_FILES := $(wildcard csrc/*.cpp csrc/*.h tests/simulated_cuda/driver/*.cpp tests/simulated_cuda/driver/*.h)
SIMULATED_CUDA := build/simulated_cuda/installed

.PHONY: demo test check types bench format clean

demo: $(RUNTIME_VENV)/installed
	$(RUNTIME_VENV)/bin/uperfuse demo models/uperfuse-small.plan --out out/demo

test: $(VENV)/installed $(SIMULATED_CUDA)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --benchmark-disable

check: $(VENV)/installed types
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/clang-format --dry-run --Werror $(CPP_FILES)
	$(BIN)/python -m pytest -q tests/test_layout.py

# mypy meets the packages under their installed names through links.
types: $(VENV)/installed
	mkdir -p build/typing/uperfuse
	for name in $(PACKAGES); do ln -sfn ../../../$$name build/typing/uperfuse/$$name; done
	MYPYPATH=build/typing $(BIN)/mypy --explicit-package-bases $(foreach name,$(PACKAGES),-p uperfuse.$(name)) -p benchmarks

# Rows of the README's table of speed, then the small cases and, where there is a GPU, the kernels.
bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m pytest --benchmark

format: $(VENV)/installed
	$(BIN)/ruff check --fix $(PYTHON_FILES)
	$(BIN)/ruff format $(PYTHON_FILES)
	$(BIN)/clang-format -i $(CPP_FILES)

clean:
	rm -rf $(VENV) $(RUNTIME_VENV) build dist out

# Development: everything, editable, so that a change is seen at once.
$(VENV)/installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# A CUDA driver that runs on the host and PyCUDA on top of it, for tests. PyCUDA takes minutes, once.
$(SIMULATED_CUDA): $(VENV)/installed tests/simulated_cuda/build.py $(wildcard tests/simulated_cuda/driver/*)
	$(BIN)/python -m tests.simulated_cuda.build
	touch $@

# What a user installs: no PyTorch.
$(RUNTIME_VENV)/installed: $(SOURCES) $(shell find engine -name '*.py')
	test -x $(RUNTIME_VENV)/bin/python || $(PYTHON) -m venv $(RUNTIME_VENV)
	$(RUNTIME_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(RUNTIME_VENV)/bin/python -m pip install --quiet .
	touch $@
