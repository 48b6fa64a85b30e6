# The commands of this repository. Each does its own set-up; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
SOURCES := $(wildcard libs/*/src services/*/src)
PYTEST_ARGS ?=

.PHONY: help install cloud-images edge-image demo down test test-arm64 test-compose test-rabbitmq4 test-reproducible check format lock test-api kill-api test-kubectl test-security test-upgrade bench-api bench-edge-api bench-fabric bench-footprint bench-joins bench-outage bench-pods bench-reconnect bench-tracing bench-twins chaos chaos-pods docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## Set up Debian packages, the virtual environment and generated code
	@scripts/bootstrap

edge-image: install ## Build the edge's container image, without an engine or a registry (ARCHITECTURE=arm64)
	@$(BIN)/python -m images $(if $(ARCHITECTURE),--architecture $(ARCHITECTURE))

cloud-images: install ## Build the images of the cloud's services and of the command likewise
	@set -e; for name in hub controller device apiserver cli; do \
	  $(BIN)/python -m images $$name $(if $(ARCHITECTURE),--architecture $(ARCHITECTURE)); done

demo: install ## Run a pod on an edge, cut the edge off, take its power, watch it come back
	@$(if $(filter image,$(EDGE)),image=$$($(BIN)/python -m images | sed -n 2p); )$(BIN)/fedge demo --edge-image=$(if $(filter image,$(EDGE)),$$image)

down: ## Stop everything that the demo started, and nothing else
	@if [ -x $(BIN)/fedge ]; then $(BIN)/fedge down; fi

test: install check ## Check the code and run all tests
	@$(BIN)/python -m images >/dev/null
	@scripts/test $(PYTEST_ARGS)

test-security: install ## Attack a running system: every attack must be refused, and nothing else suffer
	@$(BIN)/python -m pytest tests/security $(PYTEST_ARGS)

API_TESTS := $(wildcard tests/integration/apiserver/test_conformance_*.py) \
	$(addprefix tests/integration/apiserver/test_,kubectl.py python_client.py)
test-api: install ## Run what every Kubernetes API must do against KUBECONFIG=...; without, against our own
	@FEDGE_TEST_KUBECONFIG=$(if $(KUBECONFIG),$(abspath $(KUBECONFIG))) \
		$(BIN)/python -m pytest $(API_TESTS) $(PYTEST_ARGS)

KILLS ?= 100
kill-api: install ## Kill the embedded API under load KILLS times: nothing acknowledged may be lost
	@FEDGE_TEST_KILLS=$(KILLS) $(if $(SEED),FEDGE_TEST_SEED=$(SEED)) \
		$(BIN)/python -m pytest tests/integration/apiserver/test_durability.py --timeout=0 $(PYTEST_ARGS)

test-kubectl: install ## Run the tests that use kubectl with three recent releases of it
	@kubectls=$$(scripts/kubectls); FEDGE_TEST_KUBECTLS=$$kubectls \
		$(BIN)/python -m pytest tests/integration/apiserver/test_kubectl.py $(PYTEST_ARGS)

test-upgrade: install ## Upgrade an edge that runs from its image, and have it come back by itself from bad versions
	@$(BIN)/python -m pytest tests/upgrade/test_upgrade.py tests/upgrade/back.py $(PYTEST_ARGS)

test-compose: install ## Build all images with an engine of its own and run docker-compose.yml, without a registry
	@command -v mmdebstrap >/dev/null || apt-get -qq install --no-install-recommends mmdebstrap
	@FEDGE_TEST_COMPOSE=1 $(BIN)/python -m pytest tests/image/test_compose.py $(PYTEST_ARGS)

test-arm64: install ## Run the edge's image for arm64 under emulation, with an emulator of the test's own
	@FEDGE_TEST_ARM64=1 $(BIN)/python -m pytest tests/image/test_arm64.py $(PYTEST_ARGS)

RABBITMQ4_TESTS ?= $(addprefix tests/integration/,device fabric hub local meta twin) tests/e2e tests/security
test-rabbitmq4: install ## Run the tests that use a RabbitMQ on version 4, from a folder of its own
	@root=$$(scripts/rabbitmq4); FEDGE_RABBITMQ_ROOT=$$root \
		$(BIN)/python -m pytest $(RABBITMQ4_TESTS) $(PYTEST_ARGS)

test-reproducible: install ## Build the edge's image twice from nothing: the same bytes (ARCHITECTURE=arm64)
	@FEDGE_TEST_REPRODUCIBLE=1 FEDGE_TEST_ARCHITECTURE=$(ARCHITECTURE) \
		$(BIN)/python -m pytest tests/image/test_whole_builds.py $(PYTEST_ARGS)

check: ## Lint, format, types, layers, documentation
	@scripts/bootstrap python
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(SOURCES) tests $(wildcard bench images scripts)
	@$(BIN)/lint-imports --no-cache
	@if [ -f mkdocs.yml ]; then NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir .cache/site; fi

format: ## Format the code and mend what can be mended
	@scripts/bootstrap python
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

lock: ## Renew constraints.txt after a dependency changed
	@mkdir -p .cache
	@scripts/lock

bench-api: install ## Measure the embedded Kubernetes API: writes, reads, watchers and memory
	@$(BIN)/python -m bench.api

bench-edge-api: install ## Measure the edge's own Kubernetes API: memory before and after somebody asks, speed
	@$(BIN)/python -m bench.edge_api

bench-fabric: install ## Measure messages between edge and cloud against the bare broker links
	@$(BIN)/python -m bench.fabric

bench-footprint: install ## Measure what the edge's image takes: memory idle and in a burst, processor, disk
	@$(BIN)/python -m bench.footprint

bench-joins: install ## Measure how long a gateway takes to join, and how long five hundred at once
	@$(BIN)/python -m bench.joins

bench-outage: install ## Send a million events through an outage: none may be lost (takes half an hour)
	@$(BIN)/python -m bench.outage

bench-pods: install ## Measure how fast pods start, and how fast they come back without the cloud
	@$(BIN)/python -m bench.pods

bench-reconnect: install ## Let two hundred edges come back at once after the cloud restarted
	@$(BIN)/python -m bench.reconnect

bench-tracing: install ## Measure what tracing costs, and how much of the time it explains
	@$(BIN)/python -m bench.tracing

bench-twins: install ## Measure the ways of devices' values, and how many devices one edge bears
	@$(BIN)/python -m bench.twins

FAULTS ?= 200
chaos: install ## Break FAULTS things at random under load: nothing may be lost or diverge
	@$(BIN)/python -m tests.chaos.everything --faults $(FAULTS) $(if $(SEED),--seed $(SEED))

SECONDS ?= 600
chaos-pods: install ## Kill parts of an edge at random for SECONDS: nothing may run twice
	@$(BIN)/python -m tests.chaos.pods --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

docs: ## Build the documentation into site/
	@scripts/bootstrap python
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## Remove what was built; the demo's data stays
	@rm -rf .venv .cache site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@rm -rf libs/cri/src/fedge_cri/_generated
	@find libs services tests -name __pycache__ -type d -prune -exec rm -rf {} +
