#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The process that holds a pilot's /cvmfs, function by function; whole holders with real mounts are in tests/pilot.

load node

setup() {
    pilot_folder
    state_folder
    load_libraries cvmfs_node cvmfs_probe cvmfs_place cvmfs_stale cvmfs_holder
    holder_place=$GWMS_BOSCO_DIR/cvmfs holder_mode=userns holder_pilot=$$ holder_cache=$holder_place/cache-folder
    holder_record=$GWMS_BOSCO_DIR/record holder_deadline=$((SECONDS + 20))
    holder_exec='' holder_view='' holder_mnt='' holder_user='' holder_inner='' holder_view_control=''
    holder_user_fd='' holder_mnt_fd='' holder_pid_fd='' holder_reason=''
    holder_pilot_start=$(gwms_bosco_limit_start $$)
    mkdir -p "$holder_place/tmp" "$holder_place/log" bin
    PATH=$PWD/bin:$PATH
    cd "$holder_place"
}

# program FILE [LINE]...: an executable.
program() {
    local file=$1
    shift
    printf '%s\n' '#!/bin/sh' "$@" >"$file"
    chmod 755 "$file"
}

@test "holder_refuses what is not a list of host-like names, by words of a command line too" {
    run gwms_bosco_holder_refuses a.b,c-d.e
    [ "$status" = 1 ]
    for bad in 'a.b -x' '$(id)' '' $'a\nb' 'a/*'; do
        run gwms_bosco_holder_refuses "$bad"
        [ "$status" = 0 ]
    done
}

@test "holder_answer waits for nobody; holder_left tells the end of its time" {
    mkfifo answer
    exec 7<>answer
    gwms_bosco_holder_answer 'failed a reason'
    read -r line <&7
    exec 7<&-
    [ "$line" = 'failed a reason' ]
    gwms_bosco_holder_left
    holder_deadline=$SECONDS
    run gwms_bosco_holder_left
    [ "$status" = 1 ]
}

@test "holder_start goes by the mode" {
    for name in image mount instance exec outer look; do
        eval "gwms_bosco_holder_$name() { called+=' $name'; }"
    done
    for holder_mode in mountrepo container userns; do
        called+=" $holder_mode:"
        gwms_bosco_holder_start a.b
    done
    [ "$called" = ' mountrepo: image mount container: image instance userns: image exec outer look' ]
}

@test "holder_mount mounts one after the other, and says which did not" {
    program mountrepo 'echo "$1" >>mounted' '[ "$1" != bad.b ] || { echo "cannot mount" >&2; exit 16; }'
    gwms_bosco_holder_mount a.b,c.d
    [ "$(paste -sd ' ' mounted)" = 'a.b c.d' ]
    run gwms_bosco_holder_mount bad.b
    [ "$status" = 1 ]
    gwms_bosco_holder_mount bad.b,e.f || [[ $holder_reason == 'cannot mount'* ]]
    ! grep -q e.f mounted || false
}

@test "holder_instance has the settings of holder_singcvmfs, and its own limit" {
    printf 'image.sif\n' >image
    printf 'name\n' >instance
    program singcvmfs 'echo "$* $SINGCVMFS_REPOSITORIES $SINGCVMFS_CACHEDIR ${APPTAINER_BINDPATH%%,*}" >>started'
    gwms_bosco_holder_instance a.b
    [ "$(cat started)" = "instance start image.sif name a.b $holder_cache ${holder_place%/gwms_bosco/cvmfs}" ]
    # As run-with-cvmfs names it.
    [ "$APPTAINER_CONFIGDIR $SINGULARITY_CONFIGDIR" = "$GWMS_BOSCO_DIR/apptainer $GWMS_BOSCO_DIR/apptainer" ]
    program singcvmfs 'exec sleep 30'
    holder_deadline=$((SECONDS + 1))
    gwms_bosco_holder_instance a.b || [ "$holder_reason" = 'singcvmfs gave no answer in time' ]
}

@test "holder_image mounts one by fuse2fs where cvmfsexec does not, and believes the mount alone" {
    gwms_bosco_holder_image
    echo /i >cache-image
    gwms_bosco_holder_image
    [ ! -e cache ]
    holder_mode=fusermount
    program ../../bin/fuse2fs 'echo "too old" >&2'
    run gwms_bosco_holder_image
    [ "$status" = 1 ]
    rmdir cache
    gwms_bosco_holder_image || [ "$holder_reason" = 'fuse2fs cannot mount the cache image: too old' ]
}

@test "holder_exec waits for the command's own marker, gives cvmfsexec a stdin and nothing of an outer one" {
    mkfifo inner.control
    program cvmfsexec 'echo "CernVM-FS: mounted"' 'echo "$1 $2 $3 [${CVMFSEXEC_CMDFD-}] $(readlink /proc/self/fd/0)" >seen' \
        'shift 3' 'exec "$@"'
    export CVMFSEXEC_CMDFD=12
    gwms_bosco_holder_exec a.b 3>&- || false
    [ "$(cat seen)" = '-N a.b -- [] /dev/null' ]
    [ "$holder_mnt" = "$(readlink /proc/self/ns/mnt)" ]
    # End of file there ends it.
    exec {holder_inner}>&-
    wait "$holder_exec" || true
    [ -z "$(gwms_bosco_limit_start "$holder_exec")" ]
}

@test "holder_exec says why there is no marker: the command's end, its time, an image that is not mounted" {
    mkfifo inner.control
    program cvmfsexec 'echo "fuse: failed to open /dev/fuse: Permission denied" >&2' 'exit 4'
    gwms_bosco_holder_exec a.b || [[ $holder_reason == 'fuse: failed to open /dev/fuse: Permission denied'* ]]
    program cvmfsexec 'shift 5' 'exec "$@"'
    echo /i >cache-image
    gwms_bosco_holder_exec a.b 3>&- || [[ $holder_reason == 'cannot mount the cache image by fuse2fs'* ]]
    rm cache-image
    program cvmfsexec 'exec sleep 30'
    holder_deadline=$SECONDS
    gwms_bosco_holder_exec a.b 3>&- || [ "$holder_reason" = 'cvmfsexec gave no answer in time' ]
    kill -9 "$holder_exec"
    [ ! -e marker ]
}

@test "holder_why prefers a complaint to a banner, and adds the client's own log" {
    : >cvmfsexec.log
    [ "$(gwms_bosco_holder_why)" = 'cvmfsexec ended without a word' ]
    printf '%s\n' 'unshare: it failed' 'CernVM-FS: loading Fuse module... ' "rm: cannot remove '/mnt'" >cvmfsexec.log
    [ "$(gwms_bosco_holder_why)" = 'unshare: it failed' ]
    echo 'whitelist verification failed (6)' >log/a.b.log
    [ "$(gwms_bosco_holder_why a.b)" = 'unshare: it failed / whitelist verification failed (6)' ]
}

@test "holder_outer, open, look and end: the way into real name spaces, and out again" {
    unshare -rm unshare -U true 2>/dev/null || skip 'no user name spaces here'
    mkfifo inner.control view.control
    program cvmfsexec 'shift 3' 'exec unshare -rm sh -c "unshare -U \"\$@\"; exit" sh "$@"'
    gwms_bosco_holder_exec a.b || false
    gwms_bosco_holder_outer || false
    [ -n "$holder_user_fd$holder_mnt_fd" ]
    gwms_bosco_holder_differs() { [[ $(readlink "/proc/$holder_view/ns/$1") != "$2" ]]; }
    gwms_bosco_holder_look || false
    [ "$(readlink "/proc/$holder_view/ns/mnt")" != "$holder_mnt" ]
    [ "$(awk '{ print $1 }' "/proc/$holder_view/uid_map")" = "$(id -u)" ]
    nsenter --preserve-credentials -U -m -t "$holder_view" true
    gwms_bosco_holder_end || false
    [ -z "$holder_user_fd" ] && [ ! -e "$holder_place" ]
    for _ in $(seq 100); do gwms_bosco_limit_start "$holder_view" >/dev/null || return 0; done
    false
}

@test "holder_until gives up when the view has ended, or its time" {
    holder_view=$$ holder_deadline=$SECONDS
    gwms_bosco_holder_until false || [ "$holder_reason" = 'the view of the mounts was not made in time' ]
    echo 'nsenter: no' >view.log
    true &
    holder_view=$!
    wait "$holder_view"
    gwms_bosco_holder_until false || [ "$holder_reason" = 'cannot enter the mounts: nsenter: no' ]
    gwms_bosco_holder_until true
}

@test "holder_differs only when the name space is known and neither the old one nor ours" {
    holder_view=$$
    run gwms_bosco_holder_differs mnt other
    [ "$status" = 1 ]
    holder_view=999999999
    run gwms_bosco_holder_differs mnt other
    [ "$status" = 1 ]
}

@test "holder_watch ends with the word, and with the pilot; without cvmfsexec it ends the view" {
    mkfifo control
    exec 7<>control
    echo stop >&7
    gwms_bosco_holder_watch || false
    sleep 50 3>&- &
    holder_view=$!
    true &
    holder_exec=$!
    wait "$holder_exec"
    mkdir "$holder_cache"
    touch -d '2 days ago' "$holder_cache/owner"
    GWMS_BOSCO_OWNER_S=0
    holder_pilot_start=x
    gwms_bosco_limit_alive() { turns=$((${turns:-0} + 1)); [ "$turns" -le 1 ]; }
    gwms_bosco_holder_watch || false
    wait "$holder_view" || [ $? = 137 ]
    [ -n "$(find "$holder_cache/owner" -mmin -5)" ]
}

@test "holder_kill takes what has the place's own TMPDIR, which stale_processes lists" {
    TMPDIR=$holder_place/tmp sleep 50 3>&- &
    own=$!
    sleep 50 3>&- &
    other=$!
    until [ "$(gwms_bosco_stale_processes "$holder_place")" = "$own" ]; do :; done
    gwms_bosco_holder_kill
    wait "$own" || [ $? = 137 ]
    kill "$other"
}

@test "holder_main answers a refusal and removes the place" {
    mkfifo answer
    exec 7<>answer
    (gwms_bosco_holder_main "$holder_place" userns $$ "$holder_pilot_start" 5 "$holder_cache" 'a b' "$holder_record") || true
    read -r line <&7
    [ "$line" = 'failed a repository name is not a host-like name' ]
    [ ! -e "$holder_place" ]
}
