# The commands of this project; `make` lists them. They need Python 3.11 or later, and make; `make lint` also npm.

# The first of these that is installed and recent enough.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
BIN := .venv/bin
# Stamps of what is installed: each of these includes the one before it.
RUN_READY := .venv/.installed-run
TEST_READY := .venv/.installed-test
LINT_READY := .venv/.installed-lint
# The stores of the matrix have an environment of their own in it.
MATRIX := .venv/stores
MATRIX_READY := $(MATRIX)/.installed
# So has the service of the soak test, as in a deployment.
DEPLOY := .venv/deploy
DEPLOY_READY := $(DEPLOY)/.installed
NODE := tests/browser/node_modules
NODE_READY := $(NODE)/.installed

.DEFAULT_GOAL := help
.PHONY: help run store test on-sqlite on-postgresql alone quick matrix lint format assets package docs lock bench soak screenshots clean

help: ## List these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-19s%s\n", $$1, $$2 }'

run: $(RUN_READY) ## Run the store and the service (PORT=5000 STORE_PORT=8333)
	@exec $(BIN)/python -m dev.run

store: $(RUN_READY) ## Run only the store
	@exec $(BIN)/python -m dev.store

test: on-sqlite on-postgresql alone ## Run all tests, on SQLite and on PostgreSQL

# Several targets, so that `make --keep-going` runs all of them even if one fails.
# An idle worker takes over tests of one that has long ones ahead.
on-sqlite: $(TEST_READY)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not alone"

on-postgresql: $(TEST_READY)
	$(BIN)/python -m pytest -n auto --dist worksteal --postgresql

# What is measured must not compete with other tests.
alone: $(TEST_READY)
	$(BIN)/python -m pytest -m alone

quick: $(TEST_READY) ## Run the fast tests, on SQLite
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

matrix: $(MATRIX_READY) ## Run the same uploads on other S3 servers (STORES="ceph swift")
	$(BIN)/python -m pytest -n auto tests/matrix $(if $(STORES),--stores "$(STORES)")

lint: $(LINT_READY) $(NODE_READY) ## Check style, types and spelling, Dockerfile and compose.yaml
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	node tests/browser/floor-types.mjs tests/browser/.floor
	$(NODE)/.bin/tsc --project tests/browser
	$(NODE)/.bin/eslint --config tests/browser/eslint.config.mjs static
	$(BIN)/codespell
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml

format: $(LINT_READY) ## Fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(TEST_READY) ## Update the generated tables in docs/ and build the documentation in site/
	$(BIN)/python -m dev.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html."

lock: $(TEST_READY) ## Pin indirect dependencies in requirements.lock (UPGRADE=1 takes newer ones)
	$(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) --output-file requirements.lock requirements.txt

bench: $(TEST_READY) ## Compare requests per second with a bare Flask view
	$(BIN)/python -m bench

soak: $(DEPLOY_READY) ## Upload while services fail, and report lost uploads (MINUTES=5; needs nginx)
	SOAK_PYTHON=$(DEPLOY)/bin/python $(BIN)/python -m bench.soak --minutes $(or $(MINUTES),5)

assets: $(NODE_READY) ## Build what a deploy serves, static/built/, from static/ (needs npm)
	node tests/browser/assets.mjs

package: $(NODE_READY) ## Make the npm package of the component, in dist/ (needs npm)
	node tests/browser/package.mjs

screenshots: $(TEST_READY) ## Take screenshots of the upload page, in docs/images/ (needs Chromium)
	$(BIN)/python -m dev.screenshots

clean: ## Remove the environment, caches, and the data of `make run`
	rm -rf .venv .data site .pytest_cache .ruff_cache .mypy_cache .hypothesis $(NODE)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Install again only if the requirements change. A stamp is written last, so that a failed installation is repeated.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

$(RUN_READY): requirements.txt requirements-docs.txt requirements-run.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW_ENOUGH)' || { echo "Python 3.11 or later is needed, and this is \
	$$($(or $(PYTHON),python3) -V 2>&1). Install one and run 'make PYTHON=/path/to/python3.11'." >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(PIP) -r requirements-run.txt
	@touch $@

$(TEST_READY): $(RUN_READY) requirements-aws.txt requirements-test.txt
	$(PIP) -r requirements-test.txt
	@touch $@

$(LINT_READY): $(TEST_READY) requirements-lint.txt
	$(PIP) -r requirements-lint.txt
	@touch $@

$(MATRIX_READY): $(TEST_READY) requirements-matrix.txt
	$(BIN)/python -m venv --clear $(MATRIX)
	$(MATRIX)/bin/pip install --quiet --disable-pip-version-check -r requirements-matrix.txt
	@touch $@

$(DEPLOY_READY): $(TEST_READY) requirements.txt
	$(BIN)/python -m venv --clear $(DEPLOY)
	$(DEPLOY)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# TypeScript, which checks static/, and what tests/browser/test_uppy.py bundles.
$(NODE_READY): tests/browser/package.json tests/browser/package-lock.json
	@command -v npm >/dev/null || { echo "npm is required: install Node.js 18 or later." >&2; exit 1; }
	npm ci --prefix tests/browser --no-audit --no-fund --loglevel=error
	@touch $@
