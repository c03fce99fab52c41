# shellcheck shell=bash
# Sourced: known_variables prints the names that variables.sh declares; read_config sources a configuration.

launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

known_variables() {
    sed -n 's/^: "\${\([A-Z0-9_]*\):=.*/\1/p' "$launch/variables.sh"
}

# read_config NAME_OR_FILE: config_NAME.sh beside this file, or a file. Its variables are exported. A variable
# that nobody knows is most likely misspelt, and the run would go on with the default in its place.
read_config() {
    local file=$1 found unknown
    [[ -f $file ]] || file=$launch/config_$1.sh
    if [[ ! -f $file ]]; then
        found=$(cd "$launch" && for name in config_*.sh; do name=${name#config_}; echo "${name%.sh}"; done | xargs)
        echo "$1 is no file and no configuration in launch: expected a file, or one of $found" >&2
        return 1
    fi
    # A shell of its own, without this one's variables, tells what the file sets.
    # shellcheck disable=SC2016
    found=$(env -i PATH="$PATH" HOME="${HOME:-/}" USER="${USER:-}" bash --noprofile --norc -euc '
        before=$(compgen -v | sort)
        source "$1" >&2
        comm -13 <(echo "$before") <(compgen -v | sort)' bash "$file") || {
        echo "$file: cannot be read as a configuration, see above: it is sourced by bash" >&2
        return 1
    }
    unknown=$(comm -23 <(echo "$found" | grep -vxE 'before|PIPESTATUS|BASH_REMATCH|_') <(known_variables | sort) | xargs)
    if [[ -n $unknown ]]; then
        echo "$file: sets ${unknown// /, }, which launch/variables.sh does not know: correct the name, or put" \
            "flags of main.py into EXTRA_PARAMS" >&2
        return 1
    fi
    set -a
    # shellcheck disable=SC1090
    source "$file"
    set +a
}
