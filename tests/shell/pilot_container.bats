#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The batch job's wrapper that runs a whole pilot in an image: what it passes on, and what comes back.

# shellcheck disable=SC2016,SC2034,SC2154,SC2317 # what bats sets; functions that the wrapper calls
load node
bats_require_minimum_version 1.5.0

setup() {
    pilot_folder
    state_folder
    # Its functions, without the call and without a container.
    { cat "$LIB/limit.sh"; sed '$d' "$LIB/../pilot_container"; } >functions
    printf '%s\n' '#!/bin/sh' 'exec "$@"' >"$GWMS_BOSCO_DIR/container-exec"
    chmod 755 "$GWMS_BOSCO_DIR/container-exec"
    mkfifo ready
}

# pilot SCRIPT: start it in a process group of its own, as `pilot`; returns when it has said that it is ready.
pilot() {
    local word
    # shellcheck disable=SC2016 # the wrapper's shell's
    env --default-signal setsid bash -c '. ./functions; GWMS_BOSCO_DIR=$1; shift; gwms_bosco_pilot_run "$@"' wrapper \
        "$PWD/copy" sh -c "$1" sh "$PWD/ready" 2>/dev/null 3>&- &
    pilot=$!
    read -r word <ready
}

@test "a pilot's own exit code comes back after TERM, to the wrapper alone or to the group" {
    for group in '' -; do
        for _ in $(seq 25); do
            cp -r "$GWMS_BOSCO_DIR" copy
            pilot 'trap "exit 42" TERM; echo ready >"$1"; while :; do sleep 0.01; done'
            kill -s TERM -- "$group$pilot"
            ended "$pilot" 42
            [ ! -e copy ]
        done
    done
}

@test "each signal that batch systems send reaches the pilot" {
    for signal in HUP INT QUIT TERM USR1 USR2 XCPU ALRM CONT; do
        cp -r "$GWMS_BOSCO_DIR" copy
        pilot "trap 'exit 42' $signal; echo ready >\"\$1\"; while :; do sleep 0.01; done"
        kill -s "$signal" "$pilot"
        ended "$pilot" 42
    done
}

@test "a pilot has stdin, its own signals and no descriptor of the wrapper" {
    cp -r "$GWMS_BOSCO_DIR" copy
    # shellcheck disable=SC2016 # the wrapper's shell's
    run env --default-signal "GWMS_BOSCO_DIR=$PWD/copy" bash -c '. ./functions; gwms_bosco_pilot_run sh -c "$1"' wrapper \
        'cat; grep SigIgn /proc/self/status; ls /proc/self/fd; exit 7' <<<in
    [ "$status" = 7 ]
    [ "$output" = "in
$(env --default-signal sh -c 'grep SigIgn /proc/self/status; ls /proc/self/fd')" ]
}

# at_trap WORD SIGNAL: whoever is told `trap WORD` behind the wrapper has that signal come at once.
at_trap() {
    printf '%s\n' 'trap() {' '    builtin trap "$@"' \
        "    [[ \$1 != '$1' || \$BASHPID == \$\$ ]] || { builtin trap - $2; kill -s $2 \$BASHPID; }" '}' >>functions
}

@test "a signal before the pilot's number is told ends the wrapper" {
    for word in '' -; do
        cp -r "$GWMS_BOSCO_DIR" copy
        cp functions functions.whole
        at_trap "$word" TERM
        run -143 env --default-signal "GWMS_BOSCO_DIR=$PWD/copy" timeout -s KILL 5 bash -c '. ./functions; gwms_bosco_pilot_run "$@"' \
            wrapper touch began
        [ ! -e began ]
        [ ! -e copy ]
        mv functions.whole functions
    done
}

@test "a pilot that nobody waits for any more is ended before its folder goes" {
    for end in 'exit 0' ':'; do
        cp -r "$GWMS_BOSCO_DIR" copy
        echo GWMS_BOSCO_PILOT_END_S=1 >>functions
        rm -f told
        pilot "trap '[ ! -e copy ] || touch told; $end' TERM; echo \$\$ >number; echo \$PPID >between; echo ready >\"\$1\"
            while :; do sleep 0.01; done"
        start=$(gwms_bosco_limit_start "$(cat number)")
        kill -s KILL "$(cat between)"
        ended "$pilot" 137
        [ -e told ]
        [ ! -e copy ]
        # KILL has been sent; it is dead in a moment.
        for _ in $(seq 100); do gwms_bosco_limit_alive "$(cat number)" "$start" || break; done
        ! gwms_bosco_limit_alive "$(cat number)" "$start"
    done
}

@test "a pilot has the variables of the batch job, whatever their names" {
    names='signals early signal news between pid rc image sha256 tool how why word start until LC_ALL'
    for name in $names; do export "$name=C"; done
    export LC_ALL=C.UTF-8
    for inside in false true; do
        cp -rT "$GWMS_BOSCO_DIR" copy
        # shellcheck disable=SC2016 # the wrapper's shell's
        run -0 bash -c '. ./functions
            gwms_bosco_container_inside() { "$0"; }
            gwms_bosco_pilot_prepare() { GWMS_BOSCO_DIR=$PWD/copy; }
            gwms_bosco_pilot_main /image.sif - printenv $1' "$inside" "$names"
        # shellcheck disable=SC2086 # words
        [ "$output" = "$(printenv $names)" ]
    done
}
