# `make demo` and `make test` need git, make and Python 3.11 or newer; nothing else.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
# One tested pair. On Linux these are CUDA builds, which run without a GPU as well; for another build give
# pip's own words, e.g. make demo TORCH='torch torchvision --index-url ADDRESS-OF-YOUR-BUILD'
TORCH ?= torch==2.14.1 torchvision==0.29.1

BIN := $(VENV)/bin
CODE := gcsam_med tests scripts $(wildcard benchmarks)
INSTALLED := $(VENV)/.installed
DEVELOP := $(VENV)/.develop

.PHONY: help demo test tests lint format types docs coverage lock pin audit sbom image docker-steps clean

help:
	@echo "make demo          install, then the main job on synthetic images; says where the report lies"
	@echo "make test          install, then lint, format, types and all tests"
	@echo "make format        format the code and fix what can be fixed"
	@echo "make docs          the pages as a site in build/docs, without a warning"
	@echo "make coverage      all tests with their coverage (90 % at least); the lines that no test runs in htmlcov/"
	@echo "make image         build the container image (needs Docker)"
	@echo "make docker-steps  run the image's build steps and the commands in a bare Debian root (needs root)"
	@echo "make lock          resolve the image's packages anew into requirements.lock, with hashes"
	@echo "make pin           pin the image's base by digest (needs Docker and a network)"
	@echo "make sbom          list the locked packages as CycloneDX in build/sbom.json"
	@echo "make audit         look the locked packages up for known vulnerabilities (needs a network)"
	@echo "make clean         remove what make and the tools left, but no data and no runs"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; install it, or give make PYTHON=/path/to/it"; exit 3; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 3; }

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install -e '.[dicom]'
	@touch $@

$(DEVELOP): $(INSTALLED)
	$(BIN)/python -m pip install -e '.[dev,dicom]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python scripts/demo.py

# Two test files at a time, each with one thread of arithmetic: on two cores that is quicker than the reverse.
# The slow files are collected first (tests/conftest.py) and started in that order.
TESTS = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: lint
	@$(MAKE) --no-print-directory --jobs 2 types tests

tests: $(DEVELOP)
	$(TESTS)

lint: $(DEVELOP)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

format: $(DEVELOP)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

types: $(DEVELOP)
	$(BIN)/mypy

docs: $(DEVELOP)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs build/docs
	@echo "Open build/docs/index.html"

coverage: $(DEVELOP)
	$(TESTS) --cov --cov-report=html --cov-report=term --cov-fail-under=90

# --- The container

LOCK = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet --upgrade

$(BIN)/uv: | $(DEVELOP)
	$(BIN)/python -m pip install --quiet uv

lock: $(BIN)/uv
	printf '%s\n' $(TORCH) | $(LOCK) pyproject.toml --extra dicom - -o requirements.lock
	echo 'hatchling>=1.27' | $(LOCK) - -o requirements-build.lock

pin:
	scripts/pin-base.sh

image:
	docker build -t gcsam-med .

docker-steps:
	scripts/container-test.sh

sbom: $(DEVELOP)
	@mkdir -p build
	$(BIN)/python -m pip install --quiet cyclonedx-bom
	$(BIN)/cyclonedx-py requirements requirements.lock --output-reproducible -o build/sbom.json

audit: $(DEVELOP)
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --requirement requirements.lock --disable-pip

clean:
	rm -rf $(VENV) build dist htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f .coverage .coverage.*
	find gcsam_med tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
