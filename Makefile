# `make` lists the targets. PYTHON=/path/to/python3.13 selects another interpreter and its own
# environment (.venv-3.13); JOBS=1 runs the tests in one process.

PYTHON ?= python3
JOBS ?= 4
ARGS ?=

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ifeq ($(VERSION),)
$(error no Python found as "$(PYTHON)": install Python 3.11 or newer, or give PYTHON=/path/to/it)
endif

VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(VERSION))
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(VERSION)
WHEEL := build/wheel-$(VERSION)
UV := $(shell command -v uv 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast chaos check format bench bench-compare docs wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## index the standard library with Celery, two tasks at once per package
	@$(BIN)/python -m cachify_tasks.demo $(ARGS)

# The wheel comes before the source on the path: a file that the wheel lacks fails the tests.
ON_WHEEL := PYTHONPATH=$(CURDIR)/$(WHEEL)/site PYTHONSAFEPATH=1 CACHIFY_TEST_WHEEL=$(CURDIR)/$(WHEEL)/site
# worksteal: a process that has run its share takes tests over from the other one.
PYTEST := $(BIN)/pytest -n $(JOBS) --dist worksteal

test-fast: wheel ## for every edit: what starts no worker process and takes no seconds by nature
	@$(ON_WHEEL) $(PYTEST) -m 'not worker and not slow' $(ARGS)

test: wheel ## all that CI runs, on the built wheel; ARGS='-k word' selects
	@$(ON_WHEEL) $(PYTEST) --cov --cov-report= $(ARGS)
	@echo "coverage of _core, _store, _worker: $$($(BIN)/coverage report --format=total) % of the lines"

chaos: wheel ## the long versions: storms of kills over thousands of tasks, eight processes for 20 s, with their figures
	@$(ON_WHEEL) CACHIFY_HAMMER_SECONDS=20 CACHIFY_CHAOS=full \
	  $(BIN)/pytest -p no:xdist -rP tests/chaos tests/protocol_model tests/cachepool/test_threads.py tests/cachepool/test_coroutines.py tests/pools/connection/test_storm.py tests/pools/advanced/test_stress.py tests/test_hammer.py tests/celery/test_release_prefork.py tests/celery/test_shutdown_prefork.py $(ARGS)

check: $(READY) ## format, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## format, and mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY) ## run the benchmarks
	@$(BIN)/python -m tests.benchmarks $(ARGS)

bench-compare: $(READY) ## compare with another commit, BASE=commit; ARGS names rows, or `workers`
	@$(BIN)/python -m tests.benchmarks.compare $(BASE) $(ARGS)

docs: $(READY) ## build the documentation into build/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/docs
	@echo "build/docs/index.html"

wheel: $(READY)
	@rm -rf $(WHEEL)
	@log=$$($(BIN)/python -m hatchling build -t wheel -d $(WHEEL) 2>&1) || { echo "$$log"; exit 1; }
	@$(BIN)/python -m zipfile -e $(WHEEL)/*.whl $(WHEEL)/site

clean: ## remove the environments and everything built
	@rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment of another Python version is not reused. A failed build leaves no stamp.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0])'
	@$(BIN)/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(VERSION)")' 2>/dev/null || rm -rf $(VENV)
	@echo "Preparing $(VENV) (Python $(VERSION)); this takes up to a minute, once."
ifneq ($(UV),)
	@test -x $(BIN)/python || $(UV) venv --quiet --python "$$(command -v $(PYTHON))" $(VENV)
	@$(UV) pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
else
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --no-input --disable-pip-version-check -c constraints.txt -e '.[dev]'
endif
	@touch $@
