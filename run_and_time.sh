#!/usr/bin/env bash
# One timed MLPerf run: run_and_time.sh [SEED]
#
# Every hyperparameter can be overridden by an environment variable of the name given below. The defaults
# are those of the MLPerf reference. Exits with the run's status; prints RESULT only for a finished run.
set -euo pipefail
main=$(cd "$(dirname "$0")" && pwd)/main.py

SEED=${1:-${SEED:--1}}
: "${DATASET_DIR:=/data}"
: "${LOG_DIR:=/results}"
: "${PYTHON:=python3}"
: "${NPROC:=1}"                  # processes on this machine, one per GPU
: "${CLEAR_CACHES:=1}"           # 0: leave the machine's page cache alone
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
: "${BATCH_SIZE:=2}"
: "${GRADIENT_ACCUMULATION_STEPS:=1}"
: "${LOADER:=pytorch}"
: "${DATA_CACHE:=none}"           # host or device: keep whole volumes there
: "${CACHE_DTYPE:=stored}"
: "${READER:=window}"
: "${SHARDING:=global}"
: "${IMAGE_DTYPE:=float32}"
: "${LAYOUT:=NCDHW}"
: "${NUM_WORKERS:=8}"
: "${INPUT_SHAPE:=128 128 128}"
: "${VAL_INPUT_SHAPE:=128 128 128}"
: "${FILTERS:=32 64 128 256 320}"
: "${OVERSAMPLING:=0.4}"
: "${OVERLAP:=0.5}"
: "${OPTIMIZER_BACKEND:=auto}"
: "${LAMB_BETAS:=0.9 0.999}"
: "${NORMALIZATION:=instancenorm}"
: "${ACTIVATION:=relu}"
: "${INCLUDE_BACKGROUND:=0}"     # 1: count the background in Dice
: "${BRIGHTNESS:=reference}"
: "${LAST_BATCH:=drop}"
: "${AMP:=0}"                    # 1: automatic mixed precision
: "${AMP_DTYPE:=float16}"
: "${SAVE_CKPT_PATH:=}"
: "${EXTRA_PARAMS:=}"            # further flags of main.py, space separated

if [[ ! -d $DATASET_DIR ]]; then
    echo "run_and_time.sh: DATASET_DIR $DATASET_DIR does not exist; preprocess KiTS19 there or set DATASET_DIR" >&2
    exit 1
fi
mkdir -p "$LOG_DIR"

caches_cleared=unknown
if [[ $CLEAR_CACHES != 1 ]]; then
    echo "caches were NOT dropped (CLEAR_CACHES=$CLEAR_CACHES)"
elif sync && { echo 3 > /proc/sys/vm/drop_caches; } 2> /dev/null; then
    caches_cleared=yes
    echo "caches dropped"
else
    caches_cleared=refused
    echo "caches were NOT dropped: that needs root and a writable /proc/sys/vm/drop_caches; the log says so"
fi

read -ra input_shape <<< "$INPUT_SHAPE"
read -ra val_input_shape <<< "$VAL_INPUT_SHAPE"
read -ra filters <<< "$FILTERS"
read -ra decay_epochs <<< "$LR_DECAY_EPOCHS"
read -ra lamb_betas <<< "$LAMB_BETAS"
read -ra extra <<< "$EXTRA_PARAMS"

launcher=("$PYTHON")
if ((NPROC > 1)); then
    share=$(($(nproc) / NPROC))
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((share > 0 ? share : 1))}"
    launcher=("$PYTHON" -m torch.distributed.run --standalone "--nproc_per_node=$NPROC")
fi
arguments=(
    --data_dir "$DATASET_DIR" --log_dir "$LOG_DIR" --seed "$SEED"
    --epochs "$MAX_EPOCHS" --quality_threshold "$QUALITY_THRESHOLD"
    --start_eval_at "$START_EVAL_AT" --evaluate_every "$EVALUATE_EVERY"
    --optimizer "$OPTIMIZER" --learning_rate "$LEARNING_RATE" --init_learning_rate "$INIT_LEARNING_RATE"
    --lr_warmup_epochs "$LR_WARMUP_EPOCHS" --lr_decay_factor "$LR_DECAY_FACTOR"
    --momentum "$MOMENTUM" --weight_decay "$WEIGHT_DECAY"
    --batch_size "$BATCH_SIZE" --ga_steps "$GRADIENT_ACCUMULATION_STEPS"
    --loader "$LOADER" --layout "$LAYOUT" --num_workers "$NUM_WORKERS"
    --data_cache "$DATA_CACHE" --cache_dtype "$CACHE_DTYPE" --reader "$READER" --sharding "$SHARDING"
    --image_dtype "$IMAGE_DTYPE"
    --input_shape "${input_shape[@]}" --val_input_shape "${val_input_shape[@]}" --filters "${filters[@]}"
    --optimizer_backend "$OPTIMIZER_BACKEND" --lamb_betas "${lamb_betas[@]}"
    --normalization "$NORMALIZATION" --activation "$ACTIVATION" --brightness "$BRIGHTNESS"
    --last_batch "$LAST_BATCH" --amp_dtype "$AMP_DTYPE"
    --oversampling "$OVERSAMPLING" --overlap "$OVERLAP" --caches_cleared "$caches_cleared"
)
((${#decay_epochs[@]} == 0)) || arguments+=(--lr_decay_epochs "${decay_epochs[@]}")
[[ $AMP != 1 ]] || arguments+=(--amp)
[[ $INCLUDE_BACKGROUND != 1 ]] || arguments+=(--include_background)
[[ -z $SAVE_CKPT_PATH ]] || arguments+=(--save_ckpt_path "$SAVE_CKPT_PATH")

start=$(date +%s)
start_fmt=$(date '+%Y-%m-%d %r')
echo "STARTING TIMING RUN AT $start_fmt"

"${launcher[@]}" "$main" "${arguments[@]}" ${extra[@]+"${extra[@]}"}

end=$(date +%s)
echo "ENDING TIMING RUN AT $(date '+%Y-%m-%d %r')"
echo "RESULT,image_segmentation,$SEED,$((end - start)),${USER:-$(id -un)},$start_fmt"
