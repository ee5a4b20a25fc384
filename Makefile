# `make` lists the targets. Each does its own set-up in .venv.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python
JOBS ?= 2
BUDGET ?= demo
SEEDS ?= 0,1,2,3,4
comma := ,
# Nothing here trains a stage or starts a program: layers, losses, models, frontends, exports.
FAST := $(addprefix tests/unit/,nn losses metrics optim models frontends checkpoints distributed evaluation) $(wildcard tests/unit/test_*.py)
# Compiled modules are kept: without them each start of a program compiles thousands of files again.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help setup demo train seeds serve test test-fast test-all lint type bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.ready ## make .venv and install everything into it

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "muomni needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[world,data,tensorboard,vocoder,judge,serve,sweep,hf,gguf,onnx,parity,test,clients,dev]'
	touch .venv/.ready

demo: setup ## train every stage small on the embedded world and write reports/demo; BUDGET=quick: a quarter of the time
	$(RUN) train.py stage=omni_sft budget=$(BUDGET) when_done=skip
	$(RUN) -m muomni.report budget=$(BUDGET) out=reports/$(BUDGET)
	$(RUN) -m muomni.inference.cli.live ckpt=checkpoints/omni_sft questions=reports/$(BUDGET)/ask.jsonl

train: setup ## the same, longer (about an hour on 2 cores with bfloat16): reports/train
	$(RUN) train.py stage=omni_sft budget=full when_done=skip
	$(RUN) -m muomni.report budget=full out=reports/train

seeds: setup ## the demo with each of SEEDS (BUDGET=full: make train), in seeds/: mean, worst and spread of every goal, reports/demo/seeds.md
	for seed in $(subst $(comma), ,$(SEEDS)); do $(RUN) train.py stage=omni_sft budget=$(BUDGET) seed=$$seed \
		paths.root=seeds/$(BUDGET)-$$seed paths.data=data when_done=skip || exit 1; done
	$(RUN) -m muomni.report seeds=$(SEEDS) budget=$(BUDGET)

serve: setup ## serve checkpoints/omni_sft with a page to talk to it, and open the page
	$(RUN) serve.py ckpt=checkpoints/omni_sft open=true

test: setup ## unit, contract and integration tests
	$(RUN) -m pytest -m "not slow" -n $(JOBS) --dist loadfile

test-fast: setup ## the tests between two edits: nothing is trained (under a minute on 2 cores)
	$(RUN) -m pytest $(FAST) -m "not slow" -n $(JOBS) --dist loadfile

test-all: setup ## and the slow ones
	$(RUN) -m pytest -n $(JOBS) --dist loadfile

lint: setup ## ruff: format and rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

type: setup ## mypy
	$(BIN)/mypy

bench: setup ## side-by-side timings of this machine
	$(RUN) -m benchmarks.speed.steps

clean: ## remove .venv and caches; data, runs, checkpoints and reports stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache build *.egg-info
