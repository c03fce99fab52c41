# shellcheck shell=bash
# Sourced by launchers: series makes NEXP runs, one after the other, and collects what they leave.
#
#   LOGDIR/run_<i>/        unet3d.log as the run writes it, output.txt, compliance.txt
#   LOGDIR/result_<i>.txt  the log of a finished run, whatever it has reached
#
# A launcher defines
#   drop_caches            prints yes or refused
#   legal SEED...          status 0 if runs with these seeds are legal in the closed division
#   run_once FOLDER SEED CACHES   one run with its LOG_DIR in FOLDER (run_<i>)
#   compliance LOG REPORT  the official checker on FOLDER/unet3d.log, its report to FOLDER/compliance.txt
# where paths are relative to LOGDIR. A series that was ended goes on with the runs that have no result.

launch=${launch:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}
# shellcheck source=launch/variables.sh
source "$launch/variables.sh"

stop() {
    echo "${0##*/}: error: $*" >&2
    exit 1
}

# Seeds that results have, a line each
seeds_there() {
    local result
    for result in "$LOGDIR"/result_*.txt; do
        [[ ! -e $result ]] || sed -n 's/.*"key": "seed", "value": \([0-9]*\),.*/\1/p' "$result"
    done
}

# Fills seeds, one for each run: those asked for, or from the system's entropy
choose_seeds() {
    local twice seed
    read -ra seeds <<< "$SEEDS"
    for seed in ${seeds[@]+"${seeds[@]}"}; do
        [[ $seed =~ ^[0-9]+$ ]] || stop "SEEDS: $seed is no whole number"
    done
    if ((${#seeds[@]} > 0 && ${#seeds[@]} < NEXP)); then
        stop "SEEDS has ${#seeds[@]} seeds for NEXP=$NEXP runs: give one for each, or none to have them drawn"
    fi
    while ((${#seeds[@]} < NEXP)); do
        seed=$(od -An -N4 -tu4 /dev/urandom | xargs)
        grep -qxF "$seed" <(seeds_there; printf '%s\n' ${seeds[@]+"${seeds[@]}"}) || seeds+=("$seed")
    done
    twice=$(printf '%s\n' "${seeds[@]}" | sort | uniq -d | xargs)
    [[ -z $twice ]] || stop "SEEDS has ${twice// /, } twice: every run needs a seed of its own"
}

prepare_series() {
    [[ $NEXP =~ ^[1-9][0-9]*$ ]] || stop "NEXP=$NEXP is no number of runs"
    [[ -d $DATADIR ]] || stop "DATADIR $DATADIR does not exist; preprocess KiTS19 there or set DATADIR"
    mkdir -p "$LOGDIR" 2> /dev/null || stop "LOGDIR $LOGDIR cannot be made; set it to a folder that can be written to"
    [[ -w $LOGDIR ]] || stop "LOGDIR $LOGDIR cannot be written to; set it to a folder that can"
    LOGDIR=$(realpath "$LOGDIR")
    DATADIR=$(realpath "$DATADIR")
    choose_seeds
}

series() {
    local i failed=0 seed folder status caches verdict left=()
    for ((i = 0; i < NEXP; i++)); do
        if [[ -e $LOGDIR/result_$i.txt ]]; then
            echo "run $i: result_$i.txt is there already"
        else
            left+=("$i")
        fi
    done
    ((${#left[@]} > 0)) || return 0
    if [[ $MLPERF_DIVISION == closed ]]; then
        legal "${seeds[@]}" || return
    fi
    for i in "${left[@]}"; do
        seed=${seeds[i]} folder=run_$i
        if grep -qxF "$seed" <(seeds_there); then
            stop "run $i: seed $seed is that of a result in $LOGDIR: give another one in SEEDS"
        fi
        # An attempt that was ended stays beside the new one, under a name that is no run's.
        if [[ -e $LOGDIR/$folder ]]; then
            mv "$LOGDIR/$folder" "$LOGDIR/ended_$folder.$(date -r "$LOGDIR/$folder" +%Y%m%d-%H%M%S-%N)"
        fi
        mkdir "$LOGDIR/$folder"
        caches=unknown
        if [[ $CLEAR_CACHES == 1 ]]; then
            caches=$(drop_caches)
        fi
        echo "run $i of 0 to $((NEXP - 1)): seed $seed, caches dropped: $caches"
        status=0
        run_once "$folder" "$seed" "$caches" 2>&1 | tee "$LOGDIR/$folder/output.txt" || status=${PIPESTATUS[0]}
        if ((status != 0)); then
            failed=$((failed + 1))
            echo "run $i: FAILED with status $status, see $LOGDIR/$folder/output.txt" >&2
            ((status < 128)) || break # a signal ends the series
            continue
        fi
        verdict="not asked for"
        if [[ $CHECK_COMPLIANCE == 1 ]]; then
            verdict=passed
            compliance "$folder" || verdict="FAILED, see $LOGDIR/$folder/compliance.txt"
        fi
        cp "$LOGDIR/$folder/unet3d.log" "$LOGDIR/.result_$i.tmp"
        mv "$LOGDIR/.result_$i.tmp" "$LOGDIR/result_$i.txt"
        echo "run $i: finished, compliance checker: $verdict"
    done
    echo "$((NEXP - failed)) of $NEXP runs have a result in $LOGDIR: python -m benchmark submission status $LOGDIR"
    ((failed == 0))
}
