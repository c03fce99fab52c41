# shellcheck shell=bash
# Sourced by configurations: what those for the closed division on GPUs have in common. Hyperparameters are those
# of the reference convergence points for a global batch of 28 and 56 (mlperf_logging 4.1.68,
# rcp_checker/training_4.0.0/rcps_unet3d.json) and of NVIDIA's v4.0 submissions (training_results_v4.0,
# NVIDIA/benchmarks/unet3d, config_DGXH100_1x8x7.sh and config_DGXH100_9x8x1.sh). How the step is computed is this
# program's own, measured on one H200 (results); none of these configurations has run yet.
MLPERF_DIVISION=${MLPERF_DIVISION:-closed}
MLPERF_STATUS=${MLPERF_STATUS:-onprem}
LEARNING_RATE=${LEARNING_RATE:-2.0}
INIT_LEARNING_RATE=${INIT_LEARNING_RATE:-1e-4}
LR_WARMUP_EPOCHS=${LR_WARMUP_EPOCHS:-1000}
MOMENTUM=${MOMENTUM:-0.9}
WEIGHT_DECAY=${WEIGHT_DECAY:-0.0}
MAX_EPOCHS=${MAX_EPOCHS:-10000}
OPTIMIZER_BACKEND=${OPTIMIZER_BACKEND:-torch}
LOADER=${LOADER:-dali}
DATA_CACHE=${DATA_CACHE:-device}
NUM_WORKERS=${NUM_WORKERS:-4}
LAYOUT=${LAYOUT:-NDHWC}
AMP=${AMP:-1}
AMP_DTYPE=${AMP_DTYPE:-bfloat16}
IMAGE_DTYPE=${IMAGE_DTYPE:-bfloat16}
SHADOW_WEIGHTS=${SHADOW_WEIGHTS:-1}
CUDA_GRAPH=${CUDA_GRAPH:-1}
UNTIMED_WARMUP_STEPS=${UNTIMED_WARMUP_STEPS:-20} # as many as NVIDIA's
