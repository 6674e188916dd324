# `make sweep` and `make test` work on a fresh clone: the first call installs the pinned packages into .venv.
#   make sweep EXPERIMENT=experiments/superni.yaml TRIALS=12 SET="stream.root=DATA model.path=MODEL"

PYTHON ?= python3
EXPERIMENT ?= experiments/demo.yaml
OUT ?= runs/$(call stem,$(EXPERIMENT))
TRIALS ?=
SET ?=
BY ?= op_per_replayed_sample
FORMAT ?= table
PORT ?= 6006
DIRS ?=
TO ?= models/$(call last,$(OUT))
MINUTES ?= 40
READERS ?=

VENV := .venv
LOCK := requirements.lock
OLDEST := .venv-oldest
NEWEST := .venv-newest
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCHMARKS := whole_stream evaluation replay_memory growth study_growth data_parallel trainer_start study_overhead shared_stage pruning report
NOT_OF_LOCK := --ignore=tests/test_supply_chain.py
# The last part of a path, and the same without its suffix; to make's own functions blanks in it would part words.
blank := $() $()
last = $(subst <blank>,$(blank),$(notdir $(subst $(blank),<blank>,$(1))))
stem = $(subst <blank>,$(blank),$(basename $(notdir $(subst $(blank),<blank>,$(1)))))
# A word for the shell, whatever is in it.
quoted = '$(subst ','\'',$(1))'
SETS = $(foreach assignment,$(SET),--set $(call quoted,$(assignment)))
TOTAL = $(if $(TRIALS),--trials $(call quoted,$(TRIALS)))
STUDY = $(call quoted,$(OUT))
# Of `make run`: where OUT is not given, a directory that is no study's, which the command names by itself.
RUN_OUT = $(if $(filter file,$(origin OUT)),,--out $(STUDY))
STUDIES = $(if $(DIRS),$(foreach directory,$(DIRS),$(call quoted,$(directory))),$(STUDY))

.PHONY: help setup sweep resume rank status tensorboard compare dashboard export run test test-slow test-cluster test-browser test-all test-long test-versions test-oldest test-newest test-faults soak fuzz test-golden lint base-model docs models sbom lock bench bench-quick clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(MAKEFILE_LIST) | while IFS=: read -r target text; do printf '  %-14s%s\n' "$$target" "$$text"; done

setup: $(READY)  ## install the pinned packages into .venv (other targets do it by themselves)

$(READY): $(LOCK) requirements.cpu.lock requirements.torch.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: '$(PYTHON)' is not Python 3.11 or newer; install one and name it: make PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing the pinned packages into $(VENV) (once; this takes minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --no-compile --no-deps --require-hashes -r $(LOCK)
	@$(BIN)/python -m pip install -qq --no-compile --no-deps --require-hashes -r requirements.cpu.lock 2>/dev/null || \
	  $(BIN)/python -m pip install -qq --no-compile --no-deps --require-hashes -r requirements.torch.lock
	@$(BIN)/python -m pip install -qq --no-compile --no-build-isolation --editable .  # and what a CUDA build of torch needs
	@$(BIN)/python scripts/write_bytecode.py
	@touch $(READY)

sweep: $(READY)  ## run the study of EXPERIMENT in OUT and rank it
	@$(BIN)/seekr-tune sweep $(call quoted,$(EXPERIMENT)) $(SETS) $(TOTAL) --out $(STUDY)

resume: $(READY)  ## go on with the study in OUT (TRIALS=N raises its total)
	@$(BIN)/seekr-tune resume $(STUDY) $(TOTAL)

rank: $(READY)  ## rank the trials in OUT (BY=column FORMAT=table|json|csv)
	@$(BIN)/seekr-tune rank $(STUDY) --by $(call quoted,$(BY)) --format $(call quoted,$(FORMAT))

status: $(READY)  ## how far the study in OUT is
	@$(BIN)/seekr-tune status $(STUDY)

tensorboard: $(READY)  ## open curves, charts, heads and settings of OUT on PORT
	@test -d $(STUDY) || { printf "error: %s: no such directory; run 'make sweep' first, or name one with OUT=\n" $(STUDY) >&2; exit 2; }
	@$(BIN)/seekr-tune tensorboard $(STUDY) --port $(call quoted,$(PORT))

compare: $(READY)  ## put the studies in DIRS="a b" beside each other, then open their curves on PORT
	@$(BIN)/seekr-tune compare $(STUDIES)
	@$(BIN)/seekr-tune tensorboard $(STUDIES) --port $(call quoted,$(PORT))

dashboard: $(READY)  ## show the study in OUT in optuna-dashboard on port 8080
	@$(BIN)/seekr-tune dashboard $(STUDY)

export: $(READY)  ## write the best model of the study in OUT to TO
	@$(BIN)/seekr-tune export $(STUDY) --best --to $(call quoted,$(TO))

run: $(READY)  ## learn the stream of EXPERIMENT once, with the settings in its file (OUT=directory)
	@$(BIN)/seekr-tune run $(call quoted,$(EXPERIMENT)) $(SETS) $(RUN_OUT)

test: $(READY)  ## every test but the slow ones, those that kill nodes and those that need a browser; two at a time
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not cluster and not browser" $(PYTEST_ARGS)

test-slow: $(READY)  ## the tests that take minutes
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not cluster and not browser"

test-cluster: $(READY)  ## kill workers, controllers and nodes of a Ray cluster on this machine
	@$(BIN)/python -m pytest -m cluster

test-browser: $(READY)  ## open reports, TensorBoard and optuna-dashboard in Chromium (SEEKR_SCREENSHOT_DIR=directory keeps pictures)
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } 2>/dev/null || \
	  { echo "error: chromium is missing and apt-get cannot install it; install it and try again" >&2; exit 2; }
	@$(BIN)/python -c 'import playwright' 2>/dev/null || $(BIN)/python -m pip install -qq 'playwright==1.64.1'
	@$(BIN)/python -m pytest -m browser

test-all: $(READY)  ## test, test-slow, test-cluster, test-browser, test-golden; goes on where it was stopped
	@$(BIN)/python scripts/suites.py all $(VENV)

test-long: $(READY)  ## test-faults, soak, fuzz and test-versions; goes on where it was stopped
	@$(BIN)/python scripts/suites.py long $(VENV)

test-versions: test-oldest test-newest  ## `make test` with the oldest and the newest versions that pyproject.toml admits

test-oldest:  ## `make test` in .venv-oldest, with the versions of requirements.oldest.lock
	@$(MAKE) --no-print-directory test VENV=$(OLDEST) LOCK=requirements.oldest.lock PYTEST_ARGS=$(NOT_OF_LOCK)

test-newest:  ## `make test` in .venv-newest, with the newest versions that pip finds today
	@$(PYTHON) -m venv $(NEWEST)
	@$(NEWEST)/bin/python -m pip install -qq --no-compile --no-deps --require-hashes -r requirements.cpu.lock 2>/dev/null || \
	  $(NEWEST)/bin/python -m pip install -qq --no-compile --no-deps --require-hashes -r requirements.torch.lock
	@$(NEWEST)/bin/python -m pip install -qq --no-compile --only-binary=:all: --upgrade --upgrade-strategy=eager --editable '.[dev]'
	@$(NEWEST)/bin/python scripts/write_bytecode.py
	@touch $(NEWEST)/.ready
	@echo "Other versions than in requirements.lock:"
	@$(NEWEST)/bin/python -m pip freeze --exclude-editable | grep -vxF "$$(sed -n 's/ \\$$//p' requirements.lock requirements.cpu.lock requirements.torch.lock)" || echo none
	@$(MAKE) --no-print-directory test VENV=$(NEWEST) PYTEST_ARGS=$(NOT_OF_LOCK)

test-faults: $(READY)  ## kill, stop and starve studies, damage their files, resume and check them (SEEKR_FAULT_SEED=number)
	@$(BIN)/python -m tests.faults

soak: $(READY)  ## studies back to back for MINUTES, each with a fault; what the driver takes in SEEKR_RELIABILITY_DIR
	@$(BIN)/python -m tests.faults.soak $(call quoted,$(MINUTES))

fuzz: $(READY)  ## give files from outside, changed at random, to all that reads them, for MINUTES (READERS="experiment journal": these)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install -qq 'atheris==3.0.0'
	@$(BIN)/python -m tests.fuzz $(call quoted,$(MINUTES)) $(foreach reader,$(READERS),$(call quoted,$(reader)))

test-golden: $(READY)  ## the golden vectors only (SEEKR_GOLDEN_DIR=directory takes them from there)
	@$(BIN)/python -m pytest tests/golden

lint: $(READY)  ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/mypy

base-model: $(READY)  ## train the built-in base model again
	@$(BIN)/python scripts/make_base_model.py

docs: $(READY)  ## write the field reference in docs/experiment-file.md again
	@$(BIN)/seekr-tune validate --fields >$(VENV)/fields.md
	@sed -i.bak -e '/^<!-- below/q' docs/experiment-file.md && rm docs/experiment-file.md.bak
	@cat $(VENV)/fields.md >>docs/experiment-file.md

models: $(READY)  ## build and compare a model of every type that transformers has, and write docs/models.md; takes minutes
	@$(BIN)/python scripts/models_page.py docs/models.md

sbom: $(READY)  ## write a bill of materials (sbom.cdx.json, CycloneDX) and docs/licences.md
	@$(BIN)/python scripts/inventory.py --sbom sbom.cdx.json --licences docs/licences.md

lock: $(READY)  ## ask pip for the hashes of requirements.lock again, and for the oldest versions; takes ten minutes
	@$(BIN)/python scripts/lock_hashes.py
	@$(BIN)/python scripts/lock_hashes.py --oldest

bench: $(READY)  ## run every benchmark (some 23 minutes on two cores), and write what they found into docs/benchmarks.md
	@$(BIN)/python -m benchmarks.quick --full
	@for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit; done
	@$(BIN)/python -m benchmarks.page

bench-quick: $(READY)  ## ratios of single steps against their goals, in two to three minutes
	@$(BIN)/python -m benchmarks.quick

clean:  ## remove .venv and caches; runs/ stays
	@rm -rf $(VENV) $(OLDEST) $(NEWEST) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
