# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Time limits that hold even when the command cannot be killed (a read from a dead mount in state D).

# gwms_bosco_limit_run SECONDS OUTPUT COMMAND...: COMMAND's exit code, 124 when it ran longer (its process group is then
# killed and not waited for), or 125 when OUTPUT cannot be written. stdin is /dev/null, stdout and stderr go to the file OUTPUT, because a pipe of the
# caller would be held open by a process that does not die.
gwms_bosco_limit_run() {
    local seconds=$1 output=$2 line rc='' pid='' feed
    shift 2
    exec {feed}< <(
        # The subshell's stdout is the pipe; the command gets none of it.
        exec {answer}>&1 </dev/null >"$output" 2>&1 || { echo 'rc 125'; exit; }
        gwms_bosco_limit_session "$@" {answer}>&- &
        # Unquoted: `declare -f` of bash 5.1 writes >&"$answer" as &>, a file of that name.
        echo "pid $!" >&$answer
        wait "$!" || rc=$?
        echo "rc ${rc:-0}" >&$answer
    )
    while [[ -z $rc ]] && read -r -t "$seconds" line <&"$feed"; do
        case $line in
            'pid '*) pid=${line#pid } ;;
            'rc '*) rc=${line#rc } ;;
        esac
    done
    exec {feed}<&-
    [[ -n $rc ]] && return "$rc"
    gwms_bosco_limit_kill "$pid"
    return 124
}

# A session of its own, where setsid(1) exists, makes the whole family killable by one number.
gwms_bosco_limit_session() {
    if command -v setsid >/dev/null 2>&1 && [[ $(type -t "$1") == file ]]; then
        exec setsid "$@"
    fi
    "$@"
}

gwms_bosco_limit_kill() {
    [[ $1 =~ ^[0-9]+$ && $1 -gt 1 ]] || return 0
    kill -9 -- "-$1" 2>/dev/null || kill -9 "$1" 2>/dev/null
    return 0
}

# gwms_bosco_limit_pause SECONDS (fractions allowed): sleep without a process; not every sleep(1) knows fractions.
gwms_bosco_limit_pause() {
    local feed
    if [[ -z ${gwms_bosco_pause_fd-} ]]; then
        exec {feed}<> <(:)
        gwms_bosco_pause_fd=$feed
    fi
    read -r -t "$1" -u "$gwms_bosco_pause_fd"
    return 0
}

# gwms_bosco_limit_start PID: the kernel's start time of a process (clock ticks since boot), empty when it is gone. With
# the number it names a process for ever; the number alone is used again.
gwms_bosco_limit_start() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    # The second field, the name, is in brackets and may hold anything.
    stat=${stat##*) }
    # shellcheck disable=SC2086 # the numbers, field 3 and up
    set -- $stat
    # A zombie is gone as far as anyone waiting for it is concerned.
    [[ $1 != Z ]] && echo "${20}"
}

# gwms_bosco_limit_alive PID START: 0 while that very process lives.
gwms_bosco_limit_alive() {
    [[ $1 =~ ^[0-9]+$ && -n $2 && $(gwms_bosco_limit_start "$1") == "$2" ]]
}
