# shellcheck shell=bash
# One H100. Batches of 7, four of them accumulated: a global batch of 28, the smallest that has a reference
# convergence point under ruleset 4.0.0. It needs the fewest samples, and each of them costs the same here.
NNODES=${NNODES:-1}
NPROC=${NPROC:-1}
BATCH_SIZE=${BATCH_SIZE:-7}
GRADIENT_ACCUMULATION_STEPS=${GRADIENT_ACCUMULATION_STEPS:-4}
VAL_BATCH_SIZE=${VAL_BATCH_SIZE:-4}
MLPERF_PLATFORM=${MLPERF_PLATFORM:-1xH100}
WALLTIME=${WALLTIME:-240}
# shellcheck source=launch/closed_gpu.sh
source "$(dirname "${BASH_SOURCE[0]}")/closed_gpu.sh"
