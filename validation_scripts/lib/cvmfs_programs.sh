# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The two programs that stay with a pilot for its /cvmfs, written out of the functions of these libraries.

# gwms_bosco_cvmfs_programs: write both into the state folder.
# shellcheck disable=SC2016 # the programs' own $@
gwms_bosco_cvmfs_programs() {
    # By bash, which hands on what dash drops: exported functions, and variables whose names no shell takes. -p: it takes
    # none of them for itself.
    gwms_bosco_cvmfs_program run-with-cvmfs "$BASH -p" gwms_bosco_run_ 'gwms_bosco_run_main "${0%/*}" "$@"' &&
        gwms_bosco_cvmfs_program cvmfs-holder "$BASH -p" gwms_bosco_ 'gwms_bosco_holder_main "$@"'
}

# gwms_bosco_cvmfs_program NAME SHELL PREFIX CALL: write our functions of that prefix, the constants in them and a call, as
# a program. In one piece: on a full disk it is all there or not at all.
gwms_bosco_cvmfs_program() {
    local name functions='' constants=''
    for name in $(compgen -A function "$3"); do
        # Of a closed site's job wrapper, which has all these libraries in one file.
        [[ ! $name =~ ^gwms_bosco_(job|egress|tunnel|preload|container)_ ]] || continue
        functions+=$(declare -f "$name")$'\n'
    done
    # Any other would change a payload's environment where it came with it.
    for name in $(compgen -A variable GWMS_BOSCO_); do
        [[ ! ${!name} =~ ^[0-9]+$ || $functions != *"$name"* ]] || constants+="$name=${!name}"$'\n'
    done
    printf '%s\n' "#!$2" "$constants$functions$4" | gwms_bosco_state_program "$1"
}
