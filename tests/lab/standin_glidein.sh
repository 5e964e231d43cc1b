#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Stand-in for glideinWMS's glidein_startup.sh and condor_startup.sh, in miniature and by their contract (3.10): brings
# an entry's files to its folder, runs its scripts in order, composes the job wrapper and starts a real HTCondor that
# joins the pool. What it leaves out: the download with its signatures, the frontend's files, naps after a failure.
# It passes the signal on that it gets; the real one sends QUIT to condor_master whatever it got.
#   standin_glidein.sh ARCHIVE TOKEN HTCONDOR NAME LIFE_S IDLE_S [FOLDER [POOL]]
# ARCHIVE is made by standin_factory.py, a file or a URL; HTCONDOR a folder, or a URL, unpacked in the pilot's own; FOLDER where the pilot makes its own, else the current one; POOL the collector's host, as a frontend names it.

archive=$1 token=$(readlink -f "$2") htcondor=$3 name=$4 life=$5 idle=$6 pool=${8:-outside} start_dir=$PWD
die_at=$(($(date +%s) + life))
[ "${archive#http://}" != "$archive" ] || archive=$(readlink -f "$archive")

fail() {
    echo "standin_glidein: $1" >&2
    cleanup
    exit 1
}

cleanup() {
    local program
    cd "$glide" 2>/dev/null || return 0
    for program in .gwms.d/exec/cleanup/*; do
        [ -x "$program" ] && "$program" glidein_config entry </dev/null
    done
    cd "$start_dir" || cd /
    find "$glide" -type d -exec chmod u+w {} \;
    rm -fR "$glide"
}

config() {
    printf '%s\n' "$*" >>glidein_config
}

# As glidein_startup.sh does, before any script. What a closed site needs for it is the business of the job wrapper.
download() {
    case $archive in
        http://*)
            curl -fsS --max-time 60 -o entry.tar.gz "$archive" || fail "cannot get $archive"
            archive=$glide/entry.tar.gz
            ;;
    esac
    case $htcondor in
        http://*)
            mkdir condor
            curl -fsS --max-time 60 "$htcondor" | tar -C condor -xzf - || fail "cannot get $htcondor"
            htcondor=$glide/condor
            ;;
    esac
}

# What scripts find: Source: glideinWMS glidein_startup.sh, contract of validation scripts.
prepare() {
    mkdir -p entry .gwms.d/exec/cleanup .gwms.d/exec/prejob log execute lock run spool tokens.d periodic tmp
    chmod 700 tokens.d
    (umask 077 && cat "$token" >tokens.d/pool) || fail 'cannot copy the token'
    tar -C entry -xzf "$archive" || fail 'cannot unpack the files of the entry'
    mv entry/add_config_line.source entry/error_gen.sh .
    : >wrapper_list.lst
    : >glidein_config
    config GLIDEIN_WORK_DIR "$glide"
    config GLIDEIN_ENTRY_WORK_DIR "$glide/entry"
    config GLIDEIN_STARTUP_PID $$
    config GLIDEIN_START_DIR_ORIG "$start_dir"
    config GLIDEIN_WORKSPACE_ORIG "$glide"
    config TMP_DIR "$glide/tmp"
    config ADD_CONFIG_LINE_SOURCE "$glide/add_config_line.source"
    config ERROR_GEN_PATH "$glide/error_gen.sh"
    config CONDOR_VARS_FILE "$glide/condor_vars.lst"
    config WRAPPER_LIST "$glide/wrapper_list.lst"
    config GLIDEIN_CONDOR_TOKEN "$glide/tokens.d/pool"
    config GLIDEIN_Lab_Pilot "$name"
    cat entry/attrs.lst >>glidein_config
    # All but the last stand in glideinWMS's own list (creation/web_base/condor_vars.lst).
    printf '%s\n' 'GLIDEIN_Entry_Start C True + N Y -' 'GLIDEIN_WRAPPER_EXEC S - + N N -' \
        'UPDATE_COLLECTOR_WITH_TCP C True + N N -' 'WANT_UDP_COMMAND_SOCKET C False + N N -' \
        'USE_SHARED_PORT C False + N N -' 'GLIDEIN_Lab_Pilot S - + Y Y -' >condor_vars.lst
    cat entry/vars.lst >>condor_vars.lst
}

# One line of files.lst: NAME KIND PERIOD_S FOLDER ATTRIBUTE.
bring() {
    case $2 in
        untar)
            mkdir -p "entry/$4"
            tar -C "entry/$4" -xzf "entry/$1" || return 1
            config "ENTRY_$5" "$glide/entry/$4"
            ;;
        wrapper) echo "$glide/entry/$1" >>wrapper_list.lst ;;
        executable)
            rm -f otrb_output.xml
            "./entry/$1" glidein_config entry </dev/null
            rc=$?
            echo "=== $1: $rc"
            cat otrb_output.xml 2>/dev/null || echo "$1 did not produce an XML file" >&2
            [ "$rc" = 0 ] && grep -q '<status>OK</status>' otrb_output.xml || return 1
            [ "$3" = 0 ] || periodic "$1" "$3"
            ;;
    esac
}

# As script_wrapper.sh: in a folder of its own, $1 absolute; HTCondor adds the prefix and the lines to the machine ad.
periodic() {
    {
        printf '#!/bin/bash\ncd "%s/periodic" || exit 1\nexport GLIDEIN_PERIODIC_SCRIPT=true\n' "$glide"
        printf 'exec "%s/entry/%s" "%s/glidein_config" entry 2>/dev/null\n' "$glide" "$1" "$glide"
    } >"periodic_$1"
    chmod 755 "periodic_$1"
    {
        # shellcheck disable=SC2016 # HTCondor's
        printf 'STARTD_CRON_JOBLIST=$(STARTD_CRON_JOBLIST) %s\n' "$1"
        printf 'STARTD_CRON_%s_%s\n' "$1" "EXECUTABLE=$glide/periodic_$1" "$1" "PERIOD=${2}s" "$1" MODE=Periodic \
            "$1" PREFIX=GLIDEIN_PS_
    } >>condor_cron
}

# Source: condor_startup.sh set_var; each line of condor_vars.lst: name, type, default, condor's name, required,
# published, in the jobs' environment.
variables() {
    local var type default condor required publish user value
    while read -r var type default condor required publish user; do
        value=$(grep "^$var " glidein_config | tail -n 1 | cut -d ' ' -f 2-)
        if [ -z "$value" ]; then
            [ "$required" = Y ] && fail "Cannot extract $var from glidein_config"
            [ "$default" = - ] && continue
            eval "value=$default"
        fi
        [ "$condor" != + ] || condor=$var
        if [ "$type" = S ]; then echo "$condor=\"$value\""; else echo "$condor=$value"; fi
        [ "$publish" != Y ] || attributes=$attributes,$condor
        case $user in
            -) ;;
            +) environment="$environment '$var=$value'" ;;
            @) environment="$environment '$condor=$value'" ;;
            *) environment="$environment '$user=$value'" ;;
        esac
        eval "$var='$value'"
    done <condor_vars.lst >>condor_config
}

# Source: condor_startup.sh, condor_job_wrapper.sh.
compose() {
    local fragment
    [ -n "$GLIDEIN_WRAPPER_EXEC" ] || GLIDEIN_WRAPPER_EXEC='"$@"'
    {
        printf '#!/bin/sh\n'
        while read -r fragment; do cat "$fragment"; done <wrapper_list.lst
        printf '\nexec %s\n' "$GLIDEIN_WRAPPER_EXEC"
        # shellcheck disable=SC2016 # the wrapper's
        printf 'exit_code=$?\necho "Wrapper script failed the final exec, exit code: $exit_code" >&2\nexit "$exit_code"\n'
    } >condor_job_wrapper.sh
    chmod 755 condor_job_wrapper.sh
}

configure() {
    cat <<CONFIG
RELEASE_DIR=$htcondor
LOCAL_DIR=$glide
BIN=\$(RELEASE_DIR)/bin
SBIN=\$(RELEASE_DIR)/sbin
LIB=\$(RELEASE_DIR)/lib
LIBEXEC=\$(RELEASE_DIR)/libexec
LOG=\$(LOCAL_DIR)/log
SPOOL=\$(LOCAL_DIR)/spool
LOCK=\$(LOCAL_DIR)/lock
RUN=\$(LOCAL_DIR)/run
EXECUTE=\$(LOCAL_DIR)/execute
CONDOR_HOST=$pool
COLLECTOR_HOST=\$(CONDOR_HOST):9618
CCB_ADDRESS=\$(COLLECTOR_HOST)
TRUST_DOMAIN=lab-pool
SEC_TOKEN_DIRECTORY=\$(LOCAL_DIR)/tokens.d
SEC_TOKEN_SYSTEM_DIRECTORY=\$(LOCAL_DIR)/tokens.d
SEC_DEFAULT_AUTHENTICATION_METHODS=FS,IDTOKENS
use security:recommended_v9_0
SEC_DEFAULT_ENCRYPTION=REQUIRED
ALLOW_DAEMON=*@lab-pool $(id -un)@* condor_pool@* submit-side@matchsession
ALLOW_ADMINISTRATOR=$(id -un)@* condor_pool@*
DAEMON_LIST=MASTER,STARTD
MASTER_NAME=glidein_$name
STARTD_NAME=glidein_$name
USE_PROCD=False
ENABLE_URL_TRANSFERS=False
UPDATE_INTERVAL=3
CCB_RECONNECT_TIME=3
MACHINE_RESOURCE_GPUS=0
NUM_CPUS=${GLIDEIN_CPUS:-2}
MEMORY=1000
NUM_SLOTS=1
NUM_SLOTS_TYPE_1=1
SLOT_TYPE_1=100%
SLOT_TYPE_1_PARTITIONABLE=True
MAXJOBRETIREMENTTIME=0
STARTD_NOCLAIM_SHUTDOWN=$idle
GLIDEIN_ToDie=$die_at
STARTD.DAEMON_SHUTDOWN=CurrentTime > GLIDEIN_ToDie
MASTER.DAEMON_SHUTDOWN=CurrentTime > $die_at
USER_JOB_WRAPPER=\$(LOCAL_DIR)/condor_job_wrapper.sh
STARTER_JOB_ENVIRONMENT="$environment"
STARTD_ATTRS=\$(STARTD_ATTRS)$attributes,GLIDEIN_ToDie
START=(${GLIDEIN_Entry_Start:-True})
CONFIG
    cat condor_cron 2>/dev/null
}

# shellcheck disable=SC2317 # called by traps
on_die() {
    echo "standin_glidein: received $1, passed on to condor_master" >&2
    died=yes
    [ -z "$master" ] || kill -s "$1" "$master"
}

run() {
    local rc
    trap '' HUP
    for signal in TERM INT QUIT; do
        # shellcheck disable=SC2064
        trap "on_die $signal" "$signal"
    done
    CONDOR_CONFIG=$glide/condor_config "$htcondor/sbin/condor_master" -f </dev/null &
    master=$!
    while :; do
        wait "$master"
        rc=$?
        kill -0 "$master" 2>/dev/null || break
    done
    trap - TERM INT QUIT
    echo "=== condor_master: $rc"
    tail -n 25 log/MasterLog log/StartLog log/StarterLog.slot1_1 2>/dev/null
    [ -z "$died" ] || rc=0
    return "$rc"
}

if ! glide=$(mktemp -d "$(readlink -f "${7:-.}")/glide_XXXXXX") || ! cd "$glide"; then
    echo 'standin_glidein: cannot make a folder' >&2
    exit 1
fi
attributes='' environment='' master='' died=''
download
prepare
while read -r line; do
    # shellcheck disable=SC2086 # words
    bring $line || fail "Validation failed in ${line%% *}"
done <entry/files.lst
variables
compose
configure >>condor_config
run
rc=$?
cleanup
exit "$rc"
