# shellcheck shell=bash
# One machine with 8 H100: batches of 7, a global batch of 56, as in NVIDIA's config_DGXH100_1x8x7.sh.
NNODES=${NNODES:-1}
NPROC=${NPROC:-8}
BATCH_SIZE=${BATCH_SIZE:-7}
VAL_BATCH_SIZE=${VAL_BATCH_SIZE:-4}
SHARDING=${SHARDING:-static}
MLPERF_PLATFORM=${MLPERF_PLATFORM:-8xH100}
WALLTIME=${WALLTIME:-40}
# shellcheck source=launch/closed_gpu.sh
source "$(dirname "${BASH_SOURCE[0]}")/closed_gpu.sh"
