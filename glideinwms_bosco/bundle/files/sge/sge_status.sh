#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Executed by blahpd: sge_status.sh [-w] sge/DATE/ID...
# In place of HTCondor's, which says "completed, 0" for a job that left qstat and is not in the accounting file yet
# (written up to flush_time, 15 s, later), and whose sge_helper needs the Perl module XML::Simple.
libexec=$(CDPATH='' cd -P -- "${0%/*}" && pwd -P) || exit 1
BOSCO_ROOT=${libexec%/*}
# shellcheck source=/dev/null
. "$libexec/blah_load_config.sh"
# shellcheck source=glideinwms_bosco/bundle/files/common/bosco_batch.sh
. "$libexec/bosco_batch.sh" || exit 1
# blah.config and settings.sh are the site's; sge_rootpath and sge_cellname come from the first.
# shellcheck disable=SC2154
settings=${sge_rootpath:-/usr/local/sge/pro}/${sge_cellname:-default}/common/settings.sh
# shellcheck source=/dev/null
[ ! -r "$settings" ] || . "$settings"

# bosco_sge_list: "ID STATE" of this user's jobs. Each tag of qstat's XML becomes a line of its own.
bosco_sge_list() {
    bosco_out=$(bosco_batch_run qstat -xml -u "$(id -un)" 2>/dev/null) || return 1
    case "$bosco_out" in *"<job_info"*) ;; *) return 1 ;; esac
    printf '%s\n' "$bosco_out" | tr '<' '\n' | awk -F'>' '
        $1 ~ /^job_list/ { id = ""; state = "" }
        $1 == "JB_job_number" { id = $2 }
        $1 == "state" { state = $2 }
        $1 == "/job_list" && id ~ /^[0-9]+$/ && state ~ /^[A-Za-z]+$/ { print id, state }'
}

# Letters as in qstat(1): a waiting job may carry h and E besides qw. Eqw stays in the queue for ever: a failure.
bosco_sge_map() {
    case "$1" in
        *E*) BOSCO_JOB_STATUS=4 BOSCO_EXIT_CODE=255 ;;
        *[drt]*) BOSCO_JOB_STATUS=2 ;;
        *h*) BOSCO_JOB_STATUS=5 ;;
        *q*) BOSCO_JOB_STATUS=1 ;;
        *) BOSCO_JOB_STATUS=2 ;;
    esac
}

# bosco_sge_account ID: the last record counts (a rescheduled job has several). 1 = the job is not in the accounting.
# `failed` other than 0 with exit_status 0 is a job that Grid Engine could not run, or killed.
bosco_sge_account() {
    BOSCO_EXIT_CODE=$(bosco_batch_run qacct -j "$1" 2>/dev/null | awk '
        $1 == "failed" { failed = $2 }
        $1 == "exit_status" && $2 ~ /^[0-9]+$/ { code = $2 }
        END {
            if (code == "") exit
            if (code == 0 && failed != "" && failed != "0") code = 255
            print code
        }')
    [ -n "$BOSCO_EXIT_CODE" ] || return 1
    BOSCO_JOB_STATUS=4
}

bosco_sge_query() {
    BOSCO_WHY='qstat does not answer'
    if bosco_batch_state_dir; then
        bosco_queue_state "$BOSCO_STATE_DIR/sge" "$1" bosco_sge_list
        bosco_found=$?
    else
        bosco_found=2
    fi
    if [ "$bosco_found" = 2 ]; then
        bosco_now=$(bosco_sge_list) || return 2
        BOSCO_STATE=$(printf '%s\n' "$bosco_now" | awk -v "id=$1" '($1 "") == (id "") { print $2 }')
        [ -n "$BOSCO_STATE" ] && bosco_found=0 || bosco_found=1
    fi
    case "$bosco_found" in
        0) bosco_sge_map "$BOSCO_STATE" ;;
        3) return 2 ;;
        *) bosco_sge_account "$1" ;;
    esac
}

bosco_status_main sge bosco_sge_query "$@"
