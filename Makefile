# Short commands. setup.cfg lists the packages of the environment, launcher/setup/bootstrap.py makes it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
# If empty, an existing environment keeps its choice.
MPI ?=
HOROVOD ?=

# Size of the demo: epochs of events, on 2 ranks and on 1. A step of the published network takes seconds on one core.
DEMO ?= demo
DEMO_EVENTS ?= 56
DEMO_EPOCHS ?= 3
DEMO_SEED ?= 1
DEMO_OPTIONS ?= --filters original
# Showers with which the demo compares the trained networks.
DEMO_REFERENCE ?= 1000
# Each rank gets one core in both runs, so that the table compares numbers of workers and not of cores.
DEMO_MPIRUN ?= mpirun --bind-to core --map-by core

# An absolute path, because a relative one breaks after `cd`.
export PATH := $(abspath $(VENV))/bin:$(PATH)

# Open MPI runs as root only with two variables set; their names depend on its version.
ifeq ($(shell id -u),0)
export OMPI_ALLOW_RUN_AS_ROOT ?= 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM ?= 1
export PRTE_ALLOW_RUN_AS_ROOT ?= 1
export PRTE_ALLOW_RUN_AS_ROOT_CONFIRM ?= 1
endif
BENCH_OUT ?= bench.json

# Training of the generators that ship.
PRETRAINED ?= pretrained
PRETRAINED_MODELS ?= conv3d conv2d
PRETRAINED_OPTIONS ?= --filters original --epochs 2 --events 10000 --precision bf16

# Kind of the quality study.
STUDY ?= recipes

# On one core, two ranks start only if they may share it.
ifeq ($(shell nproc),1)
export PRTE_MCA_rmaps_default_mapping_policy ?= :oversubscribe
DEMO_MPIRUN := mpirun --bind-to none
endif

# Tests in lanes: those that start no ranks and no cluster run several at a time, the others one by one.
TEST_WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
SIDE_BY_SIDE := not mpi and not cluster
GROUP ?= cluster browser simgrid

.PHONY: help env demo pretrained quality-study check test test-packages lint bench bench-compare bench-launch bench-parsing precision-study simgrid qemu clean

help:  ## print this list
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Variables, used as in 'make env MPI=site':"
	@echo "  MPI=site        build mpi4py and Horovod against the mpicxx on PATH (default: wheel, an Open MPI from pip)"
	@echo "  HOROVOD=no      leave Horovod out; ranks then exchange gradients through mpi4py"
	@echo "  VENV=$(VENV)      folder of the environment; PYTHON=$(PYTHON): the Python that makes it (3.11 to 3.13)"
	@echo "  DEMO_EVENTS=$(DEMO_EVENTS), DEMO_EPOCHS=$(DEMO_EPOCHS), DEMO_OPTIONS='...': size of the demo, more options of its training"
	@echo "  PYTEST_OPTIONS='...': more options of pytest for check and test; TEST_WORKERS=$(TEST_WORKERS): tests at a time"

env:  ## make the virtual environment, or bring it up to date
	@$(PYTHON) -m launcher.setup.bootstrap --venv '$(VENV)' $(if $(MPI),--mpi '$(MPI)') $(if $(HOROVOD),--horovod '$(HOROVOD)')

demo: env  ## simulate showers, train on 2 ranks and on 1, plot the scaling, compare generated showers
	@if compgen -G '$(DEMO)/data/*.h5' > /dev/null; then \
	  echo "Using the showers in $(DEMO)/data."; \
	else \
	  python -m gan simulate --out '$(DEMO)/data' --events $(DEMO_EVENTS) --seed $(DEMO_SEED); \
	fi
	@for ranks in 2 1; do \
	  echo "Training on $$ranks rank(s), $(DEMO_EPOCHS) epochs of $(DEMO_EVENTS) events"; \
	  $(DEMO_MPIRUN) -np $$ranks python -m launcher --data '$(DEMO)/data/*.h5' --out '$(DEMO)/run-'$$ranks \
	    --events $(DEMO_EVENTS) --epochs $(DEMO_EPOCHS) --seed $(DEMO_SEED) --bind none --no-resume $(DEMO_OPTIONS); \
	done
	@python -m scaling report '$(DEMO)/run-1' '$(DEMO)/run-2' --out '$(DEMO)/report'
	@if ! compgen -G '$(DEMO)/reference/*.h5' > /dev/null; then \
	  python -m gan simulate --out '$(DEMO)/reference' --events $(DEMO_REFERENCE) --seed $$(($(DEMO_SEED) + 1)); \
	fi
	@python -m gan evaluate --from pretrained:conv3d --name 'shipped network' --from '$(DEMO)/run-2' --name 'this demo' \
	  --reference '$(DEMO)/reference/*.h5' --no-classifier --out '$(DEMO)/evaluation'

pretrained: env  ## train, pack and evaluate the generators that ship (hours; a second call continues)
	@for set in train test; do \
	  if ! compgen -G '$(PRETRAINED)'/$$set'/*.h5' > /dev/null; then \
	    python -m gan simulate --out '$(PRETRAINED)'/$$set --events $$([ $$set = train ] && echo 15000 || echo 10000) \
	      --seed $$([ $$set = train ] && echo 11 || echo 12); \
	  fi; \
	done
	@for model in $(PRETRAINED_MODELS); do \
	  $(DEMO_MPIRUN) -np 2 python -m launcher --data '$(PRETRAINED)/train/*.h5' --out '$(PRETRAINED)'/$$model \
	    --model $$model --seed $$([ $$model = conv2d ] && echo 2 || echo 1) --bind none $(PRETRAINED_OPTIONS); \
	  python -m gan pack --from '$(PRETRAINED)'/$$model --out gan/pretrained/$$model/generator.npz --overwrite; \
	  cp '$(PRETRAINED)'/$$model/run.jsonl gan/pretrained/$$model/; \
	  python -m gan evaluate --from pretrained:$$model --reference '$(PRETRAINED)/test/*.h5' --out '$(PRETRAINED)'/$$model/evaluation; \
	  cp '$(PRETRAINED)'/$$model/evaluation/evaluation.{md,json} gan/pretrained/$$model/; \
	done

quality-study: env  ## train variants and compare their showers (STUDY=recipes or workers; days; a second call continues)
	@python -m tests.benchmarks.quality_study $(STUDY) $(STUDY_OPTIONS)

lint: env  ## check style and types
	@ruff check --no-cache .
	@ruff format --check .
	@mypy

check: lint  ## check style and types, then run the tests without MPI, Slurm and long trainings (3 minutes on 2 cores)
	@python -m pytest -n $(TEST_WORKERS) -m '$(SIDE_BY_SIDE) and not slow' $(PYTEST_OPTIONS)

# Status 5: PYTEST_OPTIONS select no test of this lane.
test: lint  ## check style and types, then run all tests (26 minutes on 2 cores)
	@failed=0; \
	python -m pytest -n $(TEST_WORKERS) -m '$(SIDE_BY_SIDE)' $(PYTEST_OPTIONS) || [ $$? = 5 ] || failed=1; \
	python -m pytest -m 'not ($(SIDE_BY_SIDE))' $(PYTEST_OPTIONS) || [ $$? = 5 ] || failed=1; \
	exit $$failed

test-packages:  ## install Debian packages without which some tests are skipped (GROUP=cluster, browser or simgrid)
	@sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	packages=$$(for group in $(GROUP); do awk -v group="$$group" '$$1 == group { print $$2 }' tests/apt-packages.txt; done); \
	[ -n "$$packages" ] || { echo "no group '$(GROUP)'; see tests/apt-packages.txt" >&2; exit 2; }; \
	$$sudo apt-get update && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$packages

bench: env  ## measure step, input, exchange, start-up, generation, scaling; 15 minutes (BENCH_OPTIONS=--quick: 2)
	@python -m tests.benchmarks --out '$(BENCH_OUT)' $(BENCH_OPTIONS)

bench-compare: env  ## list what is slower in NEW=file than in OLD=file by more than the noise
	@python -m tests.benchmarks.compare '$(OLD)' '$(NEW)'

bench-launch: env  ## measure the cost of starting ranks, and the gain of a staged environment
	@python -m tests.benchmarks.launch_cost $(BENCH_OPTIONS)
	@python -m tests.benchmarks.staging

bench-parsing: env  ## measure how fast logs are parsed
	@python -m tests.benchmarks.parsing

precision-study: env  ## train in FP32 and BF16 for an hour and compare the results
	@python -m tests.benchmarks.precision_study $(STUDY_OPTIONS)

simgrid: env  ## compare the forecast's communication term with SimGrid (make test-packages GROUP=simgrid)
	@python -m tests.simgrid

qemu: env  ## check binding and pinning in a QEMU guest with 96 CPUs and two NUMA domains (as root)
	@python -m tests.qemu

clean:  ## remove the environment, the demo and caches of tools
	rm -rf $(addprefix '$(DEMO)'/,data reference run-1 run-2 report evaluation) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build *.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	@if [ -f '$(VENV)/bootstrap.json' ]; then rm -rf '$(VENV)'; fi
