# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The holder: one process per pilot, in a session of its own, that starts cvmfsexec, keeps a view of its mounts which
# payloads can enter, and takes everything down when the pilot is gone, however it ended.
#
#   cvmfsexec -- inner      user name space 1 owns the mounts, 2 is inside it, often with a PID name space
#   view                    a copy of those mounts in one user name space with the pilot's user id and the node's own
#                           /proc and process numbers: what payloads enter by one nsenter
#
# Payloads are never children of cvmfsexec. So its ignored signals, its banner, its descriptors, its variables and its
# exit code cannot touch them. And a batch system that sends TERM to every process of the job takes /cvmfs from no payload
# that still cleans up: the holder and all it starts ignore TERM.

# Seconds after which something that was asked to end is killed.
GWMS_BOSCO_HOLDER_END_S=3

# gwms_bosco_holder_main PLACE MODE PILOT PILOT_START SECONDS CACHE REPOSITORIES RECORD: answer `ready PID START` or
# `failed REASON` once, on the fifo PLACE/answer; then stay until the pilot is gone or `stop` comes on PLACE/control.
gwms_bosco_holder_main() {
    holder_place=$1 holder_mode=$2 holder_pilot=$3 holder_pilot_start=$4 holder_cache=$6 holder_record=$8
    holder_deadline=$((SECONDS + $5)) holder_exec='' holder_view='' holder_mnt='' holder_user='' holder_inner=''
    holder_user_fd='' holder_mnt_fd='' holder_pid_fd=''
    local reason
    cd "$holder_place" || exit 1
    # Inherited from cvmfs_setup, and by all that starts here: signals are ignored. libfuse leaves them so.
    if reason=$(gwms_bosco_holder_refuses "$7"); then
        gwms_bosco_holder_answer "failed $reason"
        gwms_bosco_holder_end
        return 1
    fi
    # Not in a subshell: descriptors and children must be the holder's own.
    if gwms_bosco_holder_start "$7"; then
        gwms_bosco_holder_answer "ready $holder_view $(gwms_bosco_limit_start "$holder_view")"
        gwms_bosco_holder_watch
    else
        gwms_bosco_holder_answer "failed $holder_reason"
    fi
    gwms_bosco_holder_end
}

# Repositories are words of cvmfsexec's command line; nothing else may be.
gwms_bosco_holder_refuses() {
    local LC_ALL=C
    [[ $1 =~ ^[a-z0-9.,_-]+$ ]] && return 1
    echo 'a repository name is not a host-like name'
}

gwms_bosco_holder_answer() {
    local answer
    # Open both ways: the asker may have given up, and then nobody reads. (`1<>` would not survive `declare -f`.)
    exec {answer}<>answer
    # Unquoted: `declare -f` of bash 5.1 (EL9) writes >&"$answer" as &>, a file of that name.
    printf '%s\n' "$1" >&$answer
}

gwms_bosco_holder_left() {
    [[ $SECONDS -lt $holder_deadline ]]
}

gwms_bosco_holder_start() {
    gwms_bosco_holder_image || return 1
    case $holder_mode in
        mountrepo) gwms_bosco_holder_mount "$1"; return ;;
        container) gwms_bosco_holder_instance "$1"; return ;;
    esac
    mkfifo -m 600 inner.control view.control || { holder_reason='cannot make a fifo'; return 1; }
    gwms_bosco_holder_exec "$1" || return 1
    gwms_bosco_holder_outer || return 1
    gwms_bosco_holder_look || return 1
}

# A cache image, where cvmfsexec itself mounts none (it does in mode 3 only): by fusermount, below the place.
gwms_bosco_holder_image() {
    local left=$((holder_deadline - SECONDS)) libraries=''
    [[ -s cache-image && $holder_mode != userns ]] || return 0
    if ! command -v fuse2fs >/dev/null 2>&1; then
        PATH=$PATH:$holder_place/dist/usr/sbin
        libraries=$holder_place/dist/usr/lib64:$holder_place/dist/usr/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    fi
    mkdir cache
    TMPDIR=$holder_place/tmp LD_LIBRARY_PATH=${libraries:-${LD_LIBRARY_PATH-}} \
        gwms_bosco_limit_run "$((left > 0 ? left : 1))" image.log fuse2fs "$(cat cache-image)" "$holder_place/cache"
    # Its exit code says less than the mount.
    grep -qsF " $holder_place/cache " /proc/self/mountinfo && return 0
    holder_reason="fuse2fs cannot mount the cache image: $(tail -n 1 image.log)"
    return 1
}

# cvmfsexec mode 1: mounts by fusermount in the node's own name space, below the place.
gwms_bosco_holder_mount() {
    local repository left
    holder_view=$$
    for repository in $(gwms_bosco_place_config_repository "$holder_place") ${1//,/ }; do
        left=$((holder_deadline - SECONDS))
        TMPDIR=$holder_place/tmp gwms_bosco_limit_run "$((left > 0 ? left : 1))" cvmfsexec.log ./mountrepo "$repository" && continue
        [[ $? != 124 ]] || { holder_reason="mountrepo $repository gave no answer in time"; return 1; }
        holder_reason=$(gwms_bosco_holder_why "$repository")
        return 1
    done
}

# cvmfsexec mode 4: one container instance for all payloads, since a cache shared by several containers dies with the one
# that started its manager. Its PID name space keeps it from being entered as the view is.
gwms_bosco_holder_instance() {
    local left=$((holder_deadline - SECONDS))
    holder_view=$$
    gwms_bosco_holder_singcvmfs "$1"
    TMPDIR=$holder_place/tmp gwms_bosco_limit_run "$left" cvmfsexec.log \
        ./singcvmfs instance start "$(cat image)" "$(cat instance)" && return 0
    [[ $? != 124 ]] || { holder_reason='singcvmfs gave no answer in time'; return 1; }
    holder_reason=$(gwms_bosco_holder_why)
    return 1
}

# gwms_bosco_holder_singcvmfs REPOSITORIES: its settings. The pilot's folder must be there for payloads; /tmp and HOME the
# tool shows anyway. Instances are known below HOME, which may be closed, and where payloads have another one; so they get
# a folder here, which run-with-cvmfs names too.
gwms_bosco_holder_singcvmfs() {
    PATH=$holder_place/shim:$PATH
    export APPTAINER_CONFIGDIR=${holder_place%/cvmfs}/apptainer SINGULARITY_CONFIGDIR=${holder_place%/cvmfs}/apptainer
    export SINGCVMFS_REPOSITORIES=$1 SINGCVMFS_CACHEDIR=$holder_cache SINGCVMFS_LOGDIR=$holder_place/log
    local siteconf=${holder_place%/cvmfs}/siteconf/SITECONF
    export APPTAINER_BINDPATH=${holder_place%/gwms_bosco/cvmfs}${APPTAINER_BINDPATH:+,$APPTAINER_BINDPATH}
    # Still empty; what comes into it shows there too.
    [[ ! -d $siteconf ]] || APPTAINER_BINDPATH+=,$siteconf:/etc/cvmfs/SITECONF:ro
    export SINGULARITY_BINDPATH=$APPTAINER_BINDPATH
}

# Start cvmfsexec and wait for the marker that only a command inside its mounts can write: its exit code is that of the
# client and so collides with any payload's.
gwms_bosco_holder_exec() {
    local -a repositories options
    local path=$PATH inner
    # Refused before if there is anything in them that a shell expands.
    # shellcheck disable=SC2206
    repositories=(${1//,/ })
    # -N first: after -m it would be taken for a repository.
    options=(-N)
    [[ $holder_mode != fusermount ]] || path=$holder_place/shim:$PATH
    # shellcheck disable=SC2016 # the inner shell's
    inner='readlink /proc/self/ns/mnt >marker.new && readlink /proc/self/ns/user >>marker.new && mv marker.new marker
        while read -r line; do :; done'
    if [[ -s cache-image && $holder_mode == userns ]]; then
        options+=(-m "$(cat cache-image)")
        # cvmfsexec goes on when fuse2fs has failed, and the cache would lie in its own folder, without a limit.
        inner='if ! grep -q " /e2fs " /proc/self/mountinfo; then echo "cannot mount the cache image by fuse2fs"; exit 1; fi
            '$inner
    fi
    # Both ends open here, the command's end read only: end of file there means that the holder is gone.
    exec {holder_inner}<>inner.control
    (
        exec {holder_inner}>&-
        # A variable of an outer cvmfsexec makes an inner one wait for ever.
        unset CVMFSEXEC_CMDFD CVMFSEXEC_WAITFIFO CVMFSMOUNT CVMFSUMOUNT
        PATH=$path TMPDIR=$holder_place/tmp exec ./cvmfsexec "${options[@]}" "${repositories[@]}" -- \
            /bin/sh -c "cd '$holder_place' && exec <inner.control && $inner" </dev/null >cvmfsexec.log 2>&1
    ) &
    holder_exec=$!
    while [[ ! -s marker ]]; do
        if ! kill -0 "$holder_exec" 2>/dev/null; then
            holder_reason=$(gwms_bosco_holder_why "${repositories[@]}")
            return 1
        fi
        gwms_bosco_holder_left || { holder_reason='cvmfsexec gave no answer in time'; return 1; }
        gwms_bosco_limit_pause 0.02
    done
    { read -r holder_mnt && read -r holder_user; } <marker
}

# The line that tells most: the client's own log, then cvmfsexec's last complaint.
gwms_bosco_holder_why() {
    local text repository pattern='could not|fail|denied|not permitted|cannot|error|no such|not found|no space|should be'
    text=$(grep -Ei "$pattern" cvmfsexec.log | grep -Ev 'rm: cannot remove|^mountrepo .* failed$|line [0-9]+: cd:' | tail -n 1)
    for repository; do
        [[ -s log/$repository.log ]] && text+=" / $(grep -Ei "$pattern" "log/$repository.log" | tail -n 1)"
    done
    [[ -n $text ]] || text=$(grep -v '^CernVM-FS: ' cvmfsexec.log | tail -n 1)
    printf '%s' "${text:-cvmfsexec ended without a word}"
}

# Find a process of ours that is in the mounts' own user name space, the outer one, and open its name spaces: whoever is
# found may be a helper that ends in the next instant. One program looks at all, as a big node has thousands.
gwms_bosco_holder_outer() {
    local inode process
    while read -r inode process; do
        [[ "mnt:[$inode]" == "$holder_mnt" && -O ${process%/ns/mnt} ]] || continue
        [[ $(readlink "${process%mnt}user" 2>/dev/null) != "$holder_user" ]] || continue
        gwms_bosco_holder_open "${process%/ns/mnt}" && return 0
    done < <(stat -L -c '%i %n' /proc/[0-9]*/ns/mnt 2>/dev/null)
    holder_reason="no process found that owns the mounts"
    return 1
}

# gwms_bosco_holder_open PROCESS: set holder_outer to the options by which nsenter(1) enters its name spaces.
gwms_bosco_holder_open() {
    gwms_bosco_holder_close
    {
        # Of its children: it may be unshare(1) itself, which stays in the PID name space it was started in.
        exec {holder_user_fd}<"$1/ns/user" && exec {holder_mnt_fd}<"$1/ns/mnt" && exec {holder_pid_fd}<"$1/ns/pid_for_children"
    } 2>/dev/null || return 1
    holder_outer=/proc/$$/fd/$holder_user_fd
    [[ $(readlink "/proc/$$/fd/$holder_mnt_fd") == "$holder_mnt" && $(readlink "$holder_outer") != "$holder_user" ]]
}

# An open name space lives on, with its mounts.
gwms_bosco_holder_close() {
    [[ -z $holder_user_fd ]] || exec {holder_user_fd}<&-
    [[ -z $holder_mnt_fd ]] || exec {holder_mnt_fd}<&-
    [[ -z $holder_pid_fd ]] || exec {holder_pid_fd}<&-
    holder_user_fd='' holder_mnt_fd='' holder_pid_fd=''
}

# Make the view: a copy of the mounts, the node's /proc back on top, then a user name space below with the pilot's ids.
gwms_bosco_holder_look() {
    local before look
    exec {holder_view_control}<>view.control
    # shellcheck disable=SC2016 # the inner shell's
    look='read -r go && exec unshare -U -m /bin/sh -c "while read -r line; do :; done"'
    # Not by a function: $! must be this process itself.
    nsenter --preserve-credentials "--user=$holder_outer" "--mount=/proc/$$/fd/$holder_mnt_fd" unshare -m /bin/sh -c "$look" \
        <view.control >>view.log 2>&1 {holder_inner}>&- {holder_view_control}>&- {holder_user_fd}<&- {holder_mnt_fd}<&- \
        {holder_pid_fd}<&- &
    holder_view=$!
    gwms_bosco_holder_until gwms_bosco_holder_differs mnt "$holder_mnt" || return 1
    if [[ $(readlink "/proc/$$/fd/$holder_pid_fd") != "$(readlink /proc/self/ns/pid)" ]]; then
        # umount(8) reads /proc, which shows this process only from within its PID name space.
        nsenter --preserve-credentials "--user=$holder_outer" "--mount=/proc/$holder_view/ns/mnt" \
            "--pid=/proc/$$/fd/$holder_pid_fd" umount -l /proc >>view.log 2>&1 || {
            holder_reason="cannot show the node's /proc: $(tail -n 1 view.log)"
            return 1
        }
    fi
    before=$(readlink "/proc/$holder_view/ns/user")
    echo go >&$holder_view_control
    gwms_bosco_holder_until gwms_bosco_holder_differs user "$before" || return 1
    # From the outer name space, which has the right; ids there are 0.
    # shellcheck disable=SC2016 # the inner shell's
    nsenter --preserve-credentials "--user=$holder_outer" /bin/sh -c \
        'echo "$2 0 1" >"/proc/$1/gid_map" && echo "$3 0 1" >"/proc/$1/uid_map"' sh "$holder_view" "$(id -g)" "$(id -u)" \
        >>view.log 2>&1 || { holder_reason="cannot map the user into the view: $(tail -n 1 view.log)"; return 1; }
}

gwms_bosco_holder_differs() {
    local now
    now=$(readlink "/proc/$holder_view/ns/$1" 2>/dev/null)
    [[ -n $now && $now != "$2" && $now != "$(readlink "/proc/self/ns/$1")" ]]
}

gwms_bosco_holder_until() {
    until "$@"; do
        if ! kill -0 "$holder_view" 2>/dev/null; then
            holder_reason="cannot enter the mounts: $(tail -n 1 view.log)"
            return 1
        fi
        gwms_bosco_holder_left || { holder_reason='the view of the mounts was not made in time'; return 1; }
        gwms_bosco_limit_pause 0.01
    done
}

# Until the pilot is gone, or told to stop. The pilot is named by number and start time. When cvmfsexec has gone the mounts
# are as good as dead: without the view no further payload starts among them.
gwms_bosco_holder_watch() {
    local line control touched=$SECONDS
    exec {control}<>control
    while gwms_bosco_limit_alive "$holder_pilot" "$holder_pilot_start"; do
        if read -r -t 1 -u "$control" line && [[ $line == stop ]]; then break; fi
        if [[ -n $holder_exec ]] && ! kill -0 "$holder_exec" 2>/dev/null; then kill -9 "$holder_view" 2>/dev/null; fi
        if [[ $((SECONDS - touched)) -ge $GWMS_BOSCO_OWNER_S ]]; then
            touched=$SECONDS
            touch -c "$holder_cache/owner" 2>/dev/null
        fi
    done
}

# Take down: end of file ends both commands, and with them their name spaces. What does not go is killed: everything of
# ours in the mounts' name space, which is cvmfsexec's and the client's processes and never a payload.
gwms_bosco_holder_end() {
    local until=$((SECONDS + GWMS_BOSCO_HOLDER_END_S))
    [[ -z $holder_inner ]] || exec {holder_inner}>&-
    [[ -z ${holder_view_control-} ]] || exec {holder_view_control}>&-
    while [[ -n $holder_exec ]] && kill -0 "$holder_exec" 2>/dev/null && [[ $SECONDS -lt $until && -s marker ]]; do
        gwms_bosco_limit_pause 0.05
    done
    if [[ $holder_mode == container ]]; then
        gwms_bosco_limit_run "$GWMS_BOSCO_HOLDER_END_S" /dev/null singularity instance stop "$(cat instance)"
    fi
    gwms_bosco_holder_kill
    gwms_bosco_holder_close
    gwms_bosco_place_unmount "$holder_place"
    gwms_bosco_place_remove "$holder_place" "$holder_cache"
    rm -f "$holder_record"
}

# A name space is named by a number which the next one gets as soon as it is gone, perhaps that of another pilot. So it
# counts only while it is open here.
gwms_bosco_holder_kill() {
    local process
    if [[ -n $holder_mnt_fd ]]; then
        for process in /proc/[0-9]*; do
            [[ $process/ns/mnt -ef /proc/$$/fd/$holder_mnt_fd && ${process#/proc/} != "$$" ]] || continue
            kill -9 "${process#/proc/}" 2>/dev/null
        done
    fi
    # Started by cvmfsexec here and not yet, or no longer, in its name space.
    gwms_bosco_stale_kill "$holder_place"
}
