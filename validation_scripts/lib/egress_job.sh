# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # job_* and egress_* are job_wrapper's too
# The pilot as a child of the job wrapper: signals go on to it, its exit code is kept. A guard replaces what supervises the
# tunnel when that is killed, and ends what the wrapper has started when the wrapper is killed. Variables are called job_*: a
# local one of the name of an exported one would be seen by the pilot.

# Seconds a pilot gets to end when its wrapper was killed, and for leftovers of one that has ended.
GWMS_BOSCO_JOB_END_S=10
GWMS_BOSCO_JOB_LEFT_S=3
# Seconds in which a pilot of whom nothing is known gets its environment, by which it is found.
GWMS_BOSCO_JOB_BEGIN_S=2
# Seconds between looks at what supervises the tunnel.
GWMS_BOSCO_JOB_CARE_S=5

# Those that batch systems send.
GWMS_BOSCO_JOB_SIGNALS='HUP INT QUIT TERM USR1 USR2 XCPU ALRM'

# gwms_bosco_job_run COMMAND...: set job_rc. The environment of the command is what is exported here. A signal may come in
# the same instant in which the pilot ends, and then `wait` has lost its code: a process that no signal reaches stands
# between and tells it, by a pipe. bash opens one both ways by that of a command.
# shellcheck disable=SC2086 # words
gwms_bosco_job_run() {
    [[ -e /proc/$$/fd/0 ]] || exec </dev/null
    job_early='' job_pid='' job_word='' job_told=''
    for job_signal in $GWMS_BOSCO_JOB_SIGNALS; do
        # shellcheck disable=SC2064 # the signal's name now
        trap "gwms_bosco_job_forward $job_signal" "$job_signal"
    done
    # A signal to all may end the guard in the instant of its birth; the pilot goes on without it.
    trap '' PIPE
    gwms_bosco_job_guard
    exec {job_news}<> <(:)
    # A command started by & has no stdin unless it is told so, and ignores INT and QUIT.
    (
        trap '' $GWMS_BOSCO_JOB_SIGNALS
        # Else the guard would not see the wrapper's end.
        exec {job_guard}>&-
        (
            trap - PIPE $GWMS_BOSCO_JOB_SIGNALS
            echo "pid $BASHPID" >&$job_news
            exec {job_news}>&-
            gwms_bosco_job_exec "$@"
        )
        echo "code $?" >&$job_news
    ) <&0 &
    job_between=$!
    # Nobody tells it where no process can be made any more, or where a signal comes before it is ignored.
    until read -r -t 1 job_word job_told <&$job_news; do kill -0 "$job_between" 2>/dev/null || break; done
    case $job_word in
        pid) job_pid=$job_told ;;
        code) echo "code $job_told" >&$job_news ;;
    esac
    { echo "$job_pid" >&"$job_guard"; } 2>/dev/null
    for job_signal in ${job_pid:+$job_early}; do kill -s "$job_signal" "$job_pid" 2>/dev/null; done
    while :; do
        wait "$job_between"
        job_rc=$?
        kill -0 "$job_between" 2>/dev/null || break
    done
    # What comes now changes nothing any more.
    trap '' $GWMS_BOSCO_JOB_SIGNALS
    # Where it was killed nothing else is there.
    echo "code $job_rc" >&$job_news
    while read -r job_word job_rc <&$job_news && [[ $job_word != code ]]; do :; done
    exec {job_news}>&-
    gwms_bosco_job_leftovers "$GWMS_BOSCO_JOB_LEFT_S"
    { echo 'done' >&"$job_guard"; } 2>/dev/null
    exec {job_guard}>&-
}

gwms_bosco_job_forward() {
    if [[ -n $job_pid ]]; then kill -s "$1" "$job_pid" 2>/dev/null; else job_early+=" $1"; fi
}

# The guard sees the end of its input when the wrapper is gone, however it went. Its standard streams are nobody's.
gwms_bosco_job_guard() {
    # shellcheck disable=SC2086 # words
    exec {job_guard}> >(
        trap '' $GWMS_BOSCO_JOB_SIGNALS
        gwms_bosco_job_watch >/dev/null 2>&1
    )
}

gwms_bosco_job_watch() {
    local pid='' word='' start='' until
    # When the wrapper is gone nobody can tell.
    tunnel_script_start=$(gwms_bosco_limit_start "$$")
    read -r pid && start=$(gwms_bosco_limit_start "$pid")
    while read -r -t "$GWMS_BOSCO_JOB_CARE_S" word; [[ $? -gt 128 ]]; do gwms_bosco_job_care; done
    [[ $word != 'done' ]] || return
    gwms_bosco_job_end "$pid" "$start"
    until=$((SECONDS + GWMS_BOSCO_JOB_BEGIN_S))
    while [[ -z $pid && $SECONDS -le $until ]]; do
        gwms_bosco_job_leftovers "$GWMS_BOSCO_JOB_LEFT_S"
        gwms_bosco_limit_pause 0.2
    done
    gwms_bosco_job_leftovers "$GWMS_BOSCO_JOB_LEFT_S"
    gwms_bosco_job_tidy
    [[ -z $job_node ]] || gwms_bosco_tunnel_stop "$job_node"
}

# By the copy: egress.conf of the bundle may be another by now, and its folder another one with other ports.
gwms_bosco_job_care() {
    [[ -n $job_node ]] && gwms_bosco_tunnel_again "$job_folder/shown/egress.conf" "$job_node" || return 0
    gwms_bosco_job_say 'the supervisor of the tunnel was killed, another begins'
}

# gwms_bosco_job_end PID START: TERM to the pilot, so that it can tell its own; then KILL to all that descend from it.
gwms_bosco_job_end() {
    local until=$((SECONDS + GWMS_BOSCO_JOB_END_S)) process family
    gwms_bosco_limit_alive "$1" "$2" || return 0
    family=$(gwms_bosco_job_family "$1")
    kill -s TERM "$1" 2>/dev/null
    while gwms_bosco_limit_alive "$1" "$2" && [[ $SECONDS -lt $until ]]; do gwms_bosco_limit_pause 0.1; done
    ! gwms_bosco_limit_alive "$1" "$2" || family=$(gwms_bosco_job_family "$1")
    for process in $family; do
        ! gwms_bosco_limit_alive "${process%:*}" "${process#*:}" || kill -s KILL "${process%:*}" 2>/dev/null
    done
}

# gwms_bosco_job_family PID: PID:START of it and of all that descend from it.
gwms_bosco_job_family() {
    local stat pid
    local -A above=()
    local -a found=("$1")
    for stat in /proc/[0-9]*/stat; do
        pid=${stat#/proc/} pid=${pid%/stat}
        { read -r stat <"$stat"; } 2>/dev/null || continue
        # The second field, the name, is in brackets and may hold anything; the parent is the fourth.
        stat=${stat##*) }
        stat=${stat#* }
        above[${stat%% *}]+="$pid "
    done
    while [[ ${#found[@]} -gt 0 ]]; do
        pid=${found[0]}
        echo "$pid:$(gwms_bosco_limit_start "$pid")"
        # shellcheck disable=SC2206 # numbers
        found=("${found[@]:1}" ${above[$pid]-})
    done
}

# gwms_bosco_job_marked: processes that have the name of this pilot's folder in their environment: what has left its family.
gwms_bosco_job_marked() {
    local file
    grep -lsF "GWMS_BOSCO_EGRESS_JOB=$job_folder" /proc/[0-9]*/environ 2>/dev/null | while IFS= read -r file; do
        file=${file#/proc/}
        file=${file%/environ}
        [[ $file == "$$" || $file == "$BASHPID" ]] || echo "$file"
    done
}

# gwms_bosco_job_leftovers SECONDS: TERM, then KILL to them. A pilot that ends in good order leaves none.
gwms_bosco_job_leftovers() {
    local until=$((SECONDS + $1)) left
    left=$(gwms_bosco_job_marked)
    [[ -n $left ]] || return 0
    # shellcheck disable=SC2086 # numbers
    kill -s TERM $left 2>/dev/null
    while left=$(gwms_bosco_job_marked) && [[ -n $left && $SECONDS -lt $until ]]; do gwms_bosco_limit_pause 0.2; done
    # shellcheck disable=SC2086 # numbers
    [[ -z $left ]] || kill -s KILL $left 2>/dev/null
}

# gwms_bosco_job_folder: make the pilot's own folder below TMPDIR, with a record of whose it is; set job_folder and
# GWMS_BOSCO_DIR. 1 and why in job_why.
gwms_bosco_job_folder() {
    job_folder=$(umask 077 && mktemp -d "${TMPDIR:-/tmp}/gwms-bosco-job-$UID.XXXXXXXX" 2>&1) ||
        { job_why="cannot make a folder: $(gwms_bosco_report_safe "$job_folder" 120)"; job_folder=''; return 1; }
    if [[ ! $job_folder =~ ^/[A-Za-z0-9_./@%+=-]+$ ]]; then
        rmdir "$job_folder"
        job_why='TMPDIR has white space or odd characters' job_folder=''
        return 1
    fi
    GWMS_BOSCO_DIR=$job_folder/gwms_bosco
    (umask 077 && mkdir "$GWMS_BOSCO_DIR") &&
        gwms_bosco_stale_record "$job_folder" owner "$$" "$GWMS_BOSCO_DIR/cvmfs" '' >/dev/null && return 0
    job_why="cannot write $job_folder"
    return 1
}

# Seconds for what killed wrappers have left.
GWMS_BOSCO_JOB_SWEEP_S=10

# gwms_bosco_job_sweep FOLDER: what killed wrappers of this user have left in it, and mounts and caches of their records.
gwms_bosco_job_sweep() {
    local folder records job_folder
    records=$(gwms_bosco_stale_folder) && gwms_bosco_stale_sweep "$records" >/dev/null
    for folder in "$1/gwms-bosco-job-$UID".*; do
        [[ -d $folder && ! -L $folder && -O $folder && -f $folder/owner ]] || continue
        gwms_bosco_stale_dead "$folder/owner" || continue
        job_folder=$folder
        gwms_bosco_job_leftovers 1
        gwms_bosco_stale_clean "$folder/gwms_bosco/cvmfs" '' "$folder/gwms_bosco/record"
        gwms_bosco_job_remove "$folder"
    done
}

# gwms_bosco_job_remove FOLDER: never through a mount that is left.
gwms_bosco_job_remove() {
    [[ $1 == */gwms-bosco-job-$UID.* ]] || return 1
    if grep -qsF " $1/" /proc/self/mountinfo; then return 1; fi
    chmod -R u+rwX "$1" 2>/dev/null
    rm -rf "$1"
}

# gwms_bosco_job_tidy: all that is this pilot's alone.
gwms_bosco_job_tidy() {
    [[ -z ${job_marker-} ]] || gwms_bosco_egress_marker "$egress_bosco_dir" "$job_marker" remove
    job_marker=''
    [[ -n ${job_folder-} && -d $job_folder ]] || return 0
    gwms_bosco_job_cvmfs_end
    gwms_bosco_job_remove "$job_folder"
}
