# shellcheck shell=bash
# Every variable that a run, a configuration and a launcher know, with its default: sourced, never executed.
# What is set already stays, so the environment wins over a configuration, and a configuration over this.
# Configurations may set nothing else (see read_config.sh); the launchers hand all of it into containers.

# Where things are
: "${DATASET_DIR:=/data}"
: "${LOG_DIR:=/results}"
: "${PYTHON:=python3}"

# Processes
: "${NPROC:=1}"                  # per machine, one per GPU
: "${NNODES:=1}"                 # machines
: "${NODE_RANK:=0}"              # this machine among them
: "${MASTER_ADDR:=}"             # of machine 0; empty with one machine
: "${MASTER_PORT:=}"             # there; empty with one machine: any free one
: "${BIND:=1}"                   # 0: leave ranks unbound to cores and memory
: "${EVAL_RANKS:=0}"             # so many ranks evaluate while the others train

# The submission
: "${MLPERF_DIVISION:=open}"     # closed: asks preflight first; closed-test: logged as closed, marked as a test
: "${MLPERF_RULESET:=4.0.0}"
: "${MLPERF_ORG:=voxelrate}"
: "${MLPERF_STATUS:=research}"
: "${MLPERF_PLATFORM:=}"
: "${MLPERF_STAMP:=}"            # empty: preflight.json in LOG_DIR
: "${MLPERF_CONTAINER:=}"        # sha256:..., or none
: "${CLEAR_CACHES:=1}"           # 0: leave the machine's page cache alone
: "${CACHES_CLEARED:=}"          # yes or refused: a launcher has dealt with it

# Hyperparameters: defaults are the MLPerf reference's
: "${MAX_EPOCHS:=4000}"
: "${QUALITY_THRESHOLD:=0.908}"
: "${START_EVAL_AT:=auto}"       # auto: MLPerf's formula from the samples per epoch
: "${EVALUATE_EVERY:=auto}"
: "${OPTIMIZER:=sgd}"
: "${LEARNING_RATE:=0.8}"
: "${INIT_LEARNING_RATE:=1e-4}"
: "${LR_WARMUP_EPOCHS:=200}"
: "${LR_DECAY_EPOCHS:=}"         # space separated
: "${LR_DECAY_FACTOR:=1.0}"
: "${MOMENTUM:=0.9}"
: "${WEIGHT_DECAY:=0.0}"
: "${BATCH_SIZE:=2}"             # per rank and micro-batch
: "${GRADIENT_ACCUMULATION_STEPS:=1}"
: "${OVERSAMPLING:=0.4}"
: "${OVERLAP:=0.5}"
: "${LAMB_BETAS:=0.9 0.999}"
: "${LAST_BATCH:=drop}"
: "${BRIGHTNESS:=reference}"

# Network
: "${INPUT_SHAPE:=128 128 128}"
: "${VAL_INPUT_SHAPE:=128 128 128}"
: "${FILTERS:=32 64 128 256 320}"
: "${NORMALIZATION:=instancenorm}"
: "${ACTIVATION:=relu}"
: "${INCLUDE_BACKGROUND:=0}"     # 1: count the background in Dice

# Data pipeline
: "${LOADER:=pytorch}"
: "${NUM_WORKERS:=8}"
: "${DATA_CACHE:=none}"          # host or device: keep whole volumes there
: "${CACHE_DTYPE:=stored}"
: "${READER:=window}"
: "${DALI_DEVICE:=auto}"
: "${SHARDING:=global}"
: "${IMAGE_DTYPE:=float32}"
: "${LAYOUT:=NCDHW}"

# Speed
: "${AMP:=0}"                    # 1: automatic mixed precision
: "${AMP_DTYPE:=float16}"
: "${STATIC_LOSS_SCALE:=}"       # empty: dynamic
: "${FUSED:=auto}"
: "${FUSED_OPS:=}"               # empty: all by the kernels, norm join loss by plain formulas
: "${RECOMPUTE_NORM:=0}"
: "${SHADOW_WEIGHTS:=0}"
: "${CUDA_GRAPH:=0}"
: "${COMPILE:=0}"
: "${CUDNN_BENCHMARK:=0}"
: "${CUDNN_BENCHMARK_LIMIT:=}"   # with CUDNN_BENCHMARK=1; empty: 10, 0: all
: "${VAL_BATCH_SIZE:=1}"
: "${OPTIMIZER_BACKEND:=auto}"
: "${DDP_ONE_BUCKET:=0}"
: "${DDP_GRADIENT_DTYPE:=float32}"
: "${UNTIMED_WARMUP_STEPS:=0}"   # on synthetic data, before the clock, undone
: "${SAVE_CKPT_PATH:=}"
: "${SAVE_EVERY_MINUTES:=}"      # beside after evaluations
: "${RESUME:=}"                  # auto, or a checkpoint: go on from there; no closed run
: "${MAX_RESTARTS:=0}"           # of all ranks, when one has failed: with RESUME=auto they go on
: "${EXTRA_PARAMS:=}"            # further flags of main.py, space separated

# A series of runs, for the launchers
: "${NEXP:=40}"                  # runs; forty are a result
: "${SEEDS:=}"                   # space separated, one for each; empty: from the system's entropy
: "${DATADIR:=$DATASET_DIR}"     # on the host; DATASET_DIR in a container is /data
: "${LOGDIR:=$LOG_DIR}"          # on the host, for all runs of the series
: "${CONT:=}"                    # container image
: "${CONT_GPUS:=all}"            # of docker run --gpus; none: no such flag
: "${CHECK_COMPLIANCE:=1}"       # 0: do not ask the official checker after each run
: "${WALLTIME:=60}"              # minutes that a run may take, for a queue of jobs
