# shellcheck shell=bash
# Nine machines with 8 H200: 56 ranks train on one image each, a global batch of 56, and the last 16 evaluate
# meanwhile, as in NVIDIA's config_DGXH100_9x8x1.sh.
NNODES=${NNODES:-9}
NPROC=${NPROC:-8}
EVAL_RANKS=${EVAL_RANKS:-16}
BATCH_SIZE=${BATCH_SIZE:-1}
VAL_BATCH_SIZE=${VAL_BATCH_SIZE:-7}
SHARDING=${SHARDING:-static}
MLPERF_PLATFORM=${MLPERF_PLATFORM:-9x8xH200}
WALLTIME=${WALLTIME:-20}
# shellcheck source=launch/closed_gpu.sh
source "$(dirname "${BASH_SOURCE[0]}")/closed_gpu.sh"
