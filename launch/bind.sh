#!/usr/bin/env bash
# bind.sh COMMAND...: run one rank on cores of its own, near its GPU.
#
# torchrun starts it for each rank. The rank's GPU says which NUMA node is near (nvidia-smi and sysfs); its
# cores are shared among the ranks of that node, both threads of a core going to the same rank. Without a GPU,
# or where the machine does not tell, all cores are shared among all ranks of the machine. Memory is taken from the
# node too where numactl is installed. The cores that this process may use at all are never left.
set -euo pipefail

[[ ${BIND:-1} == 1 ]] || exec "$@"

rank=${LOCAL_RANK:-0}
ranks=${LOCAL_WORLD_SIZE:-1}
sysfs=${BIND_SYSFS:-/sys}        # tests have their own

# 0-2,5 -> 0 1 2 5, a line each
expand() {
    local part
    for part in ${1//,/ }; do
        seq "${part%-*}" "${part#*-}"
    done
}

# UUID and NUMA node of each GPU, a line each in CUDA's order; -1 where the node is not told
describe_gpus() {
    local uuid bus
    nvidia-smi --query-gpu=uuid,pci.bus_id --format=csv,noheader 2> /dev/null | while IFS=', ' read -r uuid bus; do
        bus=${bus,,}
        echo "$uuid $(cat "$sysfs/bus/pci/devices/${bus: -12}/numa_node" 2> /dev/null || echo -1)"
    done
}

# Cores in an order that keeps the threads of a core together
by_core() {
    local cpu siblings
    while read -r cpu; do
        siblings=$(cat "$sysfs/devices/system/cpu/cpu$cpu/topology/thread_siblings_list" 2> /dev/null || echo "$cpu")
        echo "${siblings%%[,-]*} $cpu"
    done | sort -n -k1,1 -k2,2 | cut -d' ' -f2
}

mapfile -t allowed < <(expand "$(taskset -pc $$ | sed 's/.*: //')" | by_core)
mapfile -t described < <(describe_gpus)
gpus=("${described[@]##* }")
if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
    # By number or by UUID, of which a beginning is enough; others (MIG) are not looked up.
    gpus=()
    for visible in ${CUDA_VISIBLE_DEVICES//,/ }; do
        found=-1
        for ((gpu = 0; gpu < ${#described[@]}; gpu++)); do
            if [[ $visible == "$gpu" || ($visible == GPU-* && ${described[gpu]} == "$visible"*) ]]; then
                found=${described[gpu]##* }
            fi
        done
        gpus+=("$found")
    done
fi

node=${gpus[rank]:--1}
near=("${allowed[@]}")
place=$rank sharers=$ranks
if ((node >= 0)) && [[ -r $sysfs/devices/system/node/node$node/cpulist ]]; then
    mapfile -t near < <(grep -xFf <(expand "$(< "$sysfs/devices/system/node/node$node/cpulist")") \
        <(printf '%s\n' "${allowed[@]}") || true)
    place=0 sharers=0
    for ((other = 0; other < ranks; other++)); do
        if [[ ${gpus[other]:--1} == "$node" ]]; then
            ((other >= rank)) || place=$((place + 1))
            sharers=$((sharers + 1))
        fi
    done
fi

count=$((${#near[@]} / sharers))
if ((ranks == 1 && node < 0)); then
    exec "$@"
elif ((count == 0)); then
    echo "bind: local rank $rank is left unbound: ${#near[@]} cores for $sharers ranks"
    exec "$@"
fi
cores=$(printf '%s\n' "${near[@]:place * count:count}" | sort -n | paste -sd,)
command=(taskset -c "$cores")
where=""
if ((node >= 0)); then
    where=", NUMA node $node"
    # Not where a control group or a container forbids it.
    ! numactl "--membind=$node" true 2> /dev/null || command+=(numactl "--membind=$node")
fi
echo "bind: local rank $rank on cores $cores$where"
exec "${command[@]}" "$@"
