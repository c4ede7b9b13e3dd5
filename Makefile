# The short commands. What an environment holds is in setup.cfg, how it is made in launcher/setup/bootstrap.py.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
# Left empty, these two stay as the environment has them.
MPI ?=
HOROVOD ?=

# The demo's size: epochs of events on 2 ranks and on 1. A step of the published network takes seconds on one core.
DEMO ?= demo
DEMO_EVENTS ?= 56
DEMO_EPOCHS ?= 3
DEMO_SEED ?= 1
DEMO_OPTIONS ?= --filters original
# Both runs give a rank one core, and the launcher keeps it so, that the table compares workers and not cores.
DEMO_MPIRUN ?= mpirun --bind-to core --map-by core

# Relative paths of packages' programs would break in a shell that has changed its folder.
export PATH := $(abspath $(VENV))/bin:$(PATH)

# Open MPI starts nothing as root unless told twice, by one of these names or the other.
ifeq ($(shell id -u),0)
export OMPI_ALLOW_RUN_AS_ROOT ?= 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM ?= 1
export PRTE_ALLOW_RUN_AS_ROOT ?= 1
export PRTE_ALLOW_RUN_AS_ROOT_CONFIRM ?= 1
endif
BENCH_OUT ?= bench.json

# On one core there is no place for two ranks unless they may share it.
ifeq ($(shell nproc),1)
export PRTE_MCA_rmaps_default_mapping_policy ?= :oversubscribe
DEMO_MPIRUN := mpirun --bind-to none
endif

.PHONY: help env demo test lint bench bench-compare bench-launch bench-parsing precision-study simgrid qemu clean

help:  ## print this list
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Variables, as in 'make env MPI=site':"
	@echo "  MPI=site        build mpi4py and Horovod against the mpicxx on PATH (default: wheel, an Open MPI from pip)"
	@echo "  HOROVOD=no      leave Horovod out, ranks then talk through mpi4py"
	@echo "  VENV=$(VENV)      where the environment is; PYTHON=$(PYTHON), the Python that makes it (3.11 or later)"
	@echo "  DEMO_EVENTS=$(DEMO_EVENTS), DEMO_EPOCHS=$(DEMO_EPOCHS), DEMO_OPTIONS='...': size of the demo and more options of its training"

env:  ## make the virtual environment or bring it up to date
	@$(PYTHON) -m launcher.setup.bootstrap --venv '$(VENV)' $(if $(MPI),--mpi '$(MPI)') $(if $(HOROVOD),--horovod '$(HOROVOD)')

demo: env  ## simulate showers, train on 2 ranks and on 1, print and plot the scaling table
	@if compgen -G '$(DEMO)/data/*.h5' > /dev/null; then \
	  echo "The showers in $(DEMO)/data are there already."; \
	else \
	  python -m gan simulate --out '$(DEMO)/data' --events $(DEMO_EVENTS) --seed $(DEMO_SEED); \
	fi
	@for ranks in 2 1; do \
	  echo "Training on $$ranks rank(s), $(DEMO_EPOCHS) epochs of $(DEMO_EVENTS) events"; \
	  $(DEMO_MPIRUN) -np $$ranks python -m launcher --data '$(DEMO)/data/*.h5' --out '$(DEMO)/run-'$$ranks \
	    --events $(DEMO_EVENTS) --epochs $(DEMO_EPOCHS) --seed $(DEMO_SEED) --bind none --no-resume $(DEMO_OPTIONS); \
	done
	@python -m scaling report '$(DEMO)/run-1' '$(DEMO)/run-2' --out '$(DEMO)/report'

lint: env  ## check style and types
	@ruff check --no-cache .
	@ruff format --check .
	@mypy

test: lint  ## check style and types, then run all tests
	@python -m pytest $(PYTEST_OPTIONS)

bench: env  ## measure steps, input, exchange, start-up, generation and scaling, 15 minutes (BENCH_OPTIONS=--quick: two)
	@python -m tests.benchmarks --out '$(BENCH_OUT)' $(BENCH_OPTIONS)

bench-compare: env  ## tell what is slower in NEW=file than in OLD=file by more than the noise
	@python -m tests.benchmarks.compare '$(OLD)' '$(NEW)'

bench-launch: env  ## measure what starting ranks costs, and what a staged environment saves
	@python -m tests.benchmarks.launch_cost $(BENCH_OPTIONS)
	@python -m tests.benchmarks.staging

bench-parsing: env  ## measure how fast logs are read
	@python -m tests.benchmarks.parsing

precision-study: env  ## train FP32 and BF16 side by side for an hour: does BF16 train as well?
	@python -m tests.benchmarks.precision_study $(STUDY_OPTIONS)

simgrid: env  ## compare the forecast's communication term with SimGrid (needs libsimgrid-dev)
	@python -m tests.simgrid

qemu: env  ## check binding and pinning in a guest with 96 CPUs and two NUMA domains (needs root and QEMU)
	@python -m tests.qemu

clean:  ## remove the environment, the demo and what tools keep
	rm -rf $(addprefix '$(DEMO)'/,data run-1 run-2 report) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build *.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	@if [ -f '$(VENV)/bootstrap.json' ]; then rm -rf '$(VENV)'; fi
