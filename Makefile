# The commands of this project. `make` lists them. Only Python 3.11 or later and make are needed beforehand.

# The first of these that runs and is new enough.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
BIN := .venv/bin
READY := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help run store test quick lint format lock bench soak screenshots clean

help: ## List these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-19s%s\n", $$1, $$2 }'

run: $(READY) ## Run the store and the service (PORT=5000 STORE_PORT=8333)
	@exec $(BIN)/python -m dev.run

store: $(READY) ## Run the store alone
	@exec $(BIN)/python -m dev.store

test: $(READY) ## Run the tests, on SQLite and on PostgreSQL
	$(BIN)/python -m pytest -n auto
	$(BIN)/python -m pytest -n auto --postgresql

quick: $(READY) ## Run the tests that are over in a minute, on SQLite
	$(BIN)/python -m pytest -n auto -m "not long"

lint: $(READY) ## Check style and types, Dockerfile and compose.yaml
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml

format: $(READY) ## Put the code in the style that lint asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY) ## Pin what requirements.txt brings with it, in requirements.lock (UPGRADE=1 takes newer ones)
	$(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) --output-file requirements.lock requirements.txt

bench: $(READY) ## Measure requests a second against a bare Flask view
	$(BIN)/python -m bench

soak: $(READY) ## Upload while everything fails, and count what is lost (MINUTES=5; needs nginx)
	$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),5)

screenshots: $(READY) ## Make pictures of the upload page, in docs/images/ (needs Chromium)
	$(BIN)/python -m dev.screenshots

clean: ## Remove the environment, caches and the data of `make run`
	rm -rf .venv .data .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed anew only when the requirements change. Last of all comes the stamp: a broken install is begun again.
$(READY): requirements.txt requirements-docs.txt requirements-dev.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW_ENOUGH)' || { echo "Python 3.11 or later is needed, and this is \
	$$($(or $(PYTHON),python3) -V 2>&1). Install one and say 'make PYTHON=/path/to/python3.11'." >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
