#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Executed by blahpd: pbs_status.sh [-w] pbs/DATE/ID...
# In place of HTCondor's pbs_status.py, which reports the code 0 for every finished job (its statistics step
# overwrites the code) and success for every job that the server no longer knows.
libexec=$(CDPATH='' cd -P -- "${0%/*}" && pwd -P) || exit 1
BOSCO_ROOT=${libexec%/*}
# shellcheck source=/dev/null
. "$libexec/blah_load_config.sh"
# shellcheck source=glideinwms_bosco/bundle/files/common/bosco_batch.sh
. "$libexec/bosco_batch.sh" || exit 1

# bosco_pbs_qstat ARG...: BOSCO_OUT and the exit status.
bosco_pbs_qstat() {
    # shellcheck disable=SC2154
    BOSCO_OUT=$(LC_ALL=C bosco_batch_run "${pbs_binpath:-/usr/bin}/qstat" "$@" 2>&1)
}

# Exit codes: PBS says 256 + n for signal n, a negative number when the job could not be run, none when it was deleted.
bosco_pbs_parse() {
    bosco_pair=$(printf '%s\n' "$BOSCO_OUT" | awk '
        $1 == "job_state" && $2 == "=" { state = $3 }
        tolower($1) == "exit_status" && $2 == "=" { code = $3 }
        END {
            if (code !~ /^[0-9]+$/) code = 255
            if (code >= 256) code = 128 + code - 256
            if (code > 255) code = 255
            print state, code
        }')
    case "${bosco_pair% *}" in
        C | F | X) BOSCO_JOB_STATUS=4 BOSCO_EXIT_CODE=${bosco_pair#* } ;;
        H) BOSCO_JOB_STATUS=5 ;;
        Q | W | T) BOSCO_JOB_STATUS=1 ;;
        R | E | S | U | B | M) BOSCO_JOB_STATUS=2 ;;
        *) BOSCO_WHY='qstat gave no known job_state'; return 2 ;;
    esac
}

# 35: PBS Pro, finished, asked again with -x. 153 (Torque), "Unknown Job": no longer known.
bosco_pbs_query() {
    bosco_pbs_qstat -f "$1"
    bosco_rc=$?
    if [ "$bosco_rc" = 35 ]; then
        bosco_pbs_qstat -x -f "$1"
        bosco_rc=$?
    fi
    case "$bosco_rc:$BOSCO_OUT" in
        0:*) bosco_pbs_parse ;;
        153:* | 35:* | *'Unknown Job'*) return 1 ;;
        *) BOSCO_WHY="qstat failed with exit code $bosco_rc"; return 2 ;;
    esac
}

bosco_status_main pbs bosco_pbs_query "$@"
