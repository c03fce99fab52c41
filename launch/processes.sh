# shellcheck shell=bash
# Sourced by run_and_time.sh: start_processes PROGRAM ARGUMENTS... runs the ranks of this machine, passes
# signals on to them, waits, and leaves with their status where it is not 0. Needs fail and the variables of
# variables.sh.
: "${root:?}" "${ranks:?}"

# One process without a launcher, several under torchrun. What torchrun itself says about a rank that ended
# goes to a file: it is long, and what the rank said is the reason.
launcher() {
    if ((ranks == 1)); then
        printf '%s\n' "$root/launch/bind.sh" "$PYTHON"
        return
    fi
    printf '%s\n' "$PYTHON" -m torch.distributed.run "--nproc_per_node=$NPROC" "--max_restarts=$MAX_RESTARTS"
    if ((NNODES > 1)); then
        printf '%s\n' "--nnodes=$NNODES" "--node_rank=$NODE_RANK" "--master_addr=$MASTER_ADDR" "--master_port=$MASTER_PORT"
    elif [[ -n $MASTER_PORT ]]; then
        printf '%s\n' --master_addr=127.0.0.1 "--master_port=$MASTER_PORT"
    else
        printf '%s\n' --standalone
    fi
    printf '%s\n' --no-python "$root/launch/bind.sh" "$root/launch/own_stderr.sh" "$PYTHON"
}

BIND_PORT='import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", int(sys.argv[1])))'

check_address() {
    if ((NNODES > 1)) && [[ -z $MASTER_ADDR || -z $MASTER_PORT ]]; then
        fail "NNODES=$NNODES needs MASTER_ADDR and MASTER_PORT, where machine 0 can be reached"
    fi
    # Whoever has it would answer in our place, or nobody would.
    if [[ -n $MASTER_PORT && $NODE_RANK == 0 ]] && ((ranks > 1)); then
        # Connections of an earlier run that linger there do no harm.
        "$PYTHON" -c "$BIND_PORT" "$MASTER_PORT" 2> /dev/null || fail "MASTER_PORT $MASTER_PORT is in use on this machine, or no port: choose another"
    fi
}

# What torchrun's report says about the rank that failed first
first_failure() {
    sed -n '/Root Cause/,$p' "$1" | awk -F' *: *' '
        /^ *rank /{split($2, part, " "); rank = part[1]}
        /^ *exitcode /{split($2, part, " "); print "rank " rank " ended first, with status " part[1]; exit}'
}

start_processes() {
    local program=$1 status=0 signal="" report=$LOG_DIR/torchrun_$NODE_RANK.txt
    shift
    check_address
    if ((NPROC > 1)); then
        local share=$(($(nproc) / NPROC))
        export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((share > 0 ? share : 1))}"
    fi
    export TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 # of torchrun, which sends them on
    export CUDA_DEVICE_ORDER=PCI_BUS_ID # as nvidia-smi counts, and with it bind.sh
    [[ $BIND == 1 ]] || export BIND=0
    mapfile -t command < <(launcher)

    # A group of its own: Ctrl-C reaches the run once, by the trap, and not ignored as in other background jobs.
    set -m
    if ((ranks == 1)); then
        "${command[@]}" "$program" "$@" &
    else
        rm -f "$report"
        # Ranks open it anew, to append; in a file this script must append, too.
        [[ ! -f /proc/$$/fd/2 ]] || exec 2>> "/proc/$$/fd/2"
        RUN_STDERR=/proc/$$/fd/2 "${command[@]}" "$program" "$@" 2> "$report" &
    fi
    local child=$!
    set +m
    trap 'signal=INT; kill -INT "$child" 2> /dev/null || true' INT
    trap 'signal=TERM; kill -TERM "$child" 2> /dev/null || true' TERM
    trap 'signal=USR1; kill -USR1 "$child" 2> /dev/null || true' USR1
    # wait returns at once when a signal comes
    while true; do
        status=0
        wait "$child" || status=$?
        kill -0 "$child" 2> /dev/null || break
    done
    trap - INT TERM USR1
    kill -KILL -- "-$child" 2> /dev/null || true # whoever is left of the group
    if [[ $signal == INT ]]; then
        exit 130
    elif [[ $signal == TERM ]]; then
        exit 143
    elif [[ $signal == USR1 ]]; then
        exit 138
    elif ((status != 0)) && ((ranks > 1)); then
        local first
        first=$(first_failure "$report")
        echo "run_and_time.sh: error: ${first:-torchrun ended with status $status}; its report is in $report" >&2
        # The rank's own status tells more than torchrun's.
        [[ ! $first =~ status\ ([0-9]+)$ ]] || status=${BASH_REMATCH[1]}
        exit "$status"
    elif ((status != 0)); then
        exit "$status"
    fi
    rm -f "$report"
}
