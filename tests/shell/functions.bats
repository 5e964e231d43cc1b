#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Functions of other libraries are met by whole scripts too.

load node

@test "libraries for settings, CVMFS, payloads and credentials: no function without a test of its own" {
    cd "$BATS_TEST_DIRNAME"
    for library in config report limit state cvmfs_conf cvmfs_node cvmfs_place cvmfs_probe cvmfs_programs credentials payload \
        frontend container; do
        while read -r name; do
            grep -qwF "$name" ./*.bats || { echo "$name of $library.sh"; return 1; }
        done < <(sed -n 's/^\(gwms_bosco_[a-z_0-9]*\)().*/\1/p' "$LIB/$library.sh")
    done
}
