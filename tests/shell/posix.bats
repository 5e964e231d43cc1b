#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What the node's own /bin/sh runs: programs that stand as text in libraries, and the fragment of the job wrapper.

load node
bats_require_minimum_version 1.5.0

# clean NAME: the program on stdin is POSIX, and shellcheck knows nothing against it.
clean() {
    { printf '#!/bin/sh\n' && cat; } >"$1"
    # `kill -0` and `kill -9` are XSI's; every sh has them.
    run -1 grep -v -e '(kill -\[0-9\]' -e '^ *kill -[09] ' -e '^$' <<<"$(checkbashisms -p "$1" 2>&1)"
    [ -z "$output" ]
    # Words of a directory listing are split on purpose; a quoted program is for another shell.
    shellcheck --shell=sh --exclude=SC2016,SC2086,SC2015,SC2034,SC2231 "$1"
}

@test "programs that libraries hold as text are POSIX" {
    pilot_folder
    load_libraries cvmfs_probe credentials container payload frontend
    gwms_bosco_cvmfs_read_program | clean read
    gwms_bosco_credentials_ca_program | clean ca
    gwms_bosco_container_program /usr/bin/apptainer /a.sif '' 1:2:3:4 '' /cvmfs '' | clean container-exec
    gwms_bosco_payload_program userns on-request payload | clean payload-exec
    gwms_bosco_frontend_program /usr/bin/apptainer /proc/1/root/cvmfs | clean container-with-cvmfs
}

@test "run-with-cvmfs and the fragment of the job wrapper are POSIX" {
    cd "$BATS_TEST_TMPDIR"
    clean run-with-cvmfs <"$LIB/run_with_cvmfs.sh"
    clean payload_wrapper <"$LIB/../payload_wrapper.sh"
}

@test "scripts that decide how payloads are started have no here-document, which before bash 5.1 wants room in /tmp" {
    cd "$LIB/.."
    for script in cvmfs_setup cvmfs_check credentials_setup container_setup payload_setup pilot_container; do
        # shellcheck disable=SC2046 # words
        run -1 grep -nE "<<(<|-?['\"A-Za-z])" "$script" $(sed -n 's/^# gwms-bosco-include: //p' "$script")
        [ -z "$output" ]
    done
}
