SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
FLINK_BIN := .venv-flink/bin
FLINK_READY := .venv-flink/.ready
JAR := pipelines/live/flink/odograph-flink.jar
JAVA_SOURCES := $(shell find pipelines/live/flink/java -name target -prune -o -type f -print) schemas/layouts.json
PYTEST = $(BIN)/python -m pytest -q
LOTS := test-cluster test-servers test-days test-core test-core-on-flink
SUMMARIES := .cache/tests
# What a lot printed is kept: `make test` shows the last line of each again.
lot = mkdir -p $(SUMMARIES) && $(1) | tee $(SUMMARIES)/$@
DEMO_VEHICLES ?= 50
DEMO_HOURS ?= 24

.PHONY: help demo jar servers check test $(LOTS) test-long test-year-ahead lint bench bench-live clean

help:
	@echo "make demo       simulate a fleet day, backfill it, draw it: demo/fleet_day.html"
	@echo "make jar        the Java side of the Flink jobs: $(JAR)"
	@echo "make servers    fetch what \`odograph stack up\` and the tests start"
	@echo "make check      lint, types and the core's tests, while you work"
	@echo "make test       lint, types, then all tests but the long ones, three lots at a time"
	@echo "make test-core  what needs no server and no minutes"
	@echo "make test-days  whole days and backfills, against what they must come to"
	@echo "make test-core-on-flink  the core with the libraries of a Flink worker"
	@echo "make test-servers  connectors, commands and the stack on real servers"
	@echo "make test-cluster  jobs on a real Flink cluster, through faults"
	@echo "make test-long  tests that take minutes more, and the next"
	@echo "make test-year-ahead  core and days with the clock a year ahead"
	@echo "make lint       ruff and mypy"
	@echo "make bench      measure"
	@echo "make bench-live measure the live jobs against their peers on real servers"
	@echo "make clean      remove what make made"

demo: $(READY)
	rm -rf demo/fleet demo/lake demo/ledger.json demo/fleet_day.html
	mkdir -p demo
	$(BIN)/odograph simulate --out demo/fleet \
	  --vehicles $(DEMO_VEHICLES) --hours $(DEMO_HOURS) --seed 1 --misbehave all
	$(BIN)/odograph backfill --archive demo/fleet/archive \
	  --bindings demo/fleet/device_binding.csv \
	  --lake demo/lake --ledger demo/ledger.json
	$(BIN)/python -m notebooks.render --lake demo/lake --out demo/fleet_day.html
	@echo
	@echo "The fleet day, drawn:        demo/fleet_day.html"
	@echo "Facts as Parquet tables:     demo/lake"
	@echo "What became of all uploads:  demo/ledger.json"
	@echo "The archive they came from:  demo/fleet/archive"

jar: $(JAR)

servers: $(READY) $(FLINK_READY)
	$(BIN)/odograph stack fetch

check:
	$(MAKE) -j2 --output-sync=target lint test-core

test:
	$(MAKE) -j3 --output-sync=target lint servers $(JAR)
	rm -rf $(SUMMARIES)
	passed=true; \
	$(MAKE) -j3 -k --output-sync=target $(LOTS) || passed=false; \
	for lot in $(LOTS); do printf '%-20s %s\n' $$lot "$$(tail -n 1 $(SUMMARIES)/$$lot)"; done; \
	$$passed

test-core: servers $(JAR)
	$(call lot,$(PYTEST) -n 2 -m "core and not long")

test-days: servers $(JAR)
	$(call lot,$(PYTEST) --durations=5 -m "days and not long")

test-core-on-flink: servers
	$(call lot,$(FLINK_BIN)/python -m pytest -q -p no:cacheprovider -m "core and not long" tests/schemas tests/transforms)

test-servers: servers $(JAR)
	$(call lot,$(PYTEST) --durations=12 -m "servers and not long")

test-cluster: servers $(JAR)
	$(call lot,$(PYTEST) --durations=12 -m "cluster and not long")

test-long: servers $(JAR)
	$(PYTEST) --durations=12 -m long
	$(MAKE) test-year-ahead

test-year-ahead: servers $(JAR)
	command -v faketime > /dev/null || apt-get install -qq -y faketime
	PYTHONPATH=tests/support/clock_ahead FAKETIME_DONT_FAKE_MONOTONIC=1 \
	  faketime -f +365d $(PYTEST) -n 2 -m "(core or days) and not long"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m bench

bench-live: servers $(JAR)
	$(BIN)/python -m bench.live_jobs --latency 120

clean:
	rm -rf .venv .venv-flink $(JAR) pipelines/live/flink/java/target demo .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache \
	  build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[beam,notebook,dev]'
	touch $@

$(FLINK_READY): setup.py pyproject.toml constraints-flink.txt
	$(PYTHON) -m venv --clear .venv-flink
	$(FLINK_BIN)/python -m pip install -q -c constraints-flink.txt -e '.[flink,test]'
	touch $@

$(JAR): $(JAVA_SOURCES)
	mvn -q -B -f pipelines/live/flink/java package
	cp pipelines/live/flink/java/target/odograph-flink.jar $@
