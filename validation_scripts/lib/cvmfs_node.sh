# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What this node allows, each tried for real. Each function: 0, or 1 and the reason on stdout.

# Seconds for one such trial. None takes longer than a fork on a node that works. The ladder may have less left.
GWMS_BOSCO_TRIAL_S=3

gwms_bosco_node_trial() {
    local output rc seconds=${rung_trial_s:-$GWMS_BOSCO_TRIAL_S}
    output=$(mktemp "${GWMS_BOSCO_DIR:-${TMPDIR:-/tmp}}/trial.XXXXXX") || { echo 'cannot make a temporary file'; return 1; }
    gwms_bosco_limit_run "$seconds" "$output" "$@"
    rc=$?
    case $rc in
        0) ;;
        124) echo "$1: no answer in $seconds s" ;;
        *) gwms_bosco_report_safe "$(grep -v '^$' "$output" | tail -n 1)" 120; echo " ($1: $rc)" ;;
    esac
    rm -f "$output"
    return "$rc"
}

# gwms_bosco_node_has PROGRAM: `command -v` alone also finds a file that nobody may execute.
gwms_bosco_node_has() {
    [[ -x $(command -v "$1") ]]
}

# Two nested user namespaces and a mount namespace: with one level only, cvmfsexec mounts, prints success and then fails.
gwms_bosco_node_userns() {
    gwms_bosco_node_has unshare || { echo 'no unshare program'; return 1; }
    gwms_bosco_node_trial unshare -rm unshare -U true
}

# The device must open; its mode alone says nothing (a container's device rules).
gwms_bosco_node_fuse() {
    local text
    [[ -e /dev/fuse ]] || { echo 'no /dev/fuse'; return 1; }
    text=$({ : 3<>/dev/fuse; } 2>&1) && return 0
    gwms_bosco_report_safe "${text##*fuse: }" 60
    echo ': /dev/fuse'
    return 1
}

# A set-user-id fusermount that a process of ours may use: with "no new privileges" (inside apptainer) it may not.
gwms_bosco_node_fusermount() {
    local program
    if grep -qs '^NoNewPrivs:[[:space:]]*1' /proc/self/status; then
        echo 'fusermount cannot gain privileges here (NoNewPrivs)'
        return 1
    fi
    for program in fusermount3 fusermount; do
        program=$(command -v "$program" 2>/dev/null) || continue
        [[ -u $program || $(id -u) == 0 ]] && return 0
    done
    echo 'no set-user-id fusermount'
    return 1
}

# fusermount can mount but not unmount without it, and the mount would outlive the pilot.
gwms_bosco_node_mtab() {
    [[ -r /etc/mtab ]] || { echo 'no /etc/mtab: fusermount could not unmount'; return 1; }
}

# The way into a holder's name spaces, and the one out of the pilot's session. Old or reduced versions lack an option.
gwms_bosco_node_enter() {
    local program
    for program in nsenter setsid; do
        gwms_bosco_node_has "$program" || { echo "no $program program"; return 1; }
    done
}

# gwms_bosco_node_path PATH: a path cvmfsexec can live in; its scripts quote nothing, and white space makes them run
# `rm -rf "/mnt"`.
gwms_bosco_node_path() {
    local LC_ALL=C
    if [[ ! $1 =~ ^/[A-Za-z0-9_./:,@%+=-]+$ ]]; then
        echo "path with white space or odd characters: $(gwms_bosco_report_safe "$1" 80)"
        return 1
    fi
}
