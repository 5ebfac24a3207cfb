# Everything a developer types. One virtual environment and one cargo target directory per Python version:
# .venv and target/py311 for 3.11, .venv-3.13 and target/py313 for `make test PYTHON=python3.13`.
PYTHON  ?= python3.11
PYTHONS ?= python3.11 python3.12 python3.13 python3.14 python3.15
ARGS    ?=

version := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
$(if $(version),,$(error $(PYTHON) does not run; name an interpreter: make $(MAKECMDGOALS) PYTHON=python3.12))
venv := .venv$(if $(filter-out 3.11,$(version)),-$(version))
bin  := $(venv)/bin
eco  := .venv-eco$(if $(filter-out 3.11,$(version)),-$(version))
services := .venv-services$(if $(filter-out 3.11,$(version)),-$(version))
python_for_rust := PYO3_PYTHON=$(CURDIR)/$(bin)/python
export CARGO_TARGET_DIR := $(CURDIR)/target/py$(subst .,,$(version))

.PHONY: soak services demo test bench docs lint matrix conformance conformance-table conformance-record build pytest core clean requirements ecosystem ecosystem-table

demo: build  ## an example, and one table: asyncio beside aioxide
	$(bin)/python -m aioxide examples/tasks.py
	$(bin)/python -m benchmarks.demo

test: lint core pytest  ## everything that must pass

bench: build $(venv)/bench.stamp  ## speed and memory; ARGS="--only sleep0": one row
	$(bin)/python -m benchmarks.run $(ARGS)
	$(if $(ARGS),,$(bin)/python -m benchmarks.network && $(bin)/python -m benchmarks.outside)
	$(if $(ARGS),,$(bin)/python -m benchmarks.endurance)
	$(if $(ARGS),,$(bin)/python -m benchmarks.memory && $(bin)/python -m benchmarks.plot)

docs: build $(venv)/docs.stamp  ## the documentation, into build/docs; a warning is an error, and no page needs the network
	$(bin)/sphinx-build --fail-on-warning --keep-going --quiet docs build/docs
	@echo "docs: open build/docs/index.html"

lint: $(venv)/dev.stamp  ## formatting and lints, Rust and Python
	cargo fmt --all --check
	$(python_for_rust) cargo clippy --workspace --all-targets --locked -- -D warnings
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/python -m distribution.third_party --check

matrix:  ## build and pytest on every Python of PYTHONS that is here
	@failed=; ran=; for python in $(PYTHONS); do \
	  if ! $$python -c '' 2>/dev/null; then echo "matrix: $$python is not on this machine, skipped"; \
	  elif $(MAKE) --no-print-directory pytest PYTHON=$$python; then ran="$$ran $$python"; \
	  else failed="$$failed $$python"; fi; \
	done; echo "matrix: passed on:$$ran; failed on:$$failed"; test -n "$$ran" -a -z "$$failed"

conformance: build  ## CPython's own asyncio tests on aioxide; ARGS="--files test_tasks --mode loop"
	$(bin)/python -m tests.conformance $(ARGS)

conformance-table:  ## CPython's tests on every Python of PYTHONS that is here, and the README's table of them
	@for python in $(PYTHONS); do \
	  if ! $$python -c '' 2>/dev/null; then echo "conformance-table: $$python is not on this machine, skipped"; \
	  else $(MAKE) --no-print-directory conformance-record PYTHON=$$python || exit 1; fi; \
	done
	$(bin)/python -m tests.conformance.table --write

conformance-record: build
	$(bin)/python -m tests.conformance.table $(venv)

ecosystem: $(eco)/eco.stamp  ## real programs on the libraries that people use, against real servers; ARGS="--only asyncpg"
	VIRTUAL_ENV=$(CURDIR)/$(eco) $(eco)/bin/maturin develop --release --locked --quiet
	$(eco)/bin/python -m tests.ecosystem $(ARGS)

soak: $(eco)/eco.stamp  ## a web service with its databases for an hour, all of them restarted now and then; ARGS="--seconds 600"
	VIRTUAL_ENV=$(CURDIR)/$(eco) $(eco)/bin/maturin develop --release --locked --quiet
	$(eco)/bin/python -m tests.ecosystem.soak $(ARGS)

services: $(services)/services.stamp  ## what a request costs uvicorn, aiohttp, FastAPI, redis, asyncpg on asyncio, uvloop and us
	VIRTUAL_ENV=$(CURDIR)/$(services) $(services)/bin/maturin develop --release --locked --quiet
	$(services)/bin/python -m benchmarks.services $(ARGS)

ecosystem-table:  ## those programs on the Pythons of the README's table, and that table
	@for python in python3.11 python3.13 python3.14; do \
	  if ! $$python -c '' 2>/dev/null; then echo "ecosystem-table: $$python is not on this machine, skipped"; \
	  else $(MAKE) --no-print-directory ecosystem PYTHON=$$python ARGS=--write || exit 1; fi; \
	done

build: $(venv)/dev.stamp
	VIRTUAL_ENV=$(CURDIR)/$(venv) $(bin)/maturin develop --release --locked --quiet

pytest: build
	$(bin)/python -m pytest $(ARGS)

.PHONY: pyright wheel wheel-test freethreaded licences

pyright: build  ## the typed programs with pyright, too; not part of `make test`: it needs Node.js and npm's registry
	@if ! command -v node >/dev/null; then echo "pyright: skipped, there is no node on this machine"; exit 0; fi; \
	$(bin)/python -m venv $(venv)/pyright && $(venv)/pyright/bin/python -m pip install --quiet --require-hashes -r requirements/pyright.txt \
	&& for minor in 11 12 13 14 15; do echo "pyright: Python 3.$$minor" \
	  && $(venv)/pyright/bin/pyright --pythonpath $(bin)/python --pythonversion 3.$$minor || exit; done

wheel: $(venv)/wheel.stamp  ## wheels for every Python of PYTHONS that is here, and the source, in dist/
	$(bin)/python -m distribution.wheels $(PYTHONS)

wheel-test:  ## all tests on the wheel of PYTHON in dist/, outside the checkout; ARGS go to pytest
	$(PYTHON) -m distribution.wheel_test $(ARGS)

freethreaded: $(venv)/wheel.stamp  ## compiles for python3.14t, which need not be here
	$(bin)/python -m distribution.wheels --free-threaded --out target/freethreaded

licences:  ## THIRD-PARTY-LICENSES, after a change of dependencies
	$(PYTHON) -m distribution.third_party

$(venv)/wheel.stamp: requirements/wheel.txt $(venv)/dev.stamp
	$(bin)/python -m pip install --quiet --require-hashes -r $<
	@touch $@

core:
	@if cargo nextest --version >/dev/null 2>&1; \
	  then cargo nextest run --locked -p aioxide-core --no-tests=pass; \
	  else cargo test --locked -p aioxide-core --lib --tests; fi
	cargo test --locked -p aioxide-core --doc --quiet

$(venv)/dev.stamp: requirements/dev.txt
	$(PYTHON) -m venv $(venv)
	$(bin)/python -m pip install --quiet --require-hashes -r $<
	@touch $@

$(eco)/eco.stamp: requirements/ecosystem.txt
	$(PYTHON) -m venv $(eco)
	$(eco)/bin/python -m pip install --quiet --only-binary :all: --require-hashes -r $<
	@touch $@

$(services)/services.stamp: requirements/services.txt
	$(PYTHON) -m venv $(services)
	$(services)/bin/python -m pip install --quiet --only-binary :all: --require-hashes -r $<
	@touch $@

$(venv)/bench.stamp: requirements/bench.txt $(venv)/dev.stamp
	$(bin)/python -m pip install --quiet --require-hashes -r $<
	@touch $@

$(venv)/docs.stamp: requirements/docs.txt $(venv)/dev.stamp
	$(bin)/python -m pip install --quiet --require-hashes -r $<
	@touch $@

requirements:  ## re-pins requirements/*.txt from *.in (needs uv)
	cd requirements && for name in dev bench docs wheel pyright ecosystem services; do uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --custom-compile-command 'make requirements' $$name.in -o $$name.txt; done

clean:
	rm -rf .venv .venv-* target build dist .pytest_cache .ruff_cache .hypothesis tests/conformance/out python/aioxide/*.so
