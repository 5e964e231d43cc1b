# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# How payloads of this pilot are started: the helper payload-exec, and when the job wrapper needs it.

# What the last line of glideinWMS's job wrapper runs; gwms_bosco_run is set by payload_wrapper.sh and may be empty.
# Without single quotes, as condor_startup.sh evaluates it within such.
# shellcheck disable=SC2016,SC2034 # expanded by the job wrapper; used by payload_setup
GWMS_BOSCO_WRAPPER_EXEC='${gwms_bosco_run:+"$gwms_bosco_run"} "$@"'

# Jobs ask for /cvmfs by one of these attributes.
GWMS_BOSCO_ASKING='GWMS_BOSCO_WantCVMFS RequiresCVMFS'

# gwms_bosco_payload_adds_cvmfs MODE POLICY: 0 when payloads do not find /cvmfs on the node itself and may get it.
gwms_bosco_payload_adds_cvmfs() {
    [[ $2 != never ]] || return 1
    case $1 in
        userns | fusermount | mountrepo | container | parrot) ;;
        *) return 1 ;;
    esac
}

# gwms_bosco_payload_start MODE OLD: the start expression. Where there is no /cvmfs, jobs that ask for it stay away.
gwms_bosco_payload_start() {
    local name added=''
    if [[ $1 == none ]]; then
        for name in $GWMS_BOSCO_ASKING; do
            added+=" && (TARGET.$name =!= True)"
        done
        # A second run must not add it again.
        [[ $2 != *"$added"* ]] || added=''
    fi
    [[ -n $added ]] && printf '(%s)%s' "${2:-True}" "$added" || printf '%s' "$2"
}

# gwms_bosco_payload_program MODE POLICY CONTAINER: the text of payload-exec. CONTAINER: payload when one is to be used.
gwms_bosco_payload_program() {
    local cvmfs=no container=no
    gwms_bosco_payload_adds_cvmfs "$1" "$2" && cvmfs=$2
    # In mode 4 the rung is itself a container with the same image.
    [[ $3 == payload && $1 != container ]] && container=yes
    # There container-exec itself binds what is mounted to /cvmfs.
    [[ $1 == mountrepo && $container == yes ]] && cvmfs=no
    printf '#!/bin/sh\ncvmfs=%s container=%s asking=%s\n' "$cvmfs" "$container" "'${GWMS_BOSCO_ASKING// /|}'"
    cat <<'PROGRAM'
# Written by payload_setup. Starts a payload ($@) with what this pilot has found or made, and is replaced by it: signals,
# streams and exit code stay the payload's own. Nothing is exported.
here=${0%/*}
error_file=${_CONDOR_WRAPPER_ERROR_FILE:-}
fail() {
    printf '%s\n' "$1" >&2
    [ -z "$error_file" ] || printf '%s\n' "$1" >"$error_file"
    exit 1
}
if [ "$cvmfs" = on-request ] &&
    ! grep -Eiqs "^($asking)[[:blank:]]*=[[:blank:]]*true[[:blank:]]*\$" "${_CONDOR_JOB_AD:-/dev/null}"; then
    cvmfs=no
fi
[ "$cvmfs$container" != nono ] || exec "$@"
# An exit code does not tell whether a tool or the payload has ended with it. So HTCondor is told beforehand that the
# wrapper has failed, and the first thing that runs in the payload's place takes that back.
if [ -n "$error_file" ] && printf '%s\n' 'BOSCO-PAYLOAD-02 the payload was not reached; the lines above say why' \
    2>/dev/null >"$error_file"; then
    set -- /bin/sh -c 'rm -f -- "$0"; exec "$@"' "$error_file" "$@"
fi
if [ "$container" = yes ]; then
    [ -x "$here/container-exec" ] || fail "BOSCO-PAYLOAD-03 $here/container-exec is gone"
    set -- "$here/container-exec" "$@"
fi
if [ "$cvmfs" != no ]; then
    [ -x "$here/run-with-cvmfs" ] || fail "BOSCO-PAYLOAD-03 $here/run-with-cvmfs is gone"
    set -- "$here/run-with-cvmfs" "$@"
fi
exec "$@"
PROGRAM
}
