#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Sourced by the files of this bundle that stand between blahp and the batch system; functions only.
# The caller sets BOSCO_ROOT, the directory of the installed version. POSIX sh.
# Results come back in BOSCO_* variables, not on stdout, where each call would cost a process on a busy login node.

BOSCO_QUEUE_TTL_S=5         # the batch system is asked for the whole queue once in this time, whatever the load
BOSCO_QUEUE_BUSY_S=30       # while another process asks, or after a failed question, an older list is good enough
BOSCO_QUEUE_KEEP_S=86400    # a batch system that does not answer: the last known state stands for this long
BOSCO_COMMAND_S=60          # deadline of one batch command
BOSCO_LOCK_S=90             # a lock older than this was left by a killed process; more than BOSCO_COMMAND_S
BOSCO_WAIT_S=15             # patience with another process that asks
BOSCO_GONE_S=300            # neither queue nor accounting knows a job: lost after this time, never "done, 0"

# bosco_batch_setting KEY: BOSCO_SETTING is its value in etc/bosco.conf, or empty.
bosco_batch_setting() {
    BOSCO_SETTING=
    while IFS= read -r bosco_line; do
        case "$bosco_line" in
            "$1="*) BOSCO_SETTING=${bosco_line#*=}; return 0 ;;
        esac
    done < "$BOSCO_ROOT/etc/bosco.conf"
    return 1
}

# bosco_batch_real_command NAME OWN_DIR: BOSCO_REAL is the site's command, never the file in OWN_DIR.
bosco_batch_real_command() {
    BOSCO_REAL=
    if bosco_batch_setting bin_path; then
        BOSCO_REAL=$BOSCO_SETTING/$1
        [ -x "$BOSCO_REAL" ] && return 0
    else
        bosco_own=$(CDPATH='' cd -P -- "$2" && pwd -P)
        bosco_rest=${PATH}:
        while [ -n "$bosco_rest" ]; do
            bosco_dir=${bosco_rest%%:*}
            bosco_rest=${bosco_rest#*:}
            case "$bosco_dir" in /*) ;; *) continue ;; esac
            if [ -f "$bosco_dir/$1" ] && [ -x "$bosco_dir/$1" ] &&
                [ "$(CDPATH='' cd -P -- "$bosco_dir" && pwd -P)" != "$bosco_own" ]; then
                BOSCO_REAL=$bosco_dir/$1
                return 0
            fi
        done
    fi
    printf '%s\n' "$1: no such command on this login node; set bin_path in the site file" >&2
    return 1
}

# bosco_batch_run COMMAND [ARG...]: under a deadline where timeout(1) exists.
bosco_batch_run() {
    if command -v timeout >/dev/null 2>&1; then
        timeout "$BOSCO_COMMAND_S" "$@"
    else
        "$@"
    fi
}

# bosco_batch_state_dir: BOSCO_STATE_DIR is the private directory for lists and marks. 1 = it cannot be had.
# Never a predictable name below /tmp: another user of the login node could have made it first.
bosco_batch_state_dir() {
    bosco_batch_setting bosco_dir || return 1
    [ -n "${HOME:-}" ] || return 1
    BOSCO_STATE_DIR=$HOME/$BOSCO_SETTING/log/queue
    [ -d "$BOSCO_STATE_DIR" ] || (umask 077 && mkdir -p -- "$BOSCO_STATE_DIR") 2>/dev/null
    [ -d "$BOSCO_STATE_DIR" ] && [ -O "$BOSCO_STATE_DIR" ] && [ -w "$BOSCO_STATE_DIR" ]
}

bosco_batch_now() {
    BOSCO_NOW=$(date +%s)
}

# bosco_batch_age STAMP: BOSCO_AGE in seconds; something that is no time, or in the future, is very old.
bosco_batch_age() {
    case "$1" in
        '' | *[!0-9]* | ????????????*) BOSCO_AGE=999999999; return ;;
    esac
    BOSCO_AGE=$((BOSCO_NOW - $1))
    [ "$BOSCO_AGE" -ge 0 ] || BOSCO_AGE=999999999
}

# bosco_batch_lock NAME: take it; 1 = another process has it, 2 = no lock can be made here. ln -s is atomic, on NFS too.
bosco_batch_lock() {
    ln -s "$BOSCO_NOW" "$1" 2>/dev/null && return 0
    bosco_stamp=$(readlink "$1" 2>/dev/null) || return 2
    bosco_batch_age "$bosco_stamp"
    [ "$BOSCO_AGE" -lt "$BOSCO_LOCK_S" ] && return 1
    # Two processes may both break an old lock; both then ask, which costs a question and no wrong answer.
    rm -f -- "$1"
    ln -s "$BOSCO_NOW" "$1" 2>/dev/null || return 1
}

# bosco_queue_age FILE: BOSCO_AGE of a list (first line "BOSCO-QUEUE <epoch seconds>").
bosco_queue_age() {
    bosco_tag='' bosco_stamp=''
    [ -r "$1" ] && read -r bosco_tag bosco_stamp < "$1"
    [ "$bosco_tag" = BOSCO-QUEUE ] || bosco_stamp=
    bosco_batch_age "$bosco_stamp"
}

# bosco_queue_refresh FILE LISTER [ARG...]: 1 = the batch system does not answer, 2 = FILE cannot be written.
bosco_queue_refresh() {
    bosco_file=$1
    shift
    if ! bosco_list=$("$@"); then
        (umask 077 && printf 'BOSCO-QUEUE %s\n' "$BOSCO_NOW" > "$bosco_file.failed") 2>/dev/null
        return 1
    fi
    rm -f -- "$bosco_file.failed" 2>/dev/null
    bosco_new=$(umask 077 && mktemp "$bosco_file.new.XXXXXX" 2>/dev/null) || return 2
    if printf 'BOSCO-QUEUE %s\n%s\n' "$BOSCO_NOW" "$bosco_list" > "$bosco_new" 2>/dev/null &&
        mv -f -- "$bosco_new" "$bosco_file" 2>/dev/null; then
        return 0
    fi
    rm -f -- "$bosco_new"
    return 2
}

# bosco_queue_find FILE ID: BOSCO_STATE is the state of the job in the list; 1 = not in it.
bosco_queue_find() {
    BOSCO_STATE=
    [ -r "$1" ] || return 1
    while read -r bosco_id bosco_state; do
        if [ "$bosco_id" = "$2" ]; then
            # shellcheck disable=SC2034  # read by the caller
            BOSCO_STATE=$bosco_state
            return 0
        fi
    done < "$1"
    return 1
}

# bosco_queue_ask FILE LISTER [ARG...]: make FILE recent enough. 0 = it is, 1 = no answer, 2 = no list possible here.
bosco_queue_ask() {
    bosco_batch_now
    bosco_queue_age "$1"
    [ "$BOSCO_AGE" -le "$BOSCO_QUEUE_TTL_S" ] && return 0
    bosco_queue_age "$1.failed"
    [ "$BOSCO_AGE" -le "$BOSCO_QUEUE_BUSY_S" ] && return 1
    bosco_tries=0
    while [ "$bosco_tries" -lt "$BOSCO_WAIT_S" ]; do
        bosco_batch_lock "$1.lock"
        case $? in
            0)
                # Another process may have asked and let go between our look at the list and our lock.
                bosco_batch_now
                bosco_queue_age "$1"
                bosco_rc=0
                if [ "$BOSCO_AGE" -gt "$BOSCO_QUEUE_TTL_S" ]; then
                    bosco_queue_refresh "$@"
                    bosco_rc=$?
                fi
                rm -f -- "$1.lock"
                return "$bosco_rc"
                ;;
            2)
                # The holder may have let go between ln and readlink; a directory one cannot write stays so.
                [ "$bosco_tries" -lt 2 ] || return 2
                ;;
            *)
                bosco_queue_age "$1"
                [ "$BOSCO_AGE" -le "$BOSCO_QUEUE_BUSY_S" ] && return 0
                ;;
        esac
        sleep 1
        bosco_tries=$((bosco_tries + 1))
        bosco_batch_now
        bosco_queue_age "$1"
        [ "$BOSCO_AGE" -le "$BOSCO_QUEUE_TTL_S" ] && return 0
    done
    return 2
}

# bosco_queue_last FILE ID: the state the job had when the batch system last answered.
bosco_queue_last() {
    bosco_batch_now
    bosco_queue_age "$1"
    [ "$BOSCO_AGE" -le "$BOSCO_QUEUE_KEEP_S" ] && bosco_queue_find "$1" "$2"
}

# bosco_queue_state FILE ID LISTER [ARG...]: 0 = BOSCO_STATE is set, 1 = the job is not in a recent list,
# 2 = no list can be kept here, 3 = the batch system does not answer and no earlier state is known.
bosco_queue_state() {
    bosco_file_asked=$1 bosco_id_asked=$2
    shift 2
    bosco_queue_ask "$bosco_file_asked" "$@"
    case $? in
        0) bosco_queue_find "$bosco_file_asked" "$bosco_id_asked" ;;
        1) bosco_queue_last "$bosco_file_asked" "$bosco_id_asked" || return 3 ;;
        *) return 2 ;;
    esac
}

# bosco_gone_seen NAME: nobody knows the job. BOSCO_AGE counts from the first time; 1 = it cannot be remembered.
bosco_gone_seen() {
    bosco_batch_state_dir || return 1
    bosco_batch_now
    bosco_mark=$BOSCO_STATE_DIR/gone-$1
    bosco_queue_age "$bosco_mark"
    if [ "$BOSCO_AGE" -ge 999999999 ]; then
        (umask 077 && printf 'BOSCO-QUEUE %s\n' "$BOSCO_NOW" > "$bosco_mark") 2>/dev/null || return 1
        # Marks of jobs that were removed meanwhile are of no use to anyone.
        find "$BOSCO_STATE_DIR" -name 'gone-*' -mmin +1440 -exec rm -f -- {} + 2>/dev/null
        BOSCO_AGE=0
    fi
}

# bosco_gone_forget NAME: the job was found after all.
bosco_gone_forget() {
    bosco_batch_state_dir || return 0
    [ ! -e "$BOSCO_STATE_DIR/gone-$1" ] || rm -f -- "$BOSCO_STATE_DIR/gone-$1"
}

# bosco_status_print ID JOB_STATUS [EXIT_CODE]: one answer as blahpd reads it.
# JobStatus: 1 idle, 2 running, 4 completed, 5 held.
bosco_status_print() {
    if [ -n "${3:-}" ]; then
        printf '0[BatchJobId="%s"; JobStatus=%s; ExitCode=%s; ]\n' "$1" "$2" "$3"
    else
        printf '0[BatchJobId="%s"; JobStatus=%s; ]\n' "$1" "$2"
    fi
}

# bosco_status_gone SYSTEM ID: running until the deadline, then failed; never "completed, 0".
bosco_status_gone() {
    if ! bosco_gone_seen "$1-$2"; then
        printf '1ERROR: job %s is unknown and no mark can be written below the home directory\n' "$2"
    elif [ "$BOSCO_AGE" -lt "$BOSCO_GONE_S" ]; then
        bosco_status_print "$2" 2
    else
        bosco_status_print "$2" 4 255
    fi
}

# bosco_status_main SYSTEM QUERY [-w] [-n] SYSTEM/DATE/ID...: answer each id by the function QUERY.
# QUERY ID sets BOSCO_JOB_STATUS and BOSCO_EXIT_CODE; 1 = nobody knows the job, 2 = no answer (BOSCO_WHY).
bosco_status_main() {
    bosco_system=$1 bosco_query=$2
    shift 2
    for bosco_arg do
        case "$bosco_arg" in -*) continue ;; esac
        bosco_job=${bosco_arg##*/}
        bosco_job=${bosco_job%%.*}
        case "$bosco_job" in
            '' | *[!0-9]*) printf '1ERROR: not a job id\n'; continue ;;
        esac
        BOSCO_JOB_STATUS='' BOSCO_EXIT_CODE='' BOSCO_WHY=''
        "$bosco_query" "$bosco_job"
        case $? in
            0)
                bosco_gone_forget "$bosco_system-$bosco_job"
                bosco_status_print "$bosco_job" "$BOSCO_JOB_STATUS" "$BOSCO_EXIT_CODE"
                ;;
            1) bosco_status_gone "$bosco_system" "$bosco_job" ;;
            *) printf '1ERROR: %s\n' "$BOSCO_WHY" ;;
        esac
    done
}
