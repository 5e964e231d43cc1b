#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Payloads behind something that takes signals for itself: what reaches them, and what comes back.

# shellcheck disable=SC2016,SC2034,SC2154 # programs of other shells; what bats sets
load node
bats_require_minimum_version 1.5.0

setup() {
    pilot_folder
    state_folder
    load_libraries cvmfs_programs run_with_cvmfs
    gwms_bosco_cvmfs_programs
    printf 'MODE=parrot\n' >"$GWMS_BOSCO_DIR/cvmfs.conf"
    echo env >"$GWMS_BOSCO_DIR/prefix"
    mkfifo ready
}

# inside WORD...: the shell that stands behind the tool.
inside() {
    echo "$*" >"$GWMS_BOSCO_DIR/inside-shell"
}

# payload SCRIPT: start it in a process group of its own; `payload` is the process that HTCondor would know. Returns when
# the script has said so.
payload() {
    local word
    # bats itself starts it with INT ignored.
    env --default-signal setsid "$GWMS_BOSCO_DIR/run-with-cvmfs" sh -c "$1" sh "$PWD/ready" 2>/dev/null 3>&- &
    payload=$!
    read -r word <ready
}

# until_gone PID START: that very process ends.
until_gone() {
    for _ in $(seq 100); do
        gwms_bosco_limit_alive "$1" "$2" || return 0
        sleep 0.05
    done
    return 1
}

TRAPPING='trap "exit 42" TERM; echo ready >"$1"; while :; do sleep 0.01; done'
COUNTING='n=0; trap "n=\$((n + 1))" TERM; trap "exit \$n" USR1; echo ready >"$1"; while :; do sleep 0.01; done'

@test "a payload's own exit code comes back after TERM, to its starter alone or to the group, whatever the inner shell" {
    # What is lost is lost in some of them only.
    for shell in '/bin/dash -c' '/bin/bash -p -c'; do
        inside "$shell"
        for group in '' -; do
            for _ in $(seq 25); do
                payload "$TRAPPING"
                kill -s TERM -- "$group$payload"
                ended "$payload" 42
            done
        done
    done
}

@test "each signal that batch systems send reaches the payload" {
    for signal in HUP INT QUIT TERM USR1 USR2 XCPU ALRM CONT; do
        payload "trap 'exit 42' $signal; echo ready >\"\$1\"; while :; do sleep 0.01; done"
        kill -s "$signal" "$payload"
        ended "$payload" 42
    done
}

@test "a signal to the group comes once, and the next one to its starter still does" {
    for shell in '/bin/dash -c' '/bin/bash -p -c'; do
        inside "$shell"
        payload "$COUNTING"
        for target in "-$payload" "-$payload" "$payload"; do
            kill -s TERM -- "$target"
            sleep 0.2
        done
        kill -s USR1 "$payload"
        ended "$payload" 3
    done
}

@test "a payload has the signals that its starter had, and none is lost while it starts" {
    expected=$(env --default-signal grep SigIgn /proc/self/status)
    for shell in '/bin/dash -c' '/bin/bash -p -c'; do
        inside "$shell"
        [ "$(env --default-signal "$GWMS_BOSCO_DIR/run-with-cvmfs" grep SigIgn /proc/self/status)" = "$expected" ]
    done
    # It waits in the fifo for the tool to come up.
    printf '%s\n' '#!/bin/sh' 'trap "" TERM' "kill -s TERM \$PPID; sleep 0.1; exec env --default-signal=TERM \"\$@\"" >slow
    chmod 755 slow
    echo "$PWD/slow" >"$GWMS_BOSCO_DIR/prefix"
    for _ in $(seq 5); do
        run -143 "$GWMS_BOSCO_DIR/run-with-cvmfs" sleep 5
    done
}

@test "nothing is said on a payload's stderr, also when it is killed" {
    for shell in '/bin/dash -c' '/bin/bash -p -c'; do
        inside "$shell"
        for _ in $(seq 25); do
            "$GWMS_BOSCO_DIR/run-with-cvmfs" true 2>>noise
        done
        run -137 "$GWMS_BOSCO_DIR/run-with-cvmfs" sh -c 'kill -9 $$' 2>>noise
    done
    [ ! -s noise ]
}

@test "the environment, also of names that the inner shell uses, and a missing command are the payload's own" {
    # shellcheck disable=SC2030
    export s=1 go=2 held=3 pid=4 rc=5 reader=6 f=7
    for shell in '/bin/dash -c' '/bin/bash -p -c'; do
        inside "$shell"
        run -0 --separate-stderr "$GWMS_BOSCO_DIR/run-with-cvmfs" sh -c 'echo "$s$go$held$pid$rc$reader$f"'
        [ "$output" = 1234567 ]
        run -127 "$GWMS_BOSCO_DIR/run-with-cvmfs" no-such-command
        [ -n "$output" ]
    done
}

@test "a tool that fails gives its own exit code, and nothing stays in the state folder" {
    printf '%s\n' '#!/bin/sh' 'exit 33' >broken
    chmod 755 broken
    echo "$PWD/broken" >"$GWMS_BOSCO_DIR/prefix"
    run -33 "$GWMS_BOSCO_DIR/run-with-cvmfs" true
    echo env >"$GWMS_BOSCO_DIR/prefix"
    run -0 "$GWMS_BOSCO_DIR/run-with-cvmfs" true
    [ -z "$(find "$GWMS_BOSCO_DIR" -name 'signals.*')" ]
}

@test "a tool that is killed alone takes the payload with it, and its starter ends" {
    # Behind a container's client the shell goes too, by its parent-death signal.
    printf '%s\n' '#!/bin/bash' 'echo $$ >tool' '"$@" & echo $! >shell' 'wait' >tool.sh
    chmod 755 tool.sh
    echo "$PWD/tool.sh" >"$GWMS_BOSCO_DIR/prefix"
    for shell in '/bin/dash -c' '/bin/bash -p -c'; do
        inside "$shell"
        rm -f shell
        payload 'echo $$ >number; echo ready >"$1"; while :; do sleep 0.01; done'
        until [ -s shell ]; do sleep 0.01; done
        number=$(cat number)
        start=$(gwms_bosco_limit_start "$number") starter=$(gwms_bosco_limit_start "$payload")
        kill -s KILL "$(cat tool)" "$(cat shell)"
        # One that hangs is deaf to TERM.
        until_gone "$payload" "$starter" || { kill -s KILL "$payload"; false; }
        ended "$payload" 137
        until_gone "$number" "$start"
        [ -z "$(find "$GWMS_BOSCO_DIR" -name 'signals.*')" ]
    done
}

@test "a signal that the payload sends to its group does not swallow one that comes later" {
    # The starter of a container's client is in another group, and passes nothing on.
    printf 'MODE=container\n' >"$GWMS_BOSCO_DIR/cvmfs.conf"
    script='n=0; trap "n=\$((n + 1))" TERM; trap "exit \$n" USR1; kill -s TERM 0; echo ready >"$1"; while :; do sleep 0.01; done'
    for shell in '/bin/dash -c' '/bin/bash -p -c'; do
        inside "$shell"
        payload "$script"
        sleep 2.1
        kill -s TERM "$payload"
        sleep 0.2
        kill -s USR1 "$payload"
        ended "$payload" 2
    done
}
