#!/usr/bin/env bash
# own_stderr.sh COMMAND...: run it with the standard error of the script that started torchrun, whose own goes
# elsewhere. Where that cannot be opened again (a socket), everything stays where it goes. A rank is in a session
# of its own; where there is setpriv, it ends with torchrun all the same.
set -euo pipefail
[[ -z $(command -v setpriv) ]] || set -- setpriv --pdeathsig TERM "$@"
if [[ -n ${RUN_STDERR:-} ]] && { : >> "$RUN_STDERR"; } 2> /dev/null; then
    exec "$@" 2>> "$RUN_STDERR"
fi
exec "$@"
