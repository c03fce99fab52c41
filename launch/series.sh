# shellcheck shell=bash
# Sourced by launchers: series makes NEXP runs, one after the other, and collects what they leave.
#
#   LOGDIR/run_<i>/        unet3d.log as the run writes it, output.txt, compliance.txt
#   LOGDIR/result_<i>.txt  the log of a finished run, whatever it has reached
#
# A launcher defines
#   legal SEED...                 status 0 if runs with these seeds are legal in the closed division
#   run_once FOLDER SEED CACHES   one run with its LOG_DIR in FOLDER (run_<i>), in place of this process
#   end_run PID                   asks the run, which is process PID here, to end
#   compliance FOLDER             the official checker on FOLDER/unet3d.log, its report to FOLDER/compliance.txt
# where folders are in LOGDIR, and drop_caches, if the caches of this machine are not the ones to drop. A series that
# was ended goes on with the runs that have no result. A signal ends the run under way and then the series, with
# 130 or 143. Only one series at a time may use a LOGDIR.

launch=${launch:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}
# shellcheck source=launch/variables.sh
source "$launch/variables.sh"

stop() {
    echo "${0##*/}: error: $*" >&2
    exit 1
}

# Prints yes or refused
drop_caches() {
    if sync && { echo 3 > /proc/sys/vm/drop_caches || sudo -n /sbin/sysctl -q vm.drop_caches=3; } 2> /dev/null; then
        echo yes
    else
        echo refused
    fi
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
    exec {lock}> "$LOGDIR/.lock"
    flock -n "$lock" || stop "another series of runs is writing to LOGDIR $LOGDIR: wait for it, or choose another"
    DATADIR=$(realpath "$DATADIR")
    choose_seeds
}

# The status with which a signal ends the series; empty as long as none has come
ended=""
child=""
hear() {
    ended=$1
    [[ -z $child ]] || end_run "$child"
}

# finish_run FOLDER SEED CACHES: run_once in the background, so that a signal is heard at once; its status
finish_run() {
    local status writer out
    exec {out}> >(tee -i "$LOGDIR/$1/output.txt")
    writer=$!
    run_once "$@" >&"$out" 2>&1 {out}>&- &
    child=$!
    exec {out}>&-
    while true; do
        status=0
        wait "$child" || status=$?
        kill -0 "$child" 2> /dev/null || break
    done
    child=""
    wait "$writer" || true
    return "$status"
}

# collect I SEED: the log of run I becomes its result
collect() {
    local log=$LOGDIR/run_$1/unet3d.log result=$LOGDIR/result_$1.txt
    grep -q "\"key\": \"seed\", \"value\": $2," "$log" || stop "run $1: $log is not of a run with seed $2"
    cp "$log" "$LOGDIR/.result_$1.tmp"
    mv -n "$LOGDIR/.result_$1.tmp" "$result"
    [[ ! -e $LOGDIR/.result_$1.tmp ]] || stop "run $1: $result has come from elsewhere meanwhile"
}

series() {
    local i failed=0 seed folder status caches verdict left=() coming=()
    trap 'hear 130' INT
    trap 'hear 143' TERM
    for ((i = 0; i < NEXP; i++)); do
        folder=run_$i
        if [[ -e $LOGDIR/result_$i.txt ]]; then
            echo "run $i: result_$i.txt is there already"
            continue
        fi
        left+=("$i")
        coming+=("${seeds[i]}")
        # An attempt that was ended stays beside the new one, under a name that is no run's.
        if [[ -e $LOGDIR/$folder ]]; then
            mv "$LOGDIR/$folder" "$LOGDIR/ended_$folder.$(date -r "$LOGDIR/$folder" +%Y%m%d-%H%M%S-%N)"
        fi
    done
    ((${#left[@]} > 0)) || return 0
    if [[ $MLPERF_DIVISION == closed ]]; then
        legal "${coming[@]}" || return
    fi
    for i in "${left[@]}"; do
        seed=${seeds[i]} folder=run_$i
        if grep -qxF "$seed" <(seeds_there); then
            stop "run $i: seed $seed is that of a result in $LOGDIR: give another one in SEEDS"
        fi
        mkdir "$LOGDIR/$folder"
        caches=unknown
        [[ $CLEAR_CACHES != 1 ]] || caches=$(drop_caches)
        if [[ $MLPERF_DIVISION == closed && $caches != yes ]]; then
            stop "run $i: caches cannot be dropped, and the closed division wants that before each run:" \
                "run as root, or let sudo do /sbin/sysctl vm.drop_caches=3 without a password"
        fi
        [[ -z $ended ]] || break
        echo "run $i of 0 to $((NEXP - 1)): seed $seed, caches dropped: $caches"
        status=0
        finish_run "$folder" "$seed" "$caches" || status=$?
        [[ -z $ended ]] || break
        # 3 is a run that diverged: one that did not converge, which no other may replace.
        if ((status != 0 && status != 3)); then
            failed=$((failed + 1))
            echo "run $i: FAILED with status $status, see $LOGDIR/$folder/output.txt" >&2
            continue
        fi
        verdict="not asked for"
        if [[ $CHECK_COMPLIANCE == 1 ]]; then
            verdict=passed
            compliance "$folder" || verdict="FAILED, see $LOGDIR/$folder/compliance.txt"
        fi
        collect "$i" "$seed"
        echo "run $i: finished, compliance checker: $verdict"
        [[ -z $ended ]] || break
    done
    echo "$(find "$LOGDIR" -maxdepth 1 -name 'result_*.txt' | wc -l) of $NEXP runs have a result in $LOGDIR:" \
        "python -m benchmark submission status $LOGDIR"
    [[ -z $ended ]] || return "$ended"
    ((failed == 0))
}
