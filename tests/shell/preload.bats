#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # what gwms_bosco_preload_look sets
# The look from inside, with libraries of this machine; tests/pilot/test_job_wrapper.py has the real chain.

load node
bats_require_minimum_version 1.5.0

setup() {
    pilot_folder
    load_libraries preload
    export PROXYCHAINS_CONF_FILE=$PWD/proxychains.conf
    egress_forwards='' egress_connect_ms=1000 egress_read_ms=1000
    # One that every program can load.
    library=$(ldd /bin/bash | grep -o '/[^ ]*libc\.so\.6')
}

look() {
    gwms_bosco_preload_look "$1" out "${2-}" "${@:3}"
}

@test "a library that does not fit is refused, with the loader's word" {
    echo text >text.so
    run ! look "$PWD/text.so"
    look "$PWD/text.so" || :
    [[ $preload_why == *ld.so*text.so* ]]
    look /no/such.so || :
    [ "$preload_why" = 'is not there' ]
}

@test "a library is loaded where programs run, and their exit code counts" {
    look "$library"
    [ "$preload_why" = ok ]
    run ! look "$library" '' false
}

@test "what does not answer in time is said" {
    GWMS_BOSCO_PRELOAD_START_S=-1
    run ! look "$library" '' sh -c 'sleep 60'
    look "$library" '' sh -c 'sleep 60' || :
    [[ $preload_why == 'no answer in 1 s'* ]]
}

@test "forwards are named with the reason; one that answers is enough, unless the pool is another" {
    egress_forwards=web=127.0.0.1:1,name=no.such.name.invalid:80
    look "$library"
    [[ $preload_shut == *'web (127.0.0.1:1): connection refused'* ]]
    [[ $preload_shut == *'name (no.such.name.invalid:80): its name is not known here'* ]]
    run ! gwms_bosco_preload_enough
    preload_open=' web '
    gwms_bosco_preload_enough
    preload_pools=yes
    run ! gwms_bosco_preload_enough
    preload_pool=yes
    gwms_bosco_preload_enough
}

@test "programs that the library does not reach are named" {
    cp /bin/bash shell
    look "$library" "$PWD/shell"
    [ -z "$preload_unchained" ]
    chmod u+s shell
    look "$library" "$PWD/shell"
    [[ $preload_unchained == *'shell (set-user-id)'* ]]
}
