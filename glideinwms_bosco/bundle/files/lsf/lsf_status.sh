#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Executed by blahpd: lsf_status.sh [-w] lsf/DATE/ID...
# In place of HTCondor's lsf_status.py, which reports the code 0 for every finished job (its statistics step
# overwrites the code) and takes any word of bjobs on stderr for the removal of the job.
libexec=$(CDPATH='' cd -P -- "${0%/*}" && pwd -P) || exit 1
BOSCO_ROOT=${libexec%/*}
# shellcheck source=/dev/null
. "$libexec/blah_load_config.sh"
# shellcheck source=glideinwms_bosco/bundle/files/common/bosco_batch.sh
. "$libexec/bosco_batch.sh" || exit 1

# `bjobs -UF` writes one line per event. Words of the job's own command come after "Command <", so that part is cut.
bosco_lsf_parse() {
    bosco_pair=$(printf '%s\n' "$BOSCO_OUT" | awk -v "id=$1" '
        index($0, "Job <" id ">") == 1 {
            sub(/, Command <.*/, "")
            if (match($0, /Status <[A-Z]+>/)) state = substr($0, RSTART + 8, RLENGTH - 9)
            next
        }
        match($0, /: Exited with exit code [0-9]+\./) { code = substr($0, RSTART + 24, RLENGTH - 25) + 0 }
        match($0, /: Exited by signal [0-9]+\./) { code = 128 + substr($0, RSTART + 19, RLENGTH - 20) }
        END {
            if (state == "DONE") code = 0
            if (code == "" || (state == "EXIT" && code == 0)) code = 255
            print state, code
        }')
    case "${bosco_pair% *}" in
        DONE | EXIT) BOSCO_JOB_STATUS=4 BOSCO_EXIT_CODE=${bosco_pair#* } ;;
        PSUSP | USUSP | SSUSP) BOSCO_JOB_STATUS=5 ;;
        PEND | WAIT) BOSCO_JOB_STATUS=1 ;;
        RUN | PROV | UNKWN | ZOMBI) BOSCO_JOB_STATUS=2 ;;
        *) BOSCO_WHY='bjobs gave no known status'; return 2 ;;
    esac
}

bosco_lsf_query() {
    # shellcheck disable=SC2154
    BOSCO_OUT=$(LC_ALL=C bosco_batch_run "${lsf_binpath:-/usr/bin}/bjobs" -UF "$1" 2>&1)
    bosco_rc=$?
    case "$bosco_rc:$BOSCO_OUT" in
        *"Job <$1> is not found"*) return 1 ;;
        0:*) bosco_lsf_parse "$1" ;;
        *) BOSCO_WHY="bjobs failed with exit code $bosco_rc"; return 2 ;;
    esac
}

bosco_status_main lsf bosco_lsf_query "$@"
