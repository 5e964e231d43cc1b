# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # the cvmfs_* variables are for lib/cvmfs_*.sh, egress_* of lib/egress_conf.sh
# /cvmfs before the pilot: the ladder of cvmfs_setup, where there is no glidein yet. The container shows what it mounts.

# In place of glidein_config, which the pilot makes later.
gwms_bosco_config_get() {
    printf '%s' "${2-}"
}

# gwms_bosco_job_cvmfs WEB_PROXY PILOT: leave a working cvmfs.conf in GWMS_BOSCO_DIR. Lines on stdout: the way and, in the
# second, why better ones were skipped. 1 when there is none. In a subshell: it sets many variables.
gwms_bosco_job_cvmfs() (
    export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
    umask 022
    SECONDS=0
    cvmfs_rungs=${egress_cvmfs_rungs:-native} cvmfs_repositories=$egress_cvmfs_repos cvmfs_cache=$egress_cvmfs_cache
    cvmfs_quota_mb=${egress_cvmfs_quota_mb:-4096} cvmfs_proxy=$1 cvmfs_distribution=$egress_cvmfsexec cvmfs_pilot=$2
    cvmfs_parrot='' cvmfs_image=$egress_image cvmfs_container=payload
    cvmfs_name=$(uname -n | tr -cd 'A-Za-z0-9._-')-$$-$RANDOM
    [[ -n $cvmfs_distribution ]] || cvmfs_rungs=native
    if ! gwms_bosco_cvmfs_programs; then
        printf 'none\ncannot write %s\n' "$GWMS_BOSCO_DIR"
        exit 1
    fi
    cvmfs_records=$(gwms_bosco_stale_folder) || cvmfs_records=$GWMS_BOSCO_DIR
    gwms_bosco_rung_climb "$cvmfs_rungs" >/dev/null
    printf '%s\n%s\n' "$rung_mode" "$rung_why"
    [[ $rung_mode != none ]]
)

# Seconds for the holder to take down what it has mounted.
GWMS_BOSCO_JOB_CVMFS_END_S=8

# gwms_bosco_job_cvmfs_end: at the pilot's end; where the holder does not take down everything in time, what is left is
# swept.
gwms_bosco_job_cvmfs_end() {
    local place=$GWMS_BOSCO_DIR/cvmfs control until=$((SECONDS + GWMS_BOSCO_JOB_CVMFS_END_S))
    [[ -d $place ]] || return 0
    if [[ -p $place/control ]] && { exec {control}<>"$place/control"; } 2>/dev/null; then
        echo stop >&$control
        while [[ -d $place && $SECONDS -lt $until ]]; do gwms_bosco_limit_pause 0.05; done
        exec {control}>&-
    fi
    [[ ! -d $place ]] || gwms_bosco_limit_run 5 /dev/null gwms_bosco_stale_clean "$place" '' "$GWMS_BOSCO_DIR/record"
}
