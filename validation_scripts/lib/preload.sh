# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # egress_* of lib/egress_conf.sh
# The chain: a library that fits the C library of where the pilot runs, and a look from inside there at everything the site
# names. The caller exports PROXYCHAINS_CONF_FILE, of a file without quiet_mode: what proxychains says is the reason.

# Seconds for starting programs where the pilot runs, besides the time that connections may take.
GWMS_BOSCO_PRELOAD_START_S=30
# Programs that pilots and payloads make connections with. Only those that are there are looked at.
GWMS_BOSCO_PRELOAD_PROGRAMS='bash sh curl wget openssl python python3 xrdcp xrdfs gfal-copy davix-get voms-proxy-info
    condor_master rclone pelican stashcp osdf'

# gwms_bosco_preload_program: what looks from inside, for bash; $1 = the library, $2 = programs, then NAME=HOST:PORT of
# each forward. Lines on stdout: `library ok` or `library WHY`; then `forward NAME ok` or `forward NAME WHY`, in any order;
# `unchained PROGRAM WHY` for programs that the library does not reach.
gwms_bosco_preload_program() {
    cat <<'PROGRAM'
export LC_ALL=C
library=$1 programs=$2 loader=
shift 2
# What the loader says of a library that does not fit it says and goes on, with exit code 0.
last() { local text=${1##*$'\n'}; printf '%s' "${text:0:160}"; }
refuse() { echo "library $(last "$1")"; exit 1; }
[[ -r $library ]] || refuse 'is not there'
true=$(type -P true) || true=$BASH
said=$(LD_PRELOAD=$library PROXYCHAINS_QUIET_MODE=1 "$true" </dev/null 2>&1) && [[ -z $said ]] || refuse "${said:-does not start}"
real=$(readlink -f "$library") || real=$library
# Only the process itself tells whether it has been loaded: a static program says nothing.
said=$(LD_PRELOAD=$library PROXYCHAINS_QUIET_MODE=1 "$BASH" -p -c '
    while IFS= read -r line; do case $line in *"/$0") exit 0 ;; esac; done </proc/self/maps; exit 9' "${real##*/}" 2>&1)
case $? in
    0) ;;
    9) refuse "${said:-is not loaded into programs here}" ;;
    *) refuse "${said:-programs end when it is loaded}" ;;
esac
echo 'library ok'
reason() {
    case $1 in
        *denied*) echo 'the egress proxy refuses it or cannot reach it' ;;
        *'socket error'* | *timeout*) echo 'no answer from the egress proxy in time' ;;
        *'not known'* | *'not resolve'* | *'Temporary failure'* | *'No address'* | *"can't resolve"*)
            echo 'its name is not known here' ;;
        *"can't load"* | *'config'*) last "$1" ;;
        *'refused'*) echo 'connection refused' ;;
        *) last "${1:-no answer}" ;;
    esac
}
one() {
    local target=${1#*=} said
    if said=$(LD_PRELOAD=$library PROXYCHAINS_QUIET_MODE=0 "$BASH" -p -c 'exec 3<>"/dev/tcp/$0/$1"' \
        "${target%:*}" "${target##*:}" </dev/null 2>&1); then
        echo "forward ${1%%=*} ok"
    else
        echo "forward ${1%%=*} $(reason "$said")"
    fi
}
for forward; do one "$forward" & done
wait
while IFS= read -r line; do
    case $line in
        */ld-musl*) ;;
        */ld-*.so* | */ld.so*) loader=/${line#*/} ;;
    esac
done </proc/self/maps
for program in $programs; do
    case $program in */*) path=$program ;; *) path=$(type -P "$program") || continue ;; esac
    [[ -f $path && -r $path ]] || continue
    if [[ -u $path || -g $path ]]; then echo "unchained $program set-user-id"; continue; fi
    magic=
    { IFS= read -r -n 4 -d '' magic <"$path"; } 2>/dev/null
    [[ $magic == $'\177ELF' && -n $loader ]] || continue
    "$loader" --verify "$path" >/dev/null 2>&1 || echo "unchained $program static"
done
exit 0
PROGRAM
}

# gwms_bosco_preload_look LIBRARY OUTPUT PROGRAM WAY...: run it, WAY before it (nothing, or what starts commands in the
# container). 0 when the library works there; then preload_open has the names of forwards that can be reached, preload_shut
# NAME: WHY; of the others, preload_unchained the programs. Else 1 and preload_why.
gwms_bosco_preload_look() {
    local library=$1 output=$2 program=$3 seconds rc kind name rest forward
    local -a forwards
    shift 3
    read -r -a forwards <<<"${egress_forwards//,/ }"
    preload_open='' preload_shut='' preload_unchained='' preload_why='' preload_pool=no preload_pools=no
    seconds=$((GWMS_BOSCO_PRELOAD_START_S + (${egress_connect_ms:-8000} + ${egress_read_ms:-15000}) / 1000))
    gwms_bosco_limit_run "$seconds" "$output" "$@" /bin/bash -p -c "$(gwms_bosco_preload_program)" preload \
        "$library" "$GWMS_BOSCO_PRELOAD_PROGRAMS $program" "${forwards[@]}"
    rc=$?
    preload_why=$(sed -n 's/^library //p' "$output" | head -n 1)
    if [[ $preload_why != ok ]]; then
        [[ -n $preload_why ]] || preload_why=$(tail -n 1 "$output")
        [[ -n $preload_why ]] || preload_why="no answer in $seconds s (exit code $rc)"
        return 1
    fi
    while read -r kind name rest; do
        case $kind:$rest in
            unchained:*) preload_unchained+="${preload_unchained:+, }$name ($rest)" ;;
            forward:ok) preload_open+=" $name " ;;
        esac
    done <"$output"
    for forward in "${forwards[@]}"; do
        name=${forward%%=*}
        # What the pilot is nothing without.
        [[ $name != pool* ]] || preload_pools=yes
        if [[ $preload_open == *" $name "* ]]; then
            [[ $name != pool* ]] || preload_pool=yes
            continue
        fi
        rest=$(sed -n "s/^forward $name //p" "$output" | head -n 1)
        preload_shut+="${preload_shut:+; }$name (${forward#*=}): $(gwms_bosco_report_safe "${rest:-no answer in time}" 160)"
    done
    return 0
}

# gwms_bosco_preload_enough: 0 when a pilot can live with what was found.
gwms_bosco_preload_enough() {
    [[ -n $egress_forwards ]] || return 0
    if [[ $preload_pools == yes ]]; then [[ $preload_pool == yes ]]; else [[ -n $preload_open ]]; fi
}
