#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a node allows, each way to /cvmfs by itself, and what is left of pilots, with the programs they start replaced.

# shellcheck disable=SC2154,SC2317 # what the libraries set, and call

load node

setup() {
    pilot_folder
    state_folder
    load_libraries cvmfs_node cvmfs_probe cvmfs_place cvmfs_stale cvmfs_holder container cvmfs_rungs
    mkdir bin
    export PATH=$PWD/bin:$PATH
    rung_reason='' rung_cache='' rung_mount=''
    cvmfs_repositories=r.cern.ch cvmfs_distribution=$PWD/distribution cvmfs_parrot='' cvmfs_proxy='' cvmfs_image=''
    cvmfs_container=never cvmfs_cache='' cvmfs_quota_mb=1000 cvmfs_name=node-1 cvmfs_pilot=$$
    cvmfs_records=$PWD/records cvmfs_place=$GWMS_BOSCO_DIR/cvmfs
    mkdir "$cvmfs_records"
}

# program NAME [LINE]...: an executable of that name, first in PATH.
program() {
    local name=$1
    shift
    printf '%s\n' '#!/bin/sh' "$@" >"bin/$name"
    chmod 755 "bin/$name"
}

distribution() {
    mkdir -p distribution/dist/usr/sbin distribution/dist/etc/cvmfs/{default.d,domain.d,keys/cern.ch}
    printf '#!/bin/sh\n' | tee distribution/cvmfsexec >distribution/mountrepo
    chmod 755 distribution/cvmfsexec distribution/mountrepo
}

@test "node_trial: 0, or the last line and the code, or that there was no answer; nothing stays" {
    program good 'exit 0'
    program bad 'echo first >&2' 'echo "the reason" >&2' 'exit 3'
    gwms_bosco_node_trial good
    run gwms_bosco_node_trial bad
    [ "$status" = 3 ]
    [ "$output" = 'the reason (bad: 3)' ]
    rung_trial_s=1
    run gwms_bosco_node_trial sleep 30
    [ "$output" = 'sleep: no answer in 1 s' ]
    [ -z "$(ls "$GWMS_BOSCO_DIR")" ]
}

@test "node_has: a file that nobody may execute is none" {
    program tool
    gwms_bosco_node_has tool
    chmod 644 bin/tool
    run gwms_bosco_node_has tool
    [ "$status" = 1 ]
}

@test "node_userns asks for two levels, and says what unshare said" {
    program unshare 'echo "unshare: $*: No space left" >&2' 'exit 1'
    run gwms_bosco_node_userns
    [ "$status" = 1 ]
    [ "$output" = 'unshare: -rm unshare -U true: No space left (unshare: 1)' ]
    program unshare 'exit 0'
    gwms_bosco_node_userns
}

@test "node_fusermount wants set-user-id, or root, and node_enter both programs" {
    gwms_bosco_node_has() { [[ $1 != setsid ]]; }
    run gwms_bosco_node_enter
    [ "$output" = 'no setsid program' ]
    program fusermount3
    program fusermount
    program id 'echo 1000'
    ! grep -q '^NoNewPrivs:[[:space:]]*1' /proc/self/status || skip 'no new privileges here'
    run gwms_bosco_node_fusermount
    [ "$output" = 'no set-user-id fusermount' ]
    chmod u+s bin/fusermount
    gwms_bosco_node_fusermount
}

@test "node_fuse and node_mtab say which file is missing" {
    run gwms_bosco_node_fuse
    if [ "$status" != 0 ]; then [[ $output == *'/dev/fuse'* ]]; fi
    run gwms_bosco_node_mtab
    if [ "$status" != 0 ]; then [ ! -r /etc/mtab ]; else [ -r /etc/mtab ]; fi
}

@test "rung_seconds is the least of what is asked and what is left" {
    unset SECONDS
    SECONDS=10 rung_end=13
    [ "$(gwms_bosco_rung_seconds 9)" = 3 ]
    [ "$(gwms_bosco_rung_seconds 2)" = 2 ]
}

@test "rung_native writes how, or says that it cannot" {
    gwms_bosco_cvmfs_probe() { [[ $2 == /cvmfs ]]; }
    gwms_bosco_rung_native
    [ "$rung_cache $(gwms_bosco_state_read cvmfs.conf MODE)" = 'node native' ]
    gwms_bosco_conf_write() { return 1; }
    ! gwms_bosco_rung_native || false
    [ "$rung_reason" = 'cannot write the state folder' ]
}

@test "rung_userns and rung_fusermount try what they stand on first" {
    gwms_bosco_rung_held() { held=$1; }
    for lacking in userns fuse enter; do
        held=''
        eval "gwms_bosco_node_$lacking() { echo 'no $lacking'; return 1; }"
        for other in userns fuse enter fusermount mtab; do
            [ "$other" = "$lacking" ] || eval "gwms_bosco_node_$other() { :; }"
        done
        ! gwms_bosco_rung_userns
        [ "$rung_reason$held" = "no $lacking" ]
        ! gwms_bosco_rung_fusermount
        [ "$rung_reason$held" = "no $lacking" ]
    done
    for other in userns fuse enter fusermount mtab; do eval "gwms_bosco_node_$other() { :; }"; done
    gwms_bosco_rung_userns && [ "$held" = userns ]
    gwms_bosco_rung_fusermount && [ "$held" = fusermount ]
}

@test "rung_mountrepo and rung_container need something that shows the mount, and write the words before a payload" {
    gwms_bosco_rung_held() { held=$1; }
    for other in fuse fusermount mtab; do eval "gwms_bosco_node_$other() { :; }"; done
    ! gwms_bosco_rung_mountrepo || false
    [[ $rung_reason == *'no parrot, no image'* ]]
    program parrot_run
    cvmfs_parrot=$PWD/bin/parrot_run
    gwms_bosco_rung_mountrepo
    [ "$(sed -n 3p "$GWMS_BOSCO_DIR/prefix")" = "/cvmfs=$GWMS_BOSCO_DIR/cvmfs/dist/cvmfs" ]
    ! gwms_bosco_rung_container || false
    [ "$rung_reason" = 'no image is set for this site' ]
    cvmfs_image=/nosuch.sif
    ! gwms_bosco_rung_container || false
    [ "$rung_reason" = 'no image at /nosuch.sif' ]
    cvmfs_image=$PWD/glidein_config
    program singularity
    gwms_bosco_rung_container
    [ "$(sed -n 4p "$GWMS_BOSCO_DIR/prefix")" = instance://gwms-bosco-node-1 ]
}

@test "rung_container starts no image with another digest, and reads it outside the ladder's time" {
    gwms_bosco_rung_held() { held=$1; }
    program singularity
    echo image >site.sif
    cvmfs_image=$PWD/site.sif held='' rung_end=13
    gwms_bosco_config_set GWMS_BOSCO_IMAGE_SHA256 "$(printf '0%.0s' $(seq 64))"
    ! gwms_bosco_rung_container || false
    [[ $rung_reason == *'site.sif has the sha256'* && -z $held ]]
    gwms_bosco_config_set GWMS_BOSCO_IMAGE_SHA256 "$(sha256sum site.sif | cut -c 1-64)"
    gwms_bosco_rung_container
    [ "$held" = container ]
    # A second that only the digest took.
    gwms_bosco_container_image() { sleep 1.1; }
    gwms_bosco_rung_container
    [ "$rung_end" -gt 13 ]
    rung_end=13
    gwms_bosco_container_image() { sleep 1.1; return 1; }
    ! gwms_bosco_rung_container || false
    [ "$rung_end" -gt 13 ]
    gwms_bosco_config_set GWMS_BOSCO_IMAGE_SHA256 'no digest'
    ! gwms_bosco_rung_container || false
    [[ $rung_reason == *GWMS_BOSCO_IMAGE_SHA256* ]]
}

@test "rung_parrot believes what it reads, and rung_parrot_repository has servers and keys from the distribution" {
    ! gwms_bosco_rung_parrot || false
    [ "$rung_reason" = 'no parrot_run is set for this site' ]
    distribution
    printf 'CVMFS_SERVER_URL="http://a/cvmfs/@fqrn@;http://b/@org@"\n' >distribution/dist/etc/cvmfs/domain.d/cern.ch.conf
    touch distribution/dist/etc/cvmfs/keys/cern.ch/{one,two}.pub
    keys=$cvmfs_distribution/dist/etc/cvmfs/keys/cern.ch
    [ "$(gwms_bosco_rung_parrot_repository r.cern.ch)" = \
        "r.cern.ch:url=http://a/cvmfs/r.cern.ch;http://b/r,pubkey=$keys/one.pub:$keys/two.pub" ]
    program parrot_run
    cvmfs_parrot=$PWD/bin/parrot_run
    gwms_bosco_cvmfs_probe() { return 1; }
    ! gwms_bosco_rung_parrot || false
    [ ! -e "$GWMS_BOSCO_DIR/cvmfs.conf" ]
    gwms_bosco_cvmfs_probe() { return 0; }
    gwms_bosco_rung_parrot
    [ "$(gwms_bosco_state_read cvmfs.conf MODE)" = parrot ]
}

@test "rung_place: cvmfsexec's own files, settings and record; an old kernel's name for mode 2" {
    distribution
    gwms_bosco_rung_place userns
    grep -qx 'CVMFS_REPOSITORIES=r.cern.ch' "$cvmfs_place/dist/etc/cvmfs/default.local"
    [ "$(gwms_bosco_conf_read "$cvmfs_records/node-1" CACHE)" = "$cvmfs_place/gwms-bosco-cache-node-1" ]
    [ -f "$cvmfs_place/gwms-bosco-cache-node-1/owner" ]
    [ ! -e "$cvmfs_place/shim" ]
    gwms_bosco_rung_place fusermount
    [ "$("$cvmfs_place/shim/uname" -r)" = 4.17.0 ]
    [ "$("$cvmfs_place/shim/uname" -s)" = "$(uname -s)" ]
}

@test "rung_cache: an image not for a container; a folder that hangs is given up" {
    distribution
    mkdir -p "$cvmfs_place"
    cvmfs_cache=image:$PWD/images
    ! gwms_bosco_rung_cache container || false
    [ "$rung_reason" = 'a cache image cannot be used in a container' ]
    gwms_bosco_place_cache() { sleep 30; }
    GWMS_BOSCO_RUNG_S=1
    ! gwms_bosco_rung_cache userns || false
    [ "$rung_reason" = "no cache in $PWD/images in time" ]
}

@test "rung_env is an env(1) that can change the folder, or nothing" {
    program env 'exit 1'
    [ -z "$(gwms_bosco_rung_env)" ]
    program env 'exit 0'
    [ "$(gwms_bosco_rung_env)" = "$PWD/bin/env" ]
}

@test "rung_loosen closes what is open, rung_sober leaves out what changes bash" {
    run bash -c ". '$LIB/cvmfs_rungs.sh'; exec 7</dev/null 210</dev/null; (gwms_bosco_rung_loosen; exec ls /proc/self/fd)"
    [ "$output" = $'0\n1\n2\n3' ]
    run env 'BASH_FUNC_f%%=() {  :
}' BASH_ENV=/dev/null bash -pc ". '$LIB/cvmfs_rungs.sh'; gwms_bosco_rung_sober; echo \"\${sober[*]} \$BASH_ENV\""
    # bats has exported functions too.
    [[ " $output" == *' -u BASH_FUNC_f%% '* && $output == *' ' ]]
}

@test "rung_hold gives the holder's answer, or that there was none; rung_drop ends it" {
    mkdir -p "$cvmfs_place"
    rung_record=$cvmfs_records/node-1
    program holder 'echo "ready 12 34" >"$1/answer"' 'read -r word <"$1/control"' 'echo "$word" >"$1/../said"'
    mv bin/holder "$GWMS_BOSCO_DIR/cvmfs-holder"
    gwms_bosco_rung_hold userns 5 3>&-
    [ "$answer" = 'ready 12 34' ]
    gwms_bosco_rung_drop || false
    [ "$(cat "$GWMS_BOSCO_DIR/said")" = stop ]
    [ ! -e "$cvmfs_place" ]
    mkdir -p "$cvmfs_place"
    printf '#!/bin/sh\nexec sleep 30\n' >"$GWMS_BOSCO_DIR/cvmfs-holder"
    GWMS_BOSCO_DROP_S=0
    gwms_bosco_rung_hold userns 0 3>&-
    [ "$answer" = 'failed the holder gave no answer in time' ]
    gwms_bosco_rung_drop || false
    for _ in $(seq 100); do gwms_bosco_limit_start "$rung_holder" >/dev/null || return 0; done
    false
}

@test "rung_held: ready and read is success; a refusal, a disk that is full and a dead mount are not" {
    gwms_bosco_rung_place() { mkdir -p "$cvmfs_place"; rung_cache=/c rung_record=$cvmfs_records/node-1; }
    gwms_bosco_rung_hold() { answer=$say; }
    gwms_bosco_rung_drop() { dropped=yes; }
    gwms_bosco_cvmfs_probe() { [[ $read == yes ]] || { echo dead; return 1; }; }
    say='failed no client' dropped='' read=yes
    ! gwms_bosco_rung_held userns || false
    [ "$rung_reason $dropped" = 'no client yes' ]
    say='ready 12 34' dropped='' read=no
    ! gwms_bosco_rung_held userns || false
    [ "$rung_reason $dropped" = 'dead yes' ]
    dropped='' read=yes
    gwms_bosco_rung_held mountrepo
    [ "$rung_mount$dropped" = "$cvmfs_place/dist/cvmfs" ]
    [ "$(gwms_bosco_state_read cvmfs.conf HOLDER_START)" = 34 ]
    gwms_bosco_conf_write() { return 1; }
    ! gwms_bosco_rung_held userns || false
    [ "$rung_reason $dropped" = 'cannot write the state folder yes' ]
}

@test "place_ours takes only names as ours are; place_remove removes those and no more" {
    gwms_bosco_place_ours /a/gwms_bosco/cvmfs
    for other in /a/gwms_bosco /a/gwms_bosco/cvmfs/ '/a b/gwms_bosco/cvmfs' /a/../gwms_bosco/cvmfs ''; do
        run gwms_bosco_place_ours "$other"
        [ "$status" = 1 ]
    done
    mkdir -p "$cvmfs_place" caches/{gwms-bosco-cache-1,other}
    gwms_bosco_place_remove "$cvmfs_place" "$PWD/caches/other"
    [ -d caches/other ] && [ ! -e "$cvmfs_place" ]
    mkdir -p "$cvmfs_place"
    gwms_bosco_place_remove "$cvmfs_place" "$PWD/caches/gwms-bosco-cache-1"
    [ "$(ls caches)" = other ]
}

@test "place_unmount calls fusermount for this user's mounts below the place, the deepest first" {
    program fusermount3 'exit 1'
    program fusermount "echo \"\$*\" >>$PWD/called"
    awk() { printf '%s\n' "$cvmfs_place/a" "$cvmfs_place/a/b"; }
    gwms_bosco_place_unmount "$cvmfs_place"
    [ "$(cat called)" = "-u $cvmfs_place/a/b
-u $cvmfs_place/a" ]
    run gwms_bosco_place_unmount /tmp
    [ "$status" = 1 ]
}

@test "stale_kill ends what runs out of the place, and nothing else; stale_clean removes the record last" {
    mkdir -p "$cvmfs_place"
    TMPDIR=$cvmfs_place/tmp sleep 50 3>&- &
    own=$!
    sleep 50 3>&- &
    other=$!
    touch record
    gwms_bosco_stale_clean "$cvmfs_place" '' record
    wait "$own" || [ $? = 137 ]
    kill "$other"
    [ ! -e record ] && [ ! -e "$cvmfs_place" ]
    gwms_bosco_place_remove() { return 1; }
    touch record
    ! gwms_bosco_stale_clean "$cvmfs_place" '' record || false
    [ -e record ]
}

@test "stale_world names the host, its boot and its process numbers" {
    [[ $(gwms_bosco_stale_world) == *:*:[0-9]* ]]
    [ "$(gwms_bosco_stale_world)" = "$(gwms_bosco_stale_world)" ]
}

@test "place_free_mb is a number, or nothing; place_config_repository the last one named" {
    [[ $(gwms_bosco_place_free_mb "$PWD") =~ ^[0-9]+$ ]]
    [ -z "$(gwms_bosco_place_free_mb /nosuch/folder)" ]
    mkdir -p p/dist/etc/cvmfs/default.d
    printf 'CVMFS_CONFIG_REPOSITORY="a.b"\r\n' >p/dist/etc/cvmfs/default.d/1.conf
    [ "$(gwms_bosco_place_config_repository p)" = a.b ]
}

@test "cvmfs_program has the functions of a prefix and the constants in them, and is whole or not there" {
    load_libraries cvmfs_programs run_with_cvmfs
    GWMS_BOSCO_SEEN_S=7 GWMS_BOSCO_OTHER_S=8
    gwms_bosco_try_it() { echo "$GWMS_BOSCO_SEEN_S $1"; }
    gwms_bosco_cvmfs_program tool "$BASH -p" gwms_bosco_try_ 'gwms_bosco_try_it "$@"'
    [ "$("$GWMS_BOSCO_DIR/tool" word)" = '7 word' ]
    run grep -c GWMS_BOSCO_OTHER_S "$GWMS_BOSCO_DIR/tool"
    [ "$output" = 0 ]
    without_room() { (ulimit -f 0 && trap '' XFSZ && gwms_bosco_cvmfs_program tool2 /bin/sh gwms_bosco_ :); }
    run without_room
    [ "$status" != 0 ]
    [ ! -e "$GWMS_BOSCO_DIR/tool2" ] && [ ! -e "$GWMS_BOSCO_DIR/tool2.new" ]
    gwms_bosco_cvmfs_programs
    [ "$(head -n 1 "$GWMS_BOSCO_DIR/run-with-cvmfs")" = "#!$BASH -p" ]
    [ -x "$GWMS_BOSCO_DIR/cvmfs-holder" ]
}
