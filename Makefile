SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
CORE_READY := .venv-arrow16/.ready
GO_CACHE := $(CURDIR)/.cache/go
S3_SERVER := $(BIN)/versitygw
S3_SERVER_MODULE := github.com/versity/versitygw/cmd/versitygw@v1.8.0
DEMO_VEHICLES ?= 50
DEMO_HOURS ?= 24

.PHONY: help demo test lint bench clean

help:
	@echo "make demo   simulate a fleet day, backfill it, draw it: demo/fleet_day.html"
	@echo "make test   lint, types, all tests, core tests under pyarrow 16"
	@echo "make lint   ruff and mypy"
	@echo "make bench  measure"
	@echo "make clean  remove what make made"

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

test: lint $(S3_SERVER) $(CORE_READY)
	$(BIN)/python -m pytest -q
	.venv-arrow16/bin/python -m pytest -q -p no:cacheprovider tests/schemas tests/transforms

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m bench

clean:
	rm -rf .venv .venv-arrow16 demo .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache \
	  build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[beam,notebook,dev]'
	touch $@

$(CORE_READY): setup.py pyproject.toml constraints-flink-core.txt
	$(PYTHON) -m venv --clear .venv-arrow16
	.venv-arrow16/bin/python -m pip install -q -c constraints-flink-core.txt -e '.[test]'
	touch $@

$(S3_SERVER): $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-modcacherw \
	  GOPATH="$(GO_CACHE)/path" GOCACHE="$(GO_CACHE)/build" GOBIN="$(CURDIR)/$(BIN)" \
	  $(BIN)/go install $(S3_SERVER_MODULE)
	touch $@
