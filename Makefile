# Every command a contributor or a newcomer needs. `make` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
POM := deploy/kafka/pom.xml
LIBS := deploy/kafka/target/libs
# Stamps say what was done with which inputs, so that the second time takes a second.
PYTHON_STAMP := $(VENV)/.installed
KAFKA_STAMP := deploy/kafka/target/.resolved
ARCHIVE_STAMP := deploy/kafka/target/.archived

.PHONY: help setup demo test check bench lock clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(PYTHON_STAMP) $(KAFKA_STAMP) $(ARCHIVE_STAMP)  ## make .venv and fetch Kafka's jars (everything else does this by itself)

demo: setup  ## run the main job on a synthetic territory and a real Kafka; Ctrl-C ends it
	@$(BIN)/broker demo

# A process for each core, up to four (tests/conftest.py says which tests it gets). To work on a test, run its file
# alone, in this process: .venv/bin/pytest tests/core/test_plan.py
test: check  ## lint, check types and architecture, run all tests
	@$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

bench: setup  ## measure what the lanes reach on a real Kafka, on one core (some minutes)
	@$(BIN)/python -m tests.bench

check: setup  ## lint, check types and architecture only
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

lock:  ## resolve requirements.lock anew from pyproject.toml, for all Pythons and platforms, with hashes
	@python=$$(deploy/find-python) && "$$python" -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install -q 'uv==0.11.*'
	@$(VENV)/lock/bin/uv pip compile -q --universal --upgrade --generate-hashes --no-annotate --no-header \
		--group dev -o requirements.lock pyproject.toml

clean:  ## remove all that setup and tests made; `.broker` (data of Kafka) stays
	@rm -rf $(VENV) deploy/kafka/target .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PYTHON_STAMP): requirements.lock pyproject.toml deploy/find-python
	@$(BIN)/python -c pass 2>/dev/null || { python=$$(deploy/find-python) && "$$python" -m venv --clear $(VENV); }
	@echo 'installing Python packages …'
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(KAFKA_STAMP): $(POM) deploy/find-java
	@deploy/find-java
	@echo 'fetching Kafka …'
	@rm -rf $(LIBS)
	@mvn -q -B -f $(POM) dependency:copy-dependencies
	@touch $@

# An archive of Kafka's classes: each start of Kafka then takes a third less. Python may change without a new one.
$(ARCHIVE_STAMP): $(KAFKA_STAMP) | $(PYTHON_STAMP)
	@echo 'making Kafka start quickly …'
	@$(BIN)/python -m broker.edge.kafka.archive
	@touch $@
