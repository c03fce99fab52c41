# shellcheck shell=bash
# Sourced: known_variables prints the names that variables.sh declares; read_config sources a configuration.

launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

known_variables() {
    sed -n 's/^: "\${\([A-Z0-9_]*\):=.*/\1/p' "$launch/variables.sh"
}

# check_config FILE LEVELS: whether a configuration, and those beside it that it sources through so many LEVELS,
# set known variables and do nothing else. It may come from elsewhere, and bash would run whatever is in it. A
# variable that nobody knows is most likely misspelt, and the run would go on with the default in its place.
check_config() {
    local file=$1 levels=$2 number=0 letters='A-Za-z0-9_.,:/+@%=$' LC_ALL=C line value beside known folder
    value="[$letters-]*|\"[$letters -]*\"|'[$letters -]*'|\\\$\\{[A-Z0-9_]+:-[$letters -]*\\}"
    beside='source "\$\(dirname "\$\{BASH_SOURCE\[0\]\}"\)/([A-Za-z0-9_]+\.sh)"'
    known=$(known_variables)
    folder=$(dirname "$file")
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        if [[ $line =~ ^(#.*)?$ ]]; then
            continue
        elif [[ $line =~ ^([A-Z0-9_]+)=($value)(\ +#.*)?$ ]]; then
            grep -qx "${BASH_REMATCH[1]}" <<<"$known" && continue
            echo "$file: sets ${BASH_REMATCH[1]}, which launch/variables.sh does not know: correct the name, or" \
                "put flags of main.py into EXTRA_PARAMS" >&2
        elif [[ $line =~ ^$beside$ ]] && ((levels > 0)); then
            check_config "$folder/${BASH_REMATCH[1]}" $((levels - 1)) && continue
        else
            echo "$file, line $number: expected NAME=value, NAME=\${NAME:-value}, or source of a file beside it" \
                "as in launch/config_H200_1x1.sh: a configuration sets variables and runs nothing" >&2
        fi
        return 1
    done <"$file"
}

# read_config NAME_OR_FILE: config_NAME.sh beside this file, or a file. Its variables are exported.
read_config() {
    local file=$1 found
    [[ -f $file ]] || file=$launch/config_$1.sh
    if [[ ! -f $file ]]; then
        found=$(cd "$launch" && for name in config_*.sh; do name=${name#config_}; echo "${name%.sh}"; done | xargs)
        echo "$1 is no file and no configuration in launch: expected a file, or one of $found" >&2
        return 1
    fi
    check_config "$file" 3 || return 1
    set -a
    # shellcheck disable=SC1090
    source "$file"
    set +a
}
