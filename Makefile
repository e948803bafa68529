# `make run` and `make test` work on a machine that has only python3 and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RECIPE ?= recipes/curriculum.yaml

.DEFAULT_GOAL := help
.PHONY: help install run test soak coverage lint format bench clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Once, and again when what is installed changes. torchao lies apart, for the tests that want it: diffusers imports it
# wherever it finds it, which costs every process 1.5 s.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[test]'
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt --no-deps --upgrade --target $(VENV)/optional torchao
	@touch $@

install: $(INSTALLED) ## the virtual environment alone

ifeq ($(RECIPE),recipes/curriculum.yaml)
run: $(INSTALLED) ## a first picture, the three-stage curriculum on the embedded model, and both adapters side by side
	$(BIN)/sigma-run recipes/generate.yaml scene=examples/scenes/boxes.yaml run.dir=runs/first
	$(BIN)/sigma-run recipes/curriculum.yaml
	$(BIN)/sigma-run recipes/compare.yaml
else
run: $(INSTALLED)
	$(BIN)/sigma-run $(RECIPE)
endif

# One torch thread per worker: two workers on two cores beat two threads in one.
test: $(INSTALLED) ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal --quiet

soak: $(INSTALLED) ## the tests that repeat faults, with all their repetitions
	SIGMA_SOAK=1 SIGMA_KILLS=200 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal --quiet

coverage: $(INSTALLED) ## all tests, with the lines of the core that no test runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal --quiet --cov --cov-report=term

lint: $(INSTALLED) ## format, style, types, architecture; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(INSTALLED) ## lay the code out
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED) ## measurements; each script prints a table
	@for script in $(filter-out bench/page.py,$(wildcard bench/*.py)); do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

clean: ## everything that these commands made, but no run folder
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov
