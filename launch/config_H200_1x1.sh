# shellcheck shell=bash
# As config_H100_1x1.sh, on H200.
MLPERF_PLATFORM=${MLPERF_PLATFORM:-1xH200}
# shellcheck source=launch/config_H100_1x1.sh
source "$(dirname "${BASH_SOURCE[0]}")/config_H100_1x1.sh"
