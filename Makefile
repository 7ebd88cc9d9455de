# Every target sets itself up in .venv; PYTHON and VENV may be given.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests run side by side, a process a core and eight at most; WORKERS=0 runs them in one. A crash ends the run: what the
# process had yet to run would be waited for, for ever.
WORKERS ?= logical
PYTEST := $(BIN)/python -m pytest
SIDE_BY_SIDE := -n $(WORKERS) --maxprocesses 8 --dist loadfile --max-worker-restart 0
NATIVE := $(wildcard plugins/onnxruntime/*.cpp plugins/onnxruntime/*.h)

.PHONY: test test-avx2 test-slow test-network test-gpu fuzz mutants demo check types format bench clean

test: $(STAMP)
	$(PYTEST) $(SIDE_BY_SIDE) -m "not slow and not gpu and not fuzz and not network"

# the same as on a processor without AVX-512: sums are taken in another order
test-avx2: $(STAMP)
	$(MAKE) --no-print-directory test PYTEST="$(PYTEST) -p tests.avx2"

test-slow: $(STAMP)
	$(PYTEST) -n $(WORKERS) --maxprocesses 4 --max-worker-restart 0 -m "slow and not gpu and not fuzz"

test-network: $(STAMP)
	$(PYTEST) -m "network and not slow and not gpu and not fuzz"

test-gpu: $(STAMP)
	$(PYTEST) -m "gpu and not fuzz"

fuzz: $(STAMP)
	$(PYTEST) -m "fuzz" tests/fuzz

# planted faults, in copies of the tree; ARGS="sample --seed 12" and others: tests/mutation/__main__.py
mutants: $(STAMP)
	$(BIN)/python -m tests.mutation $(ARGS)

demo: $(STAMP)
	$(BIN)/python -m sparse_detr_deploy.benchmarks.demo

bench: $(STAMP)
	$(BIN)/python -m sparse_detr_deploy.benchmarks.peers $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MAKE) --no-print-directory types

# export/ and benchmarks/ are parts of the package wherever it is installed; the type checker needs to see them so.
types: $(STAMP)
	rm -rf build/types && mkdir -p build/types/sparse_detr_deploy
	ln -s $(CURDIR)/sparse_detr_deploy/* $(CURDIR)/export $(CURDIR)/benchmarks build/types/sparse_detr_deploy/
	cd build/types && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml -p sparse_detr_deploy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml setup.py constraints.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
