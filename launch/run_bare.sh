#!/usr/bin/env bash
# run_bare.sh CONFIG: a series of runs on this machine, without a container.
#
# CONFIG is a file or the name of one here (cpu_phantom: config_cpu_phantom.sh). Variables are those of
# variables.sh; DATADIR, LOGDIR, NEXP and SEEDS say what and how often. PYTHON has this program's packages.
set -euo pipefail
launch=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/read_config.sh
source "$launch/read_config.sh"
(($# == 1)) || { echo "usage: run_bare.sh CONFIG, see launch/config_*.sh" >&2; exit 2; }
read_config "$1" || exit 1
# shellcheck source=launch/series.sh
source "$launch/series.sh"
prepare_series
mapfile -t known < <(known_variables)
export DATASET_DIR=$DATADIR
: "${MLPERF_STAMP:=$LOGDIR/preflight.json}" "${MLPERF_CONTAINER:=none}"

legal() {
    (export "${known[@]}" && LOG_DIR=$LOGDIR "$launch/../run_and_time.sh" check "$@")
}

run_once() {
    export "${known[@]}"
    LOG_DIR=$LOGDIR/$1 CACHES_CLEARED=$3 exec "$launch/../run_and_time.sh" "$2"
}

end_run() {
    kill -TERM "$1" 2> /dev/null || true
}

compliance() {
    (cd "$LOGDIR/$1" && "$PYTHON" -m mlperf_logging.compliance_checker --usage training --ruleset "$MLPERF_RULESET" \
        --log_output compliance.txt unet3d.log > /dev/null 2>&1)
}

series
