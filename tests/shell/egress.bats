#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2086,SC2094 # words of a shell with its option; a checked file is read twice
# A closed site's scripts in the pilot, with a node folder as the tunnel's supervisor leaves it.

load node
bats_require_minimum_version 1.5.0

setup() {
    pilot_folder 'GLIDEIN_Entry_Start (TARGET.x)'
    load_libraries egress_conf egress_log
    export HOME=$BATS_TEST_TMPDIR/home GWMS_BOSCO_EGRESS_JOB=$BATS_TEST_TMPDIR/job GWMS_BOSCO_EGRESS_DIR=$BATS_TEST_TMPDIR/node
    mkdir -p "$HOME" job "$GWMS_BOSCO_EGRESS_JOB/shown" "$GWMS_BOSCO_EGRESS_DIR/users"
    export GWMS_BOSCO_EGRESS_PRELOAD=$BATS_TEST_TMPDIR/lib.so
    : >"$GWMS_BOSCO_EGRESS_PRELOAD"
    conf KIND=http-connect EGRESS_HOST=192.0.2.1 EGRESS_PORT=80 PAYLOADS=True MAX_DOWN_S=300 BOSCO_DIR=bosco
    printf 'PROXY=1080\nWEB=1081\n' >"$GWMS_BOSCO_EGRESS_DIR/ports"
}

conf() {
    printf '%s\n' "$@" >"$GWMS_BOSCO_EGRESS_JOB/shown/egress.conf"
}

# packed NAME FILE: a script as it is shipped, with what it includes.
packed() {
    (cd "$REPOSITORY_ROOT" && PYTHONPATH=. python3 -c 'import sys
from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources
sys.stdout.buffer.write(pack_script(sys.argv[1], read_sources(default_scripts_dir())))' "$1") >"$2"
}

# script NAME: run it, packed, as the pilot does.
script() {
    packed "$1" "$1"
    run bash "./$1" "$PWD/glidein_config" entry
}

# supervised STATE: somebody holds the tunnel's lock.
supervised() {
    printf '%s\n' "$1" >"$GWMS_BOSCO_EGRESS_DIR/state"
    exec {lock}>>"$GWMS_BOSCO_EGRESS_DIR/lock"
    flock -n "$lock"
}

@test "egress_setup publishes the kind and stops payloads while the tunnel is down" {
    script egress_setup
    [ "$status" = 0 ]
    grep -qx 'GWMS_BOSCO_EGRESS http-connect' glidein_config
    grep -qx 'GLIDEIN_Entry_Start ((TARGET.x)) && (GLIDEIN_PS_GWMS_BOSCO_EGRESS_OK =!= False)' glidein_config
    script egress_setup
    [ "$(grep -c '^GLIDEIN_Entry_Start' glidein_config)" = 1 ]
    [ "$(grep -o EGRESS_OK glidein_config | wc -l)" = 1 ]
}

@test "egress_setup refuses a pilot that the job wrapper has not started" {
    unset GWMS_BOSCO_EGRESS_DIR
    script egress_setup
    [ "$status" != 0 ]
    [[ $output == *BOSCO-EGRESS-21* ]]
}

@test "egress_check: up, down for a while, down for too long, up again" {
    script egress_setup
    supervised "UP $(date +%s)"
    script egress_check
    [[ $output == *'GWMS_BOSCO_EGRESS_OK = True'*'DOWN_S = 0'*'REASON = "none"'* ]]
    [ ! -e "$HOME/bosco/log/egress" ]
    printf 'DOWN %s\n' "$(($(date +%s) - 100))" >"$GWMS_BOSCO_EGRESS_DIR/state"
    echo 'login: refused' >"$GWMS_BOSCO_EGRESS_DIR/reason"
    script egress_check
    [[ $output == *'GWMS_BOSCO_EGRESS_OK = True'*'REASON = "the tunnel is down for 10'*'login: refused'* ]]
    printf 'DOWN %s\n' "$(($(date +%s) - 400))" >"$GWMS_BOSCO_EGRESS_DIR/state"
    script egress_check
    script egress_check
    [[ $output == *'GWMS_BOSCO_EGRESS_OK = False'* ]]
    [ "$(grep -c 'BOSCO-EGRESS-24 takes no more payloads' "$HOME"/bosco/log/egress/*.log)" = 1 ]
    printf 'UP %s\n' "$(date +%s)" >"$GWMS_BOSCO_EGRESS_DIR/state"
    script egress_check
    [[ $output == *'GWMS_BOSCO_EGRESS_OK = True'* ]]
    grep -q 'the tunnel is up again' "$HOME"/bosco/log/egress/*.log
}

@test "egress_check does not believe a state whose supervisor is gone" {
    script egress_setup
    printf 'UP 1000\n' >"$GWMS_BOSCO_EGRESS_DIR/state"
    : >"$GWMS_BOSCO_EGRESS_DIR/lock"
    script egress_check
    [[ $output == *'nobody looks after the tunnel'* ]]
}

@test "egress_check drains when nobody writes since when the tunnel is down, and comes back" {
    script egress_setup
    rm -r "$GWMS_BOSCO_EGRESS_DIR"
    script egress_check
    [[ $output == *'GWMS_BOSCO_EGRESS_OK = True'*'REASON = "the tunnel is down for 0 s: there is no tunnel"'* ]]
    [ -s gwms_bosco/egress.since ]
    echo "$(($(date +%s) - 400))" >gwms_bosco/egress.since
    script egress_check
    [[ $output == *'GWMS_BOSCO_EGRESS_OK = False'*'DOWN_S = 40'* ]]
    grep -q 'BOSCO-EGRESS-24 takes no more payloads' "$HOME"/bosco/log/egress/*.log
    mkdir "$GWMS_BOSCO_EGRESS_DIR"
    printf 'PROXY=1080\nWEB=1081\n' >"$GWMS_BOSCO_EGRESS_DIR/ports"
    supervised "UP $(date +%s)"
    script egress_check
    [[ $output == *'GWMS_BOSCO_EGRESS_OK = True'*'DOWN_S = 0'* ]]
    [ ! -e gwms_bosco/egress.since ]
}

@test "egress_check drains when the folder of the tunnel gives no answer" {
    script egress_setup
    mkfifo "$BATS_TEST_TMPDIR/pipe"
    rm "$GWMS_BOSCO_EGRESS_DIR/ports"
    ln -s "$BATS_TEST_TMPDIR/pipe" "$GWMS_BOSCO_EGRESS_DIR/ports"
    echo "$(($(date +%s) - 400))" >gwms_bosco/egress.since
    began=$SECONDS
    script egress_check
    # Who still waits for it goes.
    exec {pipe}<>"$BATS_TEST_TMPDIR/pipe"
    exec {pipe}>&-
    [ $((SECONDS - began)) -lt 20 ]
    [[ $output == *'GWMS_BOSCO_EGRESS_OK = False'*'no answer from the folder of the tunnel'* ]]
}

@test "egress_check says later what a home in trouble has not taken" {
    script egress_setup
    supervised "DOWN $(($(date +%s) - 400))"
    mkdir -p "$HOME/bosco"
    : >"$HOME/bosco/log"
    script egress_check
    [[ $output == *'GWMS_BOSCO_EGRESS_OK = False'* ]]
    script egress_check
    rm "$HOME/bosco/log"
    script egress_check
    [ ! -e "$HOME/bosco/log" ]
    sed -i 's/^[0-9]*/1/' gwms_bosco/egress.unsaid
    script egress_check
    script egress_check
    [ "$(grep -c 'said late, of 20.*: BOSCO-EGRESS-24 takes no more' "$HOME"/bosco/log/egress/*.log)" = 1 ]
    [ ! -e gwms_bosco/egress.unsaid ]
}

@test "egress_log gives up on a home that hangs, and stays bounded" {
    GWMS_BOSCO_EGRESS_HOME_S=1
    gwms_bosco_egress_log_line() { sleep 60; }
    began=$SECONDS
    run ! gwms_bosco_egress_log bosco text
    [ $((SECONDS - began)) -lt 5 ]
    load_libraries egress_log
    GWMS_BOSCO_EGRESS_LOG_BYTES=300
    for line in 1 2 3 4 5 6 7 8 9 10; do gwms_bosco_egress_log bosco "line $line of this pilot" || break; done
    [ "$(stat -c %s "$HOME"/bosco/log/egress/*.log)" -lt 400 ]
    touch -d '30 days ago' "$HOME/bosco/log/egress/other.20200101.log"
    rm "$HOME"/bosco/log/egress/"$(gwms_bosco_egress_node)"*
    gwms_bosco_egress_log bosco new
    [ ! -e "$HOME/bosco/log/egress/other.20200101.log" ]
}

@test "egress_web_proxy: the loopback, or a forward by its numbers" {
    egress_kind=http-connect egress_web_proxy=egress egress_forwards=pool=192.0.2.2:9618,squid=192.0.2.3:3128
    [ "$(gwms_bosco_egress_web_proxy "$GWMS_BOSCO_EGRESS_DIR")" = http://127.0.0.1:1080 ]
    egress_kind=ssh egress_web_proxy=squid
    [ "$(gwms_bosco_egress_web_proxy "$GWMS_BOSCO_EGRESS_DIR")" = http://127.0.0.1:1081 ]
    egress_kind=socks5
    [ "$(gwms_bosco_egress_web_proxy "$GWMS_BOSCO_EGRESS_DIR")" = http://192.0.2.3:3128 ]
    egress_web_proxy=egress
    run -1 gwms_bosco_egress_web_proxy "$GWMS_BOSCO_EGRESS_DIR"
    egress_web_proxy=''
    [ -z "$(gwms_bosco_egress_web_proxy "$GWMS_BOSCO_EGRESS_DIR")" ]
}

# fragment SHELL...: what a payload gets.
fragment() {
    { cat "$REPOSITORY_ROOT/validation_scripts/egress_wrapper.sh"; echo 'exec "$@"'; } >wrapper.sh
    "$@" "$PWD/wrapper.sh" sh -c 'echo "${LD_PRELOAD-unset} ${PROXYCHAINS_CONF_FILE-unset}"' 2>/dev/null
}

@test "payloads are chained, behind what the job has set itself, and only where the site says so" {
    script egress_setup
    for shell in dash 'busybox sh' 'bash --posix'; do
        [ "$(fragment $shell)" = "$GWMS_BOSCO_EGRESS_PRELOAD $GWMS_BOSCO_EGRESS_DIR/proxychains.conf" ]
        [ "$(LD_PRELOAD=/own.so fragment $shell)" = "/own.so:$GWMS_BOSCO_EGRESS_PRELOAD $GWMS_BOSCO_EGRESS_DIR/proxychains.conf" ]
        [ "$(LD_PRELOAD=$GWMS_BOSCO_EGRESS_PRELOAD fragment $shell)" = "$GWMS_BOSCO_EGRESS_PRELOAD $GWMS_BOSCO_EGRESS_DIR/proxychains.conf" ]
    done
    rm "$GWMS_BOSCO_EGRESS_PRELOAD"
    [ "$(fragment dash)" = 'unset unset' ]
    : >"$GWMS_BOSCO_EGRESS_PRELOAD"
    conf KIND=http-connect EGRESS_HOST=192.0.2.1 EGRESS_PORT=80 PAYLOADS=False
    script egress_setup
    [ "$(fragment dash)" = 'unset unset' ]
    rm -r gwms_bosco
    [ "$(fragment dash)" = 'unset unset' ]
}

@test "the fragment is POSIX" {
    { echo '#!/bin/sh'; cat "$REPOSITORY_ROOT/validation_scripts/egress_wrapper.sh"; } >fragment
    run checkbashisms -p fragment
    [ -z "$output" ]
    shellcheck --shell=sh fragment
}

# closed_site: a bundle whose ssh is up at once and leaves its number in `sshs`.
closed_site() {
    mkdir "$BATS_TEST_TMPDIR"/{bundle,bin,place,jobs}
    chmod 1777 "$BATS_TEST_TMPDIR/place"
    touch "$BATS_TEST_TMPDIR/bundle/known_hosts" "$HOME/key"
    printf '%s\n' '#!/bin/bash' '[[ $1 != -Q ]] || exit 1' 'echo "$$" >>../../sshs' 'echo up' 'exec sleep 600' >"$BATS_TEST_TMPDIR/bin/ssh"
    chmod 0755 "$BATS_TEST_TMPDIR/bin/ssh"
    printf '%s\n' KIND=ssh EGRESS_HOST=192.0.2.1 EGRESS_PORT=443 EGRESS_USER=u LOGIN_HOSTS=192.0.2.2 LOGIN_PORT=22 \
        AUTH=site-key KEY=key BOSCO_DIR=bosco CONTAINER=none >"$BATS_TEST_TMPDIR/bundle/egress.conf"
    packed job_wrapper "$BATS_TEST_TMPDIR/bundle/job_wrapper"
}

# closed_pilot CODE: run ./pilot by its wrapper, which ends with CODE.
closed_pilot() {
    PATH=$BATS_TEST_TMPDIR/bin:$PATH TMPDIR=$BATS_TEST_TMPDIR/jobs GWMS_BOSCO_TUNNEL_TMP=$BATS_TEST_TMPDIR/place \
        GWMS_BOSCO_TUNNEL_SPREAD_MS=0 run "-$1" bash -p "$BATS_TEST_TMPDIR/bundle/job_wrapper" "$PWD/pilot"
}

@test "job_wrapper: a supervisor of the tunnel that is killed alone is replaced, and nothing is left" {
    closed_site
    cat >pilot <<'PILOT'
#!/bin/bash
until_true() { local i; for i in {1..300}; do ! "$@" || return 0; sleep 0.05; done; echo "not: $*"; exit 1; }
read -r _ _ _ wrapper _ <"/proc/$PPID/stat"
supervisor() { read -r pid _ <"$GWMS_BOSCO_EGRESS_DIR/users/$wrapper."*; }
another() { supervisor && [[ $pid != "$first" ]]; }
# The state is still that of the first for a moment.
is_up() { another && [[ $(grep -c ' UP ' "$GWMS_BOSCO_EGRESS_DIR/log") == 2 ]]; }
supervisor
first=$pid ports=$(cat "$GWMS_BOSCO_EGRESS_DIR/ports")
# The site has another file by now.
echo FORWARDS=a=192.0.2.3:1 >>"${0%/*}/../bundle/egress.conf"
kill -9 "$first"
until_true is_up
[[ $(cat "$GWMS_BOSCO_EGRESS_DIR/ports") == "$ports" ]] && exit 42
PILOT
    chmod 0755 pilot
    closed_pilot 42
    grep -q 'the supervisor of the tunnel was killed, another begins' "$HOME"/bosco/log/egress/*.log
    [ -z "$(find "$BATS_TEST_TMPDIR/place" "$BATS_TEST_TMPDIR/jobs" -mindepth 1)" ]
    [ "$(wc -l <"$BATS_TEST_TMPDIR/sshs")" = 2 ]
    while read -r ssh; do ! gwms_bosco_limit_start "$ssh"; done <"$BATS_TEST_TMPDIR/sshs"
}

@test "job_wrapper: where the host keys cannot be copied whole, there is no pilot" {
    closed_site
    printf '%s\n' '#!/bin/bash' '[[ $1 != */bundle/known_hosts ]] || exit 1' 'exec /bin/cat "$@"' >"$BATS_TEST_TMPDIR/bin/cat"
    printf '%s\n' '#!/bin/bash' 'touch began' >pilot
    chmod 0755 "$BATS_TEST_TMPDIR/bin/cat" pilot
    closed_pilot 1
    [[ $output == *'BOSCO-EGRESS-02 cannot write'* ]]
    [ ! -e began ]
    [ -z "$(find "$BATS_TEST_TMPDIR/place" "$BATS_TEST_TMPDIR/jobs" -mindepth 1)" ]
}

@test "job_wrapper: TERM while a failed job tidies up ends it then" {
    packed job_wrapper functions
    sed -i '$d' functions
    for killed in '' 1; do
        SECONDS=0
        # shellcheck disable=SC2016 # the wrapper's shell's
        run -1 timeout -s KILL 6 bash -c '. ./functions
            GWMS_BOSCO_JOB_STAY_S=60 job_node=""
            gwms_bosco_job_say() { :; }
            gwms_bosco_job_tidy() {
                kill -s TERM $$
                # The group has it too; once it comes before it is ignored.
                if [[ -n $0 && ! -e once ]]; then : >once; trap - TERM; fi
                kill -s TERM "$BASHPID"
                : >tidied
            }
            gwms_bosco_job_fail 03 text' "$killed"
        [ "$SECONDS" -lt 5 ]
        [ -e tidied ]
        rm tidied
    done
}

# job_run WORD: run a pilot by lib/egress_job.sh alone; TERM comes where `trap WORD` is said behind the wrapper.
job_run() {
    bash -c '. "$0/limit.sh"; . "$0/egress_job.sh"
        gwms_bosco_job_leftovers() { :; }
        gwms_bosco_job_exec() { exec "$@"; }
        trap() {
            builtin trap "$@"
            [[ $1 != "$word" || $BASHPID == "$$" ]] || { builtin trap - TERM; kill -s TERM "$BASHPID"; }
        }
        word=$1 job_node=""
        gwms_bosco_job_guard() { exec {job_guard}>/dev/null; }
        gwms_bosco_job_run touch began
        exit "$job_rc"' "$LIB" "$1"
}

@test "job_wrapper: a signal before the pilot's number is told ends it" {
    export -f job_run
    export LIB
    for word in '' -; do
        # shellcheck disable=SC2016 # of the other shell
        run -143 timeout -s KILL 5 bash -c 'job_run "$0"' "$word"
        [ ! -e began ]
    done
}

@test "job_wrapper: a pilot that has no name yet when its wrapper is killed is found" {
    load_libraries egress_job
    # shellcheck disable=SC2034 # the library's
    job_folder=$PWD/folder job_node='' tunnel_script_start=''
    gwms_bosco_job_tidy() { tidied=1; }
    bash -c 'sleep 0.7; GWMS_BOSCO_EGRESS_JOB=$0 exec sleep 60' "$job_folder" 3>&- &
    late=$! tidied=''
    gwms_bosco_job_watch </dev/null || false
    [ -n "$tidied" ]
    run ! gwms_bosco_limit_start "$late"
}

@test "job_wrapper: a pilot whose guard a signal has ended runs on, with its own signals" {
    # shellcheck disable=SC2016 # the wrapper's shell's
    run -42 env --default-signal bash -c '. "$0/limit.sh"; . "$0/egress_job.sh"
        gwms_bosco_job_leftovers() { sleep 0.2; }
        gwms_bosco_job_exec() { exec "$@"; }
        gwms_bosco_job_watch() { exit; }
        job_node=""
        gwms_bosco_job_run bash -c "sleep 0.2; grep SigIgn /proc/self/status; exit 42"
        exit "$job_rc"' "$LIB"
    [ "$output" = "$(env --default-signal grep SigIgn /proc/self/status)" ]
}
