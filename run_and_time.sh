#!/usr/bin/env bash
# One timed MLPerf run: run_and_time.sh [SEED], or run_and_time.sh check [SEED...]
#
# Every setting is an environment variable of launch/variables.sh, which has the defaults. Several ranks are
# started by torchrun, bound to cores of their own. Exits with the run's status; prints RESULT only for a
# finished run, on machine 0. "check" asks runtime.preflight whether such runs, with these seeds, are legal in the closed
# division, and runs nothing.
set -euo pipefail
root=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/variables.sh
source "$root/launch/variables.sh"

fail() {
    echo "run_and_time.sh: error: $*" >&2
    exit 1
}

mode=run
if [[ ${1:-} == check ]]; then
    mode=check
    shift
    seeds=("$@")
fi
SEED=${1:-${SEED:--1}}

[[ -d $DATASET_DIR ]] || fail "DATASET_DIR $DATASET_DIR does not exist; preprocess KiTS19 there or set DATASET_DIR"
mkdir -p "$LOG_DIR" 2> /dev/null || fail "LOG_DIR $LOG_DIR cannot be made; set it to a folder that can be written to"
[[ -w $LOG_DIR ]] || fail "LOG_DIR $LOG_DIR cannot be written to; set it to a folder that can"
ranks=$((NPROC * NNODES))

read -ra input_shape <<< "$INPUT_SHAPE"
read -ra val_input_shape <<< "$VAL_INPUT_SHAPE"
read -ra filters <<< "$FILTERS"
read -ra decay_epochs <<< "$LR_DECAY_EPOCHS"
read -ra lamb_betas <<< "$LAMB_BETAS"
read -ra fused_ops <<< "$FUSED_OPS"
read -ra extra <<< "$EXTRA_PARAMS"

arguments=(
    --data_dir "$DATASET_DIR" --log_dir "$LOG_DIR" --seed "$SEED"
    --mlperf_division "$MLPERF_DIVISION" --mlperf_ruleset "$MLPERF_RULESET" --mlperf_org "$MLPERF_ORG"
    --mlperf_status "$MLPERF_STATUS" --mlperf_platform "$MLPERF_PLATFORM" --mlperf_container "$MLPERF_CONTAINER"
    --eval_ranks "$EVAL_RANKS" --untimed_warmup_steps "$UNTIMED_WARMUP_STEPS"
    --epochs "$MAX_EPOCHS" --quality_threshold "$QUALITY_THRESHOLD"
    --start_eval_at "$START_EVAL_AT" --evaluate_every "$EVALUATE_EVERY"
    --optimizer "$OPTIMIZER" --learning_rate "$LEARNING_RATE" --init_learning_rate "$INIT_LEARNING_RATE"
    --lr_warmup_epochs "$LR_WARMUP_EPOCHS" --lr_decay_factor "$LR_DECAY_FACTOR"
    --momentum "$MOMENTUM" --weight_decay "$WEIGHT_DECAY" --lamb_betas "${lamb_betas[@]}"
    --batch_size "$BATCH_SIZE" --ga_steps "$GRADIENT_ACCUMULATION_STEPS" --last_batch "$LAST_BATCH"
    --oversampling "$OVERSAMPLING" --overlap "$OVERLAP" --brightness "$BRIGHTNESS"
    --input_shape "${input_shape[@]}" --val_input_shape "${val_input_shape[@]}" --filters "${filters[@]}"
    --normalization "$NORMALIZATION" --activation "$ACTIVATION"
    --loader "$LOADER" --num_workers "$NUM_WORKERS" --layout "$LAYOUT" --image_dtype "$IMAGE_DTYPE"
    --data_cache "$DATA_CACHE" --cache_dtype "$CACHE_DTYPE" --reader "$READER" --sharding "$SHARDING"
    --dali_device "$DALI_DEVICE" --amp_dtype "$AMP_DTYPE" --fused "$FUSED"
    --val_batch_size "$VAL_BATCH_SIZE" --optimizer_backend "$OPTIMIZER_BACKEND"
    --ddp_gradient_dtype "$DDP_GRADIENT_DTYPE"
)
((${#decay_epochs[@]} == 0)) || arguments+=(--lr_decay_epochs "${decay_epochs[@]}")
((${#fused_ops[@]} == 0)) || arguments+=(--fused_ops "${fused_ops[@]}")
[[ -z $CUDNN_BENCHMARK_LIMIT ]] || arguments+=(--cudnn_benchmark_limit "$CUDNN_BENCHMARK_LIMIT")
[[ -z $MLPERF_STAMP ]] || arguments+=(--mlperf_stamp "$MLPERF_STAMP")
[[ -z $STATIC_LOSS_SCALE ]] || arguments+=(--static_loss_scale "$STATIC_LOSS_SCALE")
[[ -z $SAVE_CKPT_PATH ]] || arguments+=(--save_ckpt_path "$SAVE_CKPT_PATH")
[[ -z $SAVE_EVERY_MINUTES ]] || arguments+=(--save_every_minutes "$SAVE_EVERY_MINUTES")
[[ -z $RESUME ]] || arguments+=(--resume "$RESUME")
for switch in AMP INCLUDE_BACKGROUND RECOMPUTE_NORM SHADOW_WEIGHTS CUDA_GRAPH COMPILE CUDNN_BENCHMARK DDP_ONE_BUCKET; do
    [[ ${!switch} != 1 ]] || arguments+=("--${switch,,}")
done
arguments+=(${extra[@]+"${extra[@]}"})

# shellcheck source=launch/processes.sh
source "$root/launch/processes.sh"

preflight=(env "PYTHONPATH=$root" "$PYTHON" -m runtime.preflight "${arguments[@]}" --ranks "$ranks")
if [[ $mode == check ]]; then
    ((${#seeds[@]} == 0)) || preflight+=(--seeds "${seeds[@]}")
    exec "${preflight[@]}"
elif [[ $MLPERF_DIVISION == closed && $NODE_RANK == 0 && -z $CACHES_CLEARED ]]; then
    # Before the caches are dropped, since it looks at the data. A launcher that has dropped them has asked.
    "${preflight[@]}" --seeds "$SEED"
fi

if [[ -n $CACHES_CLEARED ]]; then
    echo "caches: $CACHES_CLEARED by the launcher"
elif [[ $CLEAR_CACHES != 1 ]]; then
    CACHES_CLEARED=unknown
    echo "caches were NOT dropped (CLEAR_CACHES=$CLEAR_CACHES)"
elif sync && { echo 3 > /proc/sys/vm/drop_caches; } 2> /dev/null; then
    CACHES_CLEARED=yes
    echo "caches dropped"
else
    CACHES_CLEARED=refused
    echo "caches were NOT dropped: that needs root and a writable /proc/sys/vm/drop_caches; the log says so"
fi
arguments+=(--caches_cleared "$CACHES_CLEARED")

start=$(date +%s)
start_fmt=$(date '+%Y-%m-%d %r')
echo "STARTING TIMING RUN AT $start_fmt"

start_processes "$root/main.py" "${arguments[@]}"

end=$(date +%s)
echo "ENDING TIMING RUN AT $(date '+%Y-%m-%d %r')"
((NODE_RANK > 0)) || echo "RESULT,image_segmentation,$SEED,$((end - start)),${USER:-$(id -un)},$start_fmt"
