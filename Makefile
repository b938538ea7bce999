# Each target makes .venv and installs what it needs by itself; again only when pyproject.toml changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo

# Bytecode is kept: rewriting the assertions of all tests anew takes five seconds, in each process that runs tests.
unexport PYTHONDONTWRITEBYTECODE

# What runs inside hosts is tested on other Pythons too, in a venv for each: make test-sidecar PYTHON=python3.12
SIDECAR_VENV = .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
SIDECAR_TESTS = tests/sidecar tests/shared $(wildcard tests/host_unchanged tests/integration/test_accounting_*.py) \
	tests/integration/test_provenance_matrix.py tests/integration/test_seed_scenario.py

# Libraries that are large or quarrel with others are tested in a venv of their own.
LIBRARIES_VENV := .venv-libraries
LIBRARIES := tests/libraries/requirements.txt

# Slow tests wait for children most of the time. The tests of a file stay in one process, which starts their host once.
SIDE_BY_SIDE := -n 2 --dist loadfile
# These measure how soon something happens, or print a table at the end.
ALONE := tests/faults $(wildcard tests/integration/test_terminal*.py)

.PHONY: demo test test-sidecar test-libraries test-comfyui test-accelerator gpu-check test-hosts check format bench faults pictures shell-files wheel clean

demo: $(DEMO_STAMP)
	@$(BIN)/gpumodels demo --view

test: $(STAMP)
	$(BIN)/pytest -m "not slow" -n 2
	$(BIN)/pytest -m slow $(SIDE_BY_SIDE) $(addprefix --ignore=,$(ALONE))
	$(BIN)/pytest -m slow $(ALONE)

test-sidecar:
	@$(PYTHON) -c '' || { echo "gpumodels: $(PYTHON) does not run; name another: make test-sidecar PYTHON=python3.12" >&2; exit 1; }
	@$(MAKE) --no-print-directory VENV=$(SIDECAR_VENV) $(SIDECAR_VENV)/.installed
	$(SIDECAR_VENV)/bin/pytest -m "not slow" -n 2 $(SIDECAR_TESTS)
	$(SIDECAR_VENV)/bin/pytest -m slow $(SIDE_BY_SIDE) $(SIDECAR_TESTS)

test-libraries:
	@$(MAKE) --no-print-directory VENV=$(LIBRARIES_VENV) $(LIBRARIES_VENV)/.installed-libraries
	$(LIBRARIES_VENV)/bin/pytest -m libraries tests/libraries

# ComfyUI's own loaders and those of node packs, from a checkout of yours: make test-comfyui COMFYUI=DIR COMFYUI_PYTHON=DIR/venv/bin/python
test-comfyui: $(STAMP)
	@test -f "$(COMFYUI)/main.py" || { echo "gpumodels: no ComfyUI in '$(COMFYUI)'; say where: make test-comfyui COMFYUI=DIR" >&2; exit 1; }
	COMFYUI="$(abspath $(COMFYUI))" $(BIN)/pytest -m comfyui tests/comfyui

# Real loads onto a simulated accelerator, with and without samples, the sidecar early and late: half an hour.
test-accelerator: $(STAMP)
	$(BIN)/pytest -m accelerator tests/accelerator_matrix

# On a machine with a GPU: what is said of it against what is so. GPU_CHECK=--dry-run: on a simulated device. GPU_PYTHON: a Python
# that has a torch for the GPU. With COMFYUI=DIR, of each model's memory against what ComfyUI and torch say instead.
GPU_CHECK_PYTHON = $(if $(GPU_PYTHON),$(GPU_PYTHON),$(BIN)/python)
gpu-check: $(if $(GPU_PYTHON),,$(STAMP))
ifeq ($(COMFYUI),)
	@PYTHONPATH=tests:sidecar:shared:tui $(GPU_CHECK_PYTHON) -m gpu_check $(GPU_CHECK)
else
	@test -f "$(COMFYUI)/main.py" || { echo "gpumodels: no ComfyUI in '$(COMFYUI)'; say where: make gpu-check COMFYUI=DIR" >&2; exit 1; }
	@COMFYUI="$(abspath $(COMFYUI))" PYTHONPATH=tests $(BIN)/python -m comfyui.memory_check $(GPU_CHECK)
endif

# Public test suites beside the sidecar; checkouts are yours: make test-hosts SUITES="safetensors=DIR peft=DIR accelerate=DIR"
test-hosts: $(STAMP)
	@PYTHONPATH=tests $(BIN)/python -m hosts_of_others $(SUITES)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -m "not slow" -n 2 -q

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	@PYTHONPATH=tests $(BIN)/python -m benchmarks

faults: $(STAMP)
	GPUMODELS_FAULTS=full $(BIN)/pytest -q -rs tests/faults

pictures: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m pictures

# What is made from the table of options: completions, the man page, and the table in docs/options.md.
shell-files: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m option_files

wheel:
	.ci/wheel

clean:
	rm -rf $(VENV) .venv-3.* $(LIBRARIES_VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): EXTRAS := dev
$(DEMO_STAMP): EXTRAS := tui,demo
$(STAMP) $(DEMO_STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "gpumodels: installing into $(VENV) (some minutes the first time)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]' >&2
	@touch $@

$(VENV)/.installed-libraries: $(STAMP) $(LIBRARIES)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -r $(LIBRARIES) >&2
	@touch $@
