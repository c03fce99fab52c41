#!/usr/bin/env bash
# submit.sh CONFIG [FLAGS of sbatch...]: run.sub as a SLURM job, with the machines and the time that CONFIG asks for.
# The environment goes along: CONT, MLPERF_CONTAINER, DATADIR, LOGDIR, NEXP, SEEDS and the rest of variables.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/read_config.sh
source launch/read_config.sh
(($# > 0)) || { echo "usage: submit.sh CONFIG [FLAGS of sbatch...], see launch/config_*.sh" >&2; exit 2; }
export CONFIG=$1
shift
asked=$(
    read_config "$CONFIG" || exit 1
    # shellcheck source=launch/variables.sh
    source launch/variables.sh
    echo "--nodes=$NNODES --time=$((NEXP * WALLTIME))"
) || exit 1
read -ra flags <<< "$asked"
exec sbatch "${flags[@]}" "$@" launch/run.sub
