# Needs only python3 (3.11 or 3.12) with venv; everything else goes into .venv and .work.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
BIN := .venv/bin
WORK ?= .work
SHELL_FILES := run_and_time.sh .ci/run launch/*.sh launch/run.sub

# A step of the MLPerf network at 128^3 takes about a minute on two cores, so the bench narrows both, and says so;
# what the loader could feed is measured on real-size volumes and patches, with a published step in the step's place.
CPU_FLAGS := --filters 8 16 32 64 80 --input_shape 64 64 64 --val_input_shape 64 64 64
BENCH_FLAGS := $(CPU_FLAGS) --layout NDHWC --batch_size 2 --num_workers 2 --warmup_steps 5 --benchmark_steps 20

.PHONY: install install-dev bench mlperf-demo chaos soak fuzz test lint gpu-check gpu-check-dry clean

install: .venv/.installed
install-dev: .venv/.installed-dev

.venv/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("voxelrate needs Python 3.11 or 3.12, found %d.%d: make PYTHON=python3.11" % sys.version_info[:2] if not (3, 11) <= sys.version_info[:2] < (3, 13) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "no venv in $(PYTHON): install it (Debian: apt-get install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -r requirements.txt
	@touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements-dev.txt
	@touch $@

PROFILE_FLAGS := --emulate nvidia-h200 --num_workers 2 --batch_size 2 --warm

bench: install
	@echo "== 1/4 phantom: six small KiTS19-like raw cases into $(WORK)/raw"
	$(BIN)/python -m preprocess.phantom --out $(WORK)/raw --cases 6 --seed 1 --profile tiny
	@echo "== 2/4 preprocess: as MLPerf does, into $(WORK)/data"
	$(BIN)/python preprocess_dataset.py --data_dir $(WORK)/raw --results_dir $(WORK)/data
	@echo "== 3/4 benchmark: a narrow network (8 16 32 64 80) on 64^3 patches, not MLPerf's (32 64 128 256 320) on 128^3"
	$(BIN)/python main.py --data_dir $(WORK)/data --log_dir $(WORK)/results --benchmark --verbose $(BENCH_FLAGS)
	@echo "== 4/4 profile: could this machine's loader feed an H200? Real-size phantoms, 128^3 patches, NVIDIA's step time"
	$(BIN)/python -m preprocess.phantom --preprocessed --out $(WORK)/data-kits19 --cases 10 --profile kits19
	$(BIN)/python -m benchmark profile --data_dir $(WORK)/data-kits19 --log_dir $(WORK)/results $(PROFILE_FLAGS)

# The way of an MLPerf result in miniature, on phantom data; ends with what the official checkers say of it.
mlperf-demo: install
	rm -rf $(WORK)/mlperf-demo
	$(BIN)/python -m benchmark submission demo --work $(WORK)/mlperf-demo

# Faults at random moments of small runs, each resumed and compared with an undisturbed run; a record under results/.
MINUTES ?= 20
chaos: install
	$(BIN)/python -m benchmark chaos --minutes $(MINUTES)

# Forty minutes and 10,000 steps, watched for growth; a record under results/.
soak: install
	$(BIN)/python -m benchmark soak

# Broken volumes and logs, made by a fuzzer that sees what its inputs reach; MINUTES for each reader, one after the other.
fuzz: install-dev
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements-fuzz.txt
	mkdir -p $(WORK)/fuzz/npy $(WORK)/fuzz/mllog
	$(BIN)/python -m tests.fuzz.fuzz_npy $(WORK)/fuzz/npy tests/fuzz/corpus/npy -max_total_time=$$(($(MINUTES) * 60))
	$(BIN)/python -m tests.fuzz.fuzz_mllog $(WORK)/fuzz/mllog tests/fuzz/corpus/mllog -max_total_time=$$(($(MINUTES) * 60))

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/shellcheck -x $(SHELL_FILES)
	$(BIN)/hadolint Dockerfile
	$(BIN)/mypy

test: install-dev lint
	$(BIN)/python -m pytest

# On a machine with a GPU and its own torch, triton, numpy and tqdm (make gpu-check PYTHON=python3): nothing is
# installed, and what needs more is recorded as not run. The record is a new folder under results/. The dry run goes
# the same way on a CPU, so that a mistake costs no minute of a GPU (make gpu-check-dry PYTHON=.venv/bin/python).
GPU_BUDGET ?= 8m
gpu-check:
	-$(PYTHON) -m preprocess.phantom --preprocessed --out $(WORK)/gpu-data --cases 24 --profile kits19
	$(PYTHON) -m benchmark gpu-check --data_dir $(WORK)/gpu-data --budget $(GPU_BUDGET)

gpu-check-dry:
	$(PYTHON) -m preprocess.phantom --preprocessed --out $(WORK)/gpu-data-dry --cases 10 --shape 32 32 32
	$(PYTHON) -m benchmark gpu-check --dry_run --data_dir $(WORK)/gpu-data-dry --out $(WORK)/gpu-check-dry-run

clean:
	rm -rf .venv $(WORK) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
