# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# How payloads of this pilot are started: the helper payload-exec, and when the job wrapper needs it.

# What the last line of glideinWMS's job wrapper runs; gwms_bosco_run is set by payload_wrapper.sh and may be empty.
# Without single quotes, as condor_startup.sh evaluates it within such.
# shellcheck disable=SC2016,SC2034 # expanded by the job wrapper; used by payload_setup
GWMS_BOSCO_WRAPPER_EXEC='${gwms_bosco_run:+"$gwms_bosco_run"} "$@"'
# The same between the quotes of an older glideinWMS: its first quote and ours make a word, which must not be empty.
# shellcheck disable=SC2016
GWMS_BOSCO_WRAPPER_EXEC_QUOTED='${gwms_bosco_run:-env}" "$@'

# Jobs ask for /cvmfs by one of these attributes.
GWMS_BOSCO_ASKING='GWMS_BOSCO_WantCVMFS RequiresCVMFS'

# gwms_bosco_payload_exec: GLIDEIN_WRAPPER_EXEC as the condor_startup.sh of this pilot will put it into the job wrapper;
# else 1 and its line on stdout. Looked up there, as a factory may have patched its own.
# Source: condor_startup.sh of glideinWMS: `exec $GLIDEIN_WRAPPER_EXEC` in 3.10.16 and 3.11.2, before that in quotes.
gwms_bosco_payload_exec() {
    local LC_ALL=C line
    line=$(grep -s '^[[:blank:]]*exec .*GLIDEIN_WRAPPER_EXEC' "$(gwms_bosco_payload_startup)")
    line=${line#"${line%%[![:blank:]]*}"}
    # shellcheck disable=SC2016 # as it stands there
    case ${line%"${line##*[![:blank:]]}"} in
        # Without a line to read, as today's glideinWMS does it.
        '' | 'exec $GLIDEIN_WRAPPER_EXEC' | 'exec ${GLIDEIN_WRAPPER_EXEC}') echo "$GWMS_BOSCO_WRAPPER_EXEC" ;;
        'exec "$GLIDEIN_WRAPPER_EXEC"' | 'exec "${GLIDEIN_WRAPPER_EXEC}"') echo "$GWMS_BOSCO_WRAPPER_EXEC_QUOTED" ;;
        *) gwms_bosco_report_safe "$line" 80; return 1 ;;
    esac
}

# The pilot's condor_startup.sh, which glideinWMS brings before the entry's scripts.
gwms_bosco_payload_startup() {
    local folder name
    folder=$(gwms_bosco_config_get GLIDEIN_WORK_DIR)
    name=$(grep -s -m1 '^last_script[[:blank:]]' "$folder/$(gwms_bosco_config_get DESCRIPTION_FILE)" | cut -s -f 2-)
    printf '%s\n' "$folder/${name:-condor_startup.sh}"
}

# gwms_bosco_payload_shell SHELL: 0 when SHELL, which is the node's /bin/sh, can run the beginning of the job wrapper. Its
# question for bash is answered, where the here-document is not quoted, by the bash that writes it; and other shells end
# at `set +o posix`, and with them every payload.
# Source: condor_startup.sh of glideinWMS 3.11.2 and 3.11.3.
gwms_bosco_payload_shell() {
    # shellcheck disable=SC2016 # as it stands there
    sed -n '/^cat >*  *"$condor_job_wrapper" *<< *EOF$/,/^EOF$/p' "$(gwms_bosco_payload_startup)" 2>/dev/null |
        grep -q '[^\\]$BASH_VERSION' || return 0
    "$1" -c 'set +o posix' 2>/dev/null
}

# gwms_bosco_payload_adds_cvmfs MODE POLICY: 0 when payloads do not find /cvmfs on the node itself and may get it.
gwms_bosco_payload_adds_cvmfs() {
    [[ $2 != never ]] || return 1
    case $1 in
        userns | fusermount | mountrepo | container | parrot) ;;
        *) return 1 ;;
    esac
}

# gwms_bosco_payload_start MODE OLD: the start expression. Where there is no /cvmfs (MODE none), jobs that ask for it stay
# away.
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
    [[ $3 == payload ]] && container=yes
    printf "#!/bin/sh\nrung='%s' cvmfs=%s container=%s asking='%s'\n" "$1" "$cvmfs" "$container" "${GWMS_BOSCO_ASKING// /|}"
    # No here-document: older bash keeps those in a file, and on a full disk half a program would be left.
    # shellcheck disable=SC2016 # variables of the program
    printf '%s\n' '# Written by payload_setup. Starts a payload ($@) with what this pilot has found or made, and is replaced by it: signals,
# streams and exit code stay its own. Nothing is exported.
here=${0%/*}
error_file=${_CONDOR_WRAPPER_ERROR_FILE:-}
fail() {
    printf "%s\n" "$1" >&2
    [ -z "$error_file" ] || printf "%s\n" "$1" >"$error_file"
    exit 1
}
# The ad of the job has expressions as they were written, and this is no reader of them: whoever asks by one that may be true
# gets /cvmfs. A text, a number, false and undefined are not `=?= True` for the start expression either.
asks() {
    grep -Eis "^($asking)[[:blank:]]*=" "${_CONDOR_JOB_AD:-/dev/null}" |
        grep -Eivq "=[[:blank:]]*(false|undefined|error|-?[0-9.]+|\"[^\"]*\")?[[:blank:]]*\$"
}
[ "$cvmfs" != on-request ] || asks || cvmfs=no
[ "$cvmfs$container" != nono ] || exec "$@"
# In mode 4 the rung is itself a container with the same image.
[ "$rung" != container ] || [ "$cvmfs" = no ] || container=no
# An exit code does not tell whether a tool or the payload has ended with it. So HTCondor is told beforehand that the
# wrapper has failed, and the first thing that runs in place of the payload takes that back.
if [ -n "$error_file" ] && printf "%s\n" "BOSCO-PAYLOAD-02 the payload was not reached; the lines above say why" \
    2>/dev/null >"$error_file"; then
    shell="/bin/sh -c"
    [ ! -e "$here/inside-shell" ] || read -r shell <"$here/inside-shell"
    # shellcheck disable=SC2086 # words
    set -- $shell "rm -f -- \"\$0\"; exec \"\$@\"" "$error_file" "$@"
fi
if [ "$container" = yes ]; then
    [ -x "$here/container-exec" ] || fail "BOSCO-PAYLOAD-03 $here/container-exec is gone"
    if [ "$rung" = mountrepo ]; then
        # What is mounted there, container-exec itself binds to /cvmfs.
        [ "$cvmfs" != no ] || set -- --without-cvmfs "$@"
        cvmfs=no
    fi
    set -- "$here/container-exec" "$@"
fi
if [ "$cvmfs" != no ]; then
    [ -x "$here/run-with-cvmfs" ] || fail "BOSCO-PAYLOAD-03 $here/run-with-cvmfs is gone"
    set -- "$here/run-with-cvmfs" "$@"
fi
exec "$@"'
}
