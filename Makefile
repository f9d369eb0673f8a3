# Every target does its own set-up. What it needs: make, Python 3.11 or newer, package registries.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test check conformance bench bench-peers docs serve lock clean
.PHONY: format-check lint types layers pages unit

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-13s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the locked dependencies and the `clary` command

demo: $(STAMP) ## Show it: deploy a scikit-learn model and a FastAPI server, and call them
	@$(BIN)/clary demo

test: $(STAMP) ## Run all tests but those that are slow or need a GPU
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		-m "not slow and not gpu"

# With `make -k check` one complaint does not hide the next.
check: format-check lint types layers pages unit ## Check format, lint, types, layers, pages, unit tests

format-check: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports --no-logo

pages: $(STAMP)
	$(BIN)/python docs/generate.py --check

unit: $(STAMP)
	$(BIN)/pytest -q -n $(WORKERS) tests/unit

conformance: $(STAMP) ## Run boto3 against a fresh server
	$(BIN)/pytest tests/conformance

bench: $(STAMP) ## Run the benchmarks and write the table
	$(BIN)/python -m benchmarks

bench-peers: $(STAMP) ## Install LitServe, BentoML, MLServer and TorchServe for `make bench` to compare
	$(BIN)/python -m benchmarks.frameworks

docs: $(STAMP) ## Make the generated pages anew and check every page
	$(BIN)/python docs/generate.py
	$(BIN)/pytest -q tests/docs/test_pages.py

serve: $(STAMP) ## Run a server on this checkout, with an example endpoint
	@{ for try in 1 2 3 4 5 6 7 8 9; do sleep 0.5; \
		$(BIN)/clary ls >/dev/null 2>&1 && break; done; \
		$(BIN)/clary deploy examples/sentiment --app server:app; } & \
	exec $(BIN)/clary up

lock: $(STAMP) ## Resolve the dependencies anew
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --generate-hashes --universal \
		--python-version 3.11 --no-emit-index-url --no-header --upgrade --quiet \
		--output-file requirements.lock

clean: ## Remove what the targets above made
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .benchmarks
	find src tests docs examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# uv comes first, by pip and with the lock's hashes; then it installs the rest, faster.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it: make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@awk '/^uv==/ {found = 1} found {print} found && !/\\$$/ {exit}' requirements.lock > .venv/uv.txt
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes --no-deps -r .venv/uv.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
