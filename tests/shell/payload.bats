#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

load node
bats_require_minimum_version 1.5.0

# helper MODE POLICY CONTAINER: install payload-exec with tools that say that they were run.
helper() {
    pilot_folder
    state_folder
    load_libraries payload
    gwms_bosco_payload_program "$@" | gwms_bosco_state_program payload-exec
    for name in run-with-cvmfs container-exec; do
        printf '#!/bin/sh\necho %s\n[ "$1" != --without-cvmfs ] || { shift; echo without-cvmfs; }\nexec "$@"\n' "$name" |
            gwms_bosco_state_program "$name"
    done
}

@test "payload_adds_cvmfs: where the node has none, and policy allows it" {
    load_libraries payload
    for mode in userns fusermount mountrepo container parrot; do
        gwms_bosco_payload_adds_cvmfs "$mode" always
        gwms_bosco_payload_adds_cvmfs "$mode" on-request
        run ! gwms_bosco_payload_adds_cvmfs "$mode" never
    done
    run ! gwms_bosco_payload_adds_cvmfs native always
    run ! gwms_bosco_payload_adds_cvmfs none always
    run ! gwms_bosco_payload_adds_cvmfs 'odd thing' always
}

@test "payload_start keeps asking jobs away only where there is no /cvmfs, and adds that once" {
    load_libraries payload
    [ "$(gwms_bosco_payload_start native '(A)')" = '(A)' ]
    [ -z "$(gwms_bosco_payload_start userns '')" ]
    first=$(gwms_bosco_payload_start none '')
    [ "$first" = '(True) && (TARGET.GWMS_BOSCO_WantCVMFS =!= True) && (TARGET.RequiresCVMFS =!= True)' ]
    [ "$(gwms_bosco_payload_start none "$first")" = "$first" ]
}

@test "payload_exec follows the last line that this pilot's condor_startup.sh will write" {
    load_libraries payload
    pilot_folder "GLIDEIN_WORK_DIR $BATS_TEST_TMPDIR/glide"
    [ "$(gwms_bosco_payload_exec)" = "$GWMS_BOSCO_WRAPPER_EXEC" ]
    # shellcheck disable=SC2016
    for row in 'exec $GLIDEIN_WRAPPER_EXEC|bare' '  exec ${GLIDEIN_WRAPPER_EXEC}  |bare' 'exec "$GLIDEIN_WRAPPER_EXEC"|quoted' \
        'exec "${GLIDEIN_WRAPPER_EXEC}"|quoted'; do
        printf '# about GLIDEIN_WRAPPER_EXEC\n%s\nexec $other\n' "${row%|*}" >condor_startup.sh
        expected=$GWMS_BOSCO_WRAPPER_EXEC
        [ "${row#*|}" = bare ] || expected=$GWMS_BOSCO_WRAPPER_EXEC_QUOTED
        [ "$(gwms_bosco_payload_exec)" = "$expected" ]
    done
    # shellcheck disable=SC2016
    for line in 'exec run $GLIDEIN_WRAPPER_EXEC' "exec '\$GLIDEIN_WRAPPER_EXEC'" $'exec $GLIDEIN_WRAPPER_EXEC\nexec "$GLIDEIN_WRAPPER_EXEC"'; do
        printf '%s\n' "$line" >condor_startup.sh
        run -1 gwms_bosco_payload_exec
        [[ $output == 'exec '* ]]
    done
    # The factory may have another last script.
    echo 'DESCRIPTION_FILE description.cfg' >>glidein_config
    printf 'last_script \tother.sh\n' >description.cfg
    # shellcheck disable=SC2016
    echo 'exec "$GLIDEIN_WRAPPER_EXEC"' >other.sh
    [ "$(gwms_bosco_payload_exec)" = "$GWMS_BOSCO_WRAPPER_EXEC_QUOTED" ]
}

@test "payload_shell wants a shell that can run the beginning of the job wrapper" {
    load_libraries payload
    pilot_folder "GLIDEIN_WORK_DIR $BATS_TEST_TMPDIR/glide"
    gwms_bosco_payload_shell dash
    # shellcheck disable=SC2016
    for row in '"EOF"|$BASH_VERSION|dash|0' 'EOF|$BASH_VERSION|dash|1' 'EOF|$BASH_VERSION|bash|0' 'EOF|\$BASH_VERSION|dash|0' 'EOF|x|dash|0'; do
        IFS='|' read -r end word shell expected <<<"$row"
        printf 'cat > "$condor_job_wrapper" <<%s\n#!/bin/sh\nif [ -n "%s" ]; then\nEOF\necho "$BASH_VERSION"\n' "$end" "$word" >condor_startup.sh
        run gwms_bosco_payload_shell "$shell"
        [ "$((status > 0))" = "$expected" ]
    done
}

@test "what is put between quotes runs the helper, and env where there is none, in every shell" {
    load_libraries payload
    for shell in dash bash 'busybox sh'; do
        # shellcheck disable=SC2086
        [ "$($shell -c "gwms_bosco_run=\$1; shift; exec \"$GWMS_BOSCO_WRAPPER_EXEC_QUOTED\"" sh "$(command -v nice)" printf '<%s>' 'a  b' '')" = '<a  b><>' ]
        # shellcheck disable=SC2086
        [ "$($shell -c "gwms_bosco_run=; exec \"$GWMS_BOSCO_WRAPPER_EXEC_QUOTED\"" sh printf '<%s>' 'a  b' '')" = '<a  b><>' ]
    done
    [[ $GWMS_BOSCO_WRAPPER_EXEC_QUOTED != *"'"* ]]
}

@test "payload_program: each way runs what it needs, in order" {
    helper native always never
    [ "$(gwms_bosco/payload-exec echo x)" = x ]
    for row in 'native always payload|container-exec x' 'userns always never|run-with-cvmfs x' \
        'userns always payload|run-with-cvmfs container-exec x' 'container always payload|run-with-cvmfs x' \
        'userns never payload|container-exec x' 'mountrepo always payload|container-exec x' 'none always never|x' \
        'mountrepo never payload|container-exec without-cvmfs x' 'container never payload|container-exec x'; do
        # shellcheck disable=SC2086
        gwms_bosco_payload_program ${row%|*} | gwms_bosco_state_program payload-exec
        [ "$(gwms_bosco/payload-exec echo x | tr '\n' ' ')" = "${row#*|} " ]
    done
}

@test "payload_program: with on-request what shows /cvmfs is there for jobs that ask, and the image for all" {
    helper mountrepo on-request payload
    echo 'RequiresCVMFS = true' >ad
    for row in 'mountrepo|container-exec x|container-exec without-cvmfs x' 'container|run-with-cvmfs x|container-exec x'; do
        IFS='|' read -r mode asking other <<<"$row"
        gwms_bosco_payload_program "$mode" on-request payload | gwms_bosco_state_program payload-exec
        [ "$(_CONDOR_JOB_AD=ad gwms_bosco/payload-exec echo x | tr '\n' ' ')" = "$asking " ]
        [ "$(gwms_bosco/payload-exec echo x | tr '\n' ' ')" = "$other " ]
    done
}

@test "payload_program needs no room for its text" {
    load_libraries payload
    # As bash before 5.1 does: a here-document is a file, which a full disk does not take.
    BASH_COMPAT=50
    without_room() { (ulimit -f 0 && trap '' XFSZ && gwms_bosco_payload_program native always never); }
    [ "$(without_room)" = "$(gwms_bosco_payload_program native always never)" ]
    [[ $(without_room) == *$'\nexec "$@"' ]]
}

@test "payload_startup is the last script that the pilot's description names, else condor_startup.sh" {
    load_libraries payload
    pilot_folder "GLIDEIN_WORK_DIR /w" "DESCRIPTION_FILE d"
    [ "$(gwms_bosco_payload_startup)" = /w/condor_startup.sh ]
    gwms_bosco_config_set GLIDEIN_WORK_DIR "$PWD"
    printf 'first_script \ta.sh\nlast_script \tb c.sh\nlast_script \td.sh\n' >d
    [ "$(gwms_bosco_payload_startup)" = "$PWD/b c.sh" ]
}

@test "payload_program: the same in dash, bash and busybox sh" {
    helper userns on-request payload
    echo 'RequiresCVMFS = true' >ad
    for shell in dash bash 'busybox sh'; do
        # shellcheck disable=SC2086
        [ "$(_CONDOR_JOB_AD=ad $shell "$PWD/gwms_bosco/payload-exec" echo x | tr '\n' ' ')" = "run-with-cvmfs container-exec x " ]
        # shellcheck disable=SC2086
        [ "$($shell "$PWD/gwms_bosco/payload-exec" echo x | tr '\n' ' ')" = "container-exec x " ]
    done
}

@test "payload_program: the error file stays exactly when the payload was not reached" {
    helper userns always never
    export _CONDOR_WRAPPER_ERROR_FILE="$PWD/my failure"
    run gwms_bosco/payload-exec sh -c 'exit 42'
    [ "$status" = 42 ]
    [ ! -e "$_CONDOR_WRAPPER_ERROR_FILE" ]
    printf '#!/bin/sh\nexit 125\n' >gwms_bosco/run-with-cvmfs
    run gwms_bosco/payload-exec true
    [ "$status" = 125 ]
    grep -q BOSCO-PAYLOAD-02 "$_CONDOR_WRAPPER_ERROR_FILE"
    rm gwms_bosco/run-with-cvmfs
    run gwms_bosco/payload-exec true
    [ "$status" = 1 ]
    grep -q BOSCO-PAYLOAD-03 "$_CONDOR_WRAPPER_ERROR_FILE"
}

@test "payload_program: arguments are not read again, and nothing is exported" {
    helper userns always never
    printf '#!/bin/sh\nexec "$@"\n' >gwms_bosco/run-with-cvmfs
    export _CONDOR_WRAPPER_ERROR_FILE=$PWD/failure
    # shellcheck disable=SC2016
    run gwms_bosco/payload-exec printf '<%s>' '' 'a  b' '$(id)' "it's" '*' '\'
    # shellcheck disable=SC2016
    [ "$output" = '<><a  b><$(id)><it'"'"'s><*><\>' ]
    env -i A=1 PATH="$PATH" "$PWD/gwms_bosco/payload-exec" env | grep -vE '^(_|PWD|SHLVL|OLDPWD)=' | sort >got
    printf 'A=1\nPATH=%s\n' "$PATH" | cmp - got
}
