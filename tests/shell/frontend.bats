#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# With stand-ins for run-with-cvmfs and the tool; tests/pilot/test_container.py has glideinWMS's own wrapper and apptainer.

load node
bats_require_minimum_version 1.5.0

setup() {
    unset GLIDEIN_SINGULARITY_BINARY_OVERRIDE
    pilot_folder
    state_folder
    load_libraries container frontend
    GWMS_BOSCO_FRONTEND_S=2
    printf '#!/bin/sh\necho inside\nexec "$@"\n' | gwms_bosco_state_program run-with-cvmfs
    printf '#!/bin/sh\nprintf "<%%s>" "$@"\nexit 7\n' >tool
    chmod +x tool
}

teardown() {
    [ -z "${holder-}" ] || kill "$holder" 2>/dev/null || :
}

@test "frontend_program runs the tool where /cvmfs is, and names it /cvmfs there" {
    gwms_bosco_frontend_program "$PWD/tool" /proc/12/root/cvmfs | gwms_bosco_state_program container-with-cvmfs
    for shell in dash bash 'busybox sh'; do
        # shellcheck disable=SC2086
        run $shell "$PWD/gwms_bosco/container-with-cvmfs" exec --bind '/proc/12/root/cvmfs:/cvmfs,/a b,/proc/12/root/cvmfs/x' \
            '' '*' "it's"
        [ "$status" = 7 ]
        [ "$output" = $'inside\n'"<exec><--bind></cvmfs:/cvmfs,/a b,/cvmfs/x><><*><it's>" ]
    done
    run checkbashisms -p gwms_bosco/container-with-cvmfs
    [ -z "$output" ]
    shellcheck gwms_bosco/container-with-cvmfs
}

@test "frontend_program needs no room for its text" {
    # As bash before 5.1 does: a here-document is a file, which a full disk does not take.
    BASH_COMPAT=50
    without_room() { (ulimit -f 0 && trap '' XFSZ && gwms_bosco_frontend_program /t /m); }
    [ "$(without_room)" = "$(gwms_bosco_frontend_program /t /m)" ]
    [[ $(without_room) == *$'\nexec '* ]]
}

@test "frontend_override is what somebody else has set" {
    [ -z "$(gwms_bosco_frontend_override)" ]
    gwms_bosco_config_set GLIDEIN_SINGULARITY_BINARY_OVERRIDE "$PWD/gwms_bosco/container-with-cvmfs"
    [ -z "$(gwms_bosco_frontend_override)" ]
    gwms_bosco_config_set GLIDEIN_SINGULARITY_BINARY_OVERRIDE '/opt/$(touch injected)'
    # shellcheck disable=SC2016
    [ "$(gwms_bosco_frontend_override)" = '/opt/$(touch injected)' ]
    run -1 gwms_bosco_frontend_setup userns "$PWD/tool"
    [ "$output" = 'GLIDEIN_SINGULARITY_BINARY_OVERRIDE is set here' ]
    [ ! -e injected ]
}

@test "frontend_setup needs nothing where the node shows /cvmfs, and is not for tracers and containers" {
    gwms_bosco_frontend_setup native ''
    gwms_bosco_frontend_setup mountrepo ''
    for row in 'parrot|no container starts under parrot' 'container|the mounts are in a container' 'none|there is no /cvmfs' 'odd|there is no /cvmfs'; do
        run -1 gwms_bosco_frontend_setup "${row%|*}" "$PWD/tool"
        [[ $output == "${row#*|}"* ]]
    done
    run ! grep -q CVMFS_MOUNT_DIR glidein_config
}

@test "frontend_setup leaves a tool that the site has set, and says so" {
    echo 'GLIDEIN_SINGULARITY_BINARY_OVERRIDE /opt/apptainer' >>glidein_config
    run -1 gwms_bosco_frontend_setup userns "$PWD/tool"
    [[ $output == 'GLIDEIN_SINGULARITY_BINARY_OVERRIDE is set here' ]]
}

@test "frontend_setup says why when there is no tool, no mount, or the tool does not start" {
    run -1 gwms_bosco_frontend_setup userns ''
    [[ $output == neither* ]]
    run -1 gwms_bosco_frontend_setup userns "$PWD/tool"
    [ "$output" = 'the mounts cannot be seen from outside' ]
}

@test "frontend_setup does not name a tool that does not start, and one that does" {
    [ "$(id -u)" = 0 ] || skip 'a root of its own needs root'
    # A process whose root has a /cvmfs.
    mkdir -p root/cvmfs/a.b root/usr
    unshare -m sh -c 'mount --bind /usr root/usr && ln -s usr/lib usr/lib64 usr/bin root && exec chroot root sleep 60' &
    holder=$!
    until [ -e "/proc/$holder/root/cvmfs/a.b" ] || ! kill -0 "$holder"; do :; done
    gwms_bosco_conf_write gwms_bosco/cvmfs.conf HOLDER "$holder"
    run -1 gwms_bosco_frontend_setup userns "$PWD/tool"
    [[ $output == *'does not start where the mounts are' ]]
    run ! grep -q GLIDEIN_SINGULARITY_BINARY_OVERRIDE glidein_config
    printf '#!/bin/sh\nexec sleep 60\n' >tool
    run -1 timeout 10 bash -c ". '$LIB/limit.sh' && $(declare -f) && GWMS_BOSCO_FRONTEND_S=1 GWMS_BOSCO_DIR='$GWMS_BOSCO_DIR' glidein_config=glidein_config && gwms_bosco_frontend_setup userns '$PWD/tool'"
    [[ $output == *'does not start where the mounts are' ]]
    printf '#!/bin/sh\nexit 0\n' >tool
    gwms_bosco_frontend_setup userns "$PWD/tool"
    # Again: what we have set ourselves is no setting of the site.
    gwms_bosco_frontend_setup userns "$PWD/tool"
    kill "$holder"
    [ "$(gwms_bosco_config_get GLIDEIN_SINGULARITY_BINARY_OVERRIDE)" = "$PWD/gwms_bosco/container-with-cvmfs" ]
    [ "$(gwms_bosco_config_get CVMFS_MOUNT_DIR)" = "/proc/$holder/root/cvmfs" ]
}
