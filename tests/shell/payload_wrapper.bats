#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The fragment as glideinWMS inlines it, in every shell that /bin/sh may be.

load node
bats_require_minimum_version 1.5.0

setup() {
    load_libraries payload
    mkdir "$BATS_TEST_TMPDIR/glide"
    cd "$BATS_TEST_TMPDIR/glide" || return 1
    compose "$GWMS_BOSCO_WRAPPER_EXEC"
}

compose() {
    { echo '#!/bin/sh'; cat "$REPOSITORY_ROOT/validation_scripts/payload_wrapper.sh"; echo "exec $1"; } >wrapper.sh
}

helper() {
    mkdir -p gwms_bosco
    printf '#!/bin/sh\necho helped\nexec "$@"\n' >gwms_bosco/payload-exec
    chmod +x gwms_bosco/payload-exec
}

@test "starts the payload by the helper beside the wrapper" {
    helper
    for shell in dash bash 'busybox sh'; do
        # shellcheck disable=SC2086
        run $shell "$PWD/wrapper.sh" printf '<%s>' 'a  b' ''
        [ "$output" = $'helped\n<a  b><>' ]
    done
}

@test "a wrapper folder with odd characters is no matter" {
    helper
    mkdir "$BATS_TEST_TMPDIR/a b\$(touch x)'\"" && cp -R . "$BATS_TEST_TMPDIR/a b\$(touch x)'\""
    cd "$BATS_TEST_TMPDIR/a b\$(touch x)'\""
    run sh "$PWD/wrapper.sh" echo x
    [ "$output" = $'helped\nx' ]
    [ ! -e x ]
}

@test "leaves arguments, folder, options, descriptors and environment alone" {
    compose '"$@"'
    for shell in dash bash 'busybox sh'; do
        # shellcheck disable=SC2086
        env -i PATH="$PATH" A=1 $shell "$PWD/wrapper.sh" env | grep -vE '^(_|PWD|SHLVL|OLDPWD)=' | sort >got
        printf 'A=1\nPATH=%s\n' "$PATH" | cmp - got
        # shellcheck disable=SC2086
        [ "$($shell "$PWD/wrapper.sh" sh -c 'pwd; cat; ls /proc/self/fd | wc -l' <<<in)" = \
            "$(sh -c 'pwd; cat; ls /proc/self/fd | wc -l' <<<in)" ]
    done
}

@test "in the payload's own container it runs the payload alone" {
    for shell in dash bash 'busybox sh'; do
        # shellcheck disable=SC2086
        GWMS_SINGULARITY_REEXEC=1 _CONDOR_WRAPPER_ERROR_FILE=$PWD/failure run $shell "$PWD/wrapper.sh" echo x
        [ "$output" = x ]
        [ ! -e failure ]
    done
}

@test "a lost helper is reported as the wrapper's failure, and only when it is needed" {
    export _CONDOR_WRAPPER_ERROR_FILE=$PWD/failure
    run -127 sh "$PWD/wrapper.sh" true
    grep -q BOSCO-PAYLOAD-01 failure
    rm failure
    compose '"$@"'
    run sh "$PWD/wrapper.sh" echo x
    [ "$status" = 0 ]
    [ "$output" = x ]
    [ ! -e failure ]
}

@test "nothing in the value of the last line breaks a single-quoted eval" {
    [[ $GWMS_BOSCO_WRAPPER_EXEC != *"'"* ]]
}

@test "checkbashisms and shellcheck are silent" {
    run checkbashisms -p -f wrapper.sh
    [ -z "$output" ]
    shellcheck -s sh "$REPOSITORY_ROOT/validation_scripts/payload_wrapper.sh"
}
