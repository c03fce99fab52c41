# shellcheck shell=bash
# A CPU and phantom data, to try the whole way: a narrow network on 64^3 patches, an evaluation after each
# epoch. Nothing here is MLPerf's, so its logs are marked as tests.
MLPERF_DIVISION=${MLPERF_DIVISION:-closed-test}
NPROC=${NPROC:-1}
CONT_GPUS=${CONT_GPUS:-none}
FILTERS=${FILTERS:-8 16 32 64 80}
INPUT_SHAPE=${INPUT_SHAPE:-64 64 64}
LAYOUT=${LAYOUT:-NDHWC}
NUM_WORKERS=${NUM_WORKERS:-2}
BATCH_SIZE=${BATCH_SIZE:-7}
LEARNING_RATE=${LEARNING_RATE:-0.3}
LR_WARMUP_EPOCHS=${LR_WARMUP_EPOCHS:-10}
START_EVAL_AT=${START_EVAL_AT:-1}
EVALUATE_EVERY=${EVALUATE_EVERY:-1}
MAX_EPOCHS=${MAX_EPOCHS:-1}
UNTIMED_WARMUP_STEPS=${UNTIMED_WARMUP_STEPS:-1}
