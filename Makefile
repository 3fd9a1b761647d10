# Jobs of this project. `make run` and `make test` need only Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: setup run test test-fast test-gpu malformed fmt lint types layers bench docs weights check clean
.DEFAULT_GOAL := check

setup: .venv/ready

# The marker is written last, so that an interrupted installation is done again.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"stvsr needs Python 3.11 or newer, found {v.major}.{v.minor}: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -q -c constraints.txt -e '.[all,dev]'
	@touch $@

run: setup
	@$(BIN)/python -m pipelines.source_control
	@PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro
	@$(BIN)/stvsr summary

# Two processes of one thread each share the cores. Tests of one file share clusters and servers, so they stay in one process.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests/unit tests/model tests/malformed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/integration

test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not multinode' tests

test-gpu: setup
	STVSR_TEST_DEVICE=cuda $(BIN)/python -m pytest -m gpu

# Malformed inputs through the public doors, from seeds: a nightly test, of which `make test` has 150.
MALFORMED ?= 1500
malformed: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --malformed $(MALFORMED) tests/malformed

fmt: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

check: lint types layers test

bench: setup
	@for name in export loading models_cpu models_gpu prepare recovery training; do \
	  echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

docs: setup
	$(BIN)/python -m pytest -q tests/unit/test_docs.py

# The networks that ship: hours on a CPU, minutes on a GPU. Needs apt-get with Debian 12 and 13 for the photographs.
weights: setup
	@$(BIN)/python -m pipelines.source_control
	cd pipelines/weights && PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro
	mkdir -p stvsr/weights/small
	cp pipelines/weights/model/model.json pipelines/weights/model/weights.safetensors stvsr/weights/small/

clean:
	rm -rf .venv data model evaluation report registration runs tune .stvsr
