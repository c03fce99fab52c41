#!/usr/bin/env bash
# run_with_docker.sh CONFIG: a series of runs on this machine, in a container of image CONT.
#
# CONFIG is a file or the name of one here (H200_1x8: config_H200_1x8.sh). Variables are those of variables.sh;
# CONT, DATADIR, LOGDIR, NEXP and SEEDS say of what, where and how often. Caches are dropped on the host, which
# needs root or sudo without a password.
set -euo pipefail
launch=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/read_config.sh
source "$launch/read_config.sh"
(($# == 1)) || { echo "usage: run_with_docker.sh CONFIG, see launch/config_*.sh" >&2; exit 2; }
read_config "$1" || exit 1
# shellcheck source=launch/series.sh
source "$launch/series.sh"

((NNODES == 1)) || stop "$1 is for $NNODES machines, and this starts one container: use run.sub"
[[ -n $CONT ]] || stop "CONT is not set: give the image, built by docker build -t unet3d ."
command -v docker > /dev/null || stop "there is no docker here: install it, or use run_bare.sh"
prepare_series

image=$(docker image inspect --format '{{.Id}}' "$CONT" 2> /dev/null) \
    || stop "CONT: docker has no image $CONT; build it (docker build -t $CONT .) or pull it"
digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$CONT" | sed -n 's/.*@//p' | head -n1)
MLPERF_CONTAINER=${digest:-$image}
container=unet3d_$$
inside=(DATASET_DIR=/data LOG_DIR=/results MLPERF_STAMP=/results/preflight.json PYTHON=python3)
mapfile -t known < <(known_variables | grep -vxE 'DATASET_DIR|LOG_DIR|MLPERF_STAMP|PYTHON')

stop_container() {
    docker rm --force "$container" > /dev/null 2>&1 || true
}
trap stop_container EXIT

gpus=()
[[ $CONT_GPUS == none ]] || gpus=(--gpus "$CONT_GPUS")
# NUMA policies need SYS_NICE; a page-locked data cache needs memlock.
docker run --detach --init --name "$container" ${gpus[@]+"${gpus[@]}"} --ipc=host --network=host --cap-add=SYS_NICE \
    --ulimit memlock=-1 --ulimit stack=67108864 --volume "$DATADIR:/data:ro" --volume "$LOGDIR:/results" \
    "$CONT" sleep infinity > /dev/null || stop "docker cannot start a container of $CONT, see above"

# exec_inside NAME=VALUE... -- COMMAND...: with the run's variables
exec_inside() {
    local name environment=()
    for name in "${known[@]}"; do
        environment+=(--env "$name=${!name}")
    done
    for name in "${inside[@]}"; do
        environment+=(--env "$name")
    done
    while [[ $1 != -- ]]; do
        environment+=(--env "$1")
        shift
    done
    shift
    docker exec "${environment[@]}" "$container" "$@"
}

legal() {
    exec_inside -- ./run_and_time.sh check "$@"
}

run_once() {
    exec_inside "LOG_DIR=/results/$1" "CACHES_CLEARED=$3" -- ./run_and_time.sh "$2"
}

# docker exec hands no signals on. The run is asked in the container to end, so that its log says so; what has not
# ended after a while ends with the container.
end_run() {
    docker exec "$container" pkill -TERM -f run_and_time.sh > /dev/null 2>&1 || true
    { sleep "${STOP_SECONDS:-30}" && stop_container; } > /dev/null 2>&1 &
}

compliance() {
    docker exec --workdir "/results/$1" "$container" python3 -m mlperf_logging.compliance_checker --usage training \
        --ruleset "$MLPERF_RULESET" --log_output compliance.txt unet3d.log > /dev/null 2>&1
}

series
