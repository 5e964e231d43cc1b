# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Loaded by the tests of pilot scripts: a pilot's folder with glidein_config and the functions glideinWMS has there.

REPOSITORY_ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
LIB=$REPOSITORY_ROOT/validation_scripts/lib
CONTRACT=$REPOSITORY_ROOT/tests/pilot/contract

# pilot_folder [LINE]...: make it, enter it, put LINEs into glidein_config, and load what most libraries need.
pilot_folder() {
    mkdir "$BATS_TEST_TMPDIR/glide"
    cd "$BATS_TEST_TMPDIR/glide" || return 1
    cp "$CONTRACT/add_config_line.source" "$CONTRACT/error_gen.sh" .
    : >condor_vars.lst
    printf '%s\n' "ADD_CONFIG_LINE_SOURCE $PWD/add_config_line.source" "ERROR_GEN_PATH $PWD/error_gen.sh" \
        "CONDOR_VARS_FILE $PWD/condor_vars.lst" "$@" >glidein_config
    load_libraries config report limit cvmfs_conf state
    gwms_bosco_config_open glidein_config
}

# load_libraries NAME...: by name, without lib/ and .sh.
load_libraries() {
    local name
    for name; do
        # shellcheck source=/dev/null
        . "$LIB/$name.sh"
    done
}

# state_folder: open the state folder of the pilot.
state_folder() {
    gwms_bosco_state_open
}

# ended PID CODE: that child of the test ends with it.
ended() {
    local rc=0
    wait "$1" || rc=$?
    [ "$rc" = "$2" ] || { echo "exit code $rc, not $2"; return 1; }
}
