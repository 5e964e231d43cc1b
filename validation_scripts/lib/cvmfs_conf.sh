# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# cvmfs.conf in the state folder: how this pilot got /cvmfs. KEY=VALUE lines, read line by line and never sourced.

# gwms_bosco_conf_write FILE KEY VALUE...: all at once; 1 when a value has a character outside the allowed set, which is
# that of paths cvmfsexec can live in, and more, or the disk is full.
gwms_bosco_conf_write() {
    local LC_ALL=C file=$1 text=
    shift
    while [[ $# -ge 2 ]]; do
        [[ $2 =~ ^[][A-Za-z0-9_./:\;,\|@=%+-]*$ ]] || return 1
        text+="$1=$2"$'\n'
        shift 2
    done
    (umask 077 && printf '%s' "$text" >"$file.new") 2>/dev/null && mv -f "$file.new" "$file" && return 0
    rm -f "$file.new"
    return 1
}

# gwms_bosco_conf_read FILE KEY: the value, empty when absent.
gwms_bosco_conf_read() {
    local line
    while IFS= read -r line; do
        [[ ${line%%=*} == "$2" ]] && { printf '%s' "${line#*=}"; return 0; }
    done <"$1"
    return 1
}
