#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The shell libraries of the CVMFS ladder, function by function.

setup() {
    LIB=$BATS_TEST_DIRNAME/../../validation_scripts/lib
    for name in config report limit cvmfs_conf cvmfs_node cvmfs_probe cvmfs_place cvmfs_stale; do
        # shellcheck source=/dev/null
        . "$LIB/$name.sh"
    done
    cd "$BATS_TEST_TMPDIR"
    export GWMS_BOSCO_DIR=$BATS_TEST_TMPDIR
    contract=$BATS_TEST_DIRNAME/../pilot/contract
    printf '%s\n' "ADD_CONFIG_LINE_SOURCE $contract/add_config_line.source" "ERROR_GEN_PATH $contract/error_gen.sh" \
        "CONDOR_VARS_FILE $PWD/vars" 'A one two' 'T true' 'A three' >glidein_config
    : >vars
}

@test "config_open loads the pilot's functions; config_get gives the last line, config_set replaces" {
    gwms_bosco_config_open glidein_config
    [ "$(gwms_bosco_config_get A)" = three ]
    [ "$(gwms_bosco_config_get NONE default)" = default ]
    gwms_bosco_config_set A four
    [ "$(gwms_bosco_config_get A)" = four ]
    run gwms_bosco_config_open nosuch
    [ "$status" = 1 ]
}

@test "config_checked takes the whole value or nothing, at the limit and not beyond" {
    gwms_bosco_config_open glidein_config
    gwms_bosco_config_set V "$(printf 'a%.0s' $(seq 4096))"
    [ "$(gwms_bosco_config_checked V 'a+' | wc -c)" = 4096 ]
    gwms_bosco_config_set V "$(printf 'a%.0s' $(seq 4097))"
    run gwms_bosco_config_checked V 'a+'
    [ "$status" = 1 ]
    [[ $output == *'longer than 4096'* ]]
    gwms_bosco_config_set V 'a;b'
    run gwms_bosco_config_checked V 'a|b'
    [ "$status" = 1 ]
}

@test "config_bool knows True and False in any case and nothing else" {
    gwms_bosco_config_open glidein_config
    [ "$(gwms_bosco_config_bool T False)" = True ]
    [ "$(gwms_bosco_config_bool NONE False)" = False ]
    run gwms_bosco_config_bool A False
    [ "$status" = 1 ]
}

@test "report_safe leaves one harmless line of the length asked" {
    [ "$(gwms_bosco_report_safe $'a\'b"c$(d)`e\nf\\g<h>&' 100)" = 'a b c (d) e f g h' ]
    [ "$(gwms_bosco_report_safe abcdef 3)" = abc ]
}

@test "report_xml escapes, and removes control characters" {
    [ "$(gwms_bosco_report_xml $'<a>&"\001\\b')" = '&lt;a&gt;&amp;&quot;  b' ]
}

@test "report_ok and report_error write one result; report_attribute one line of condor_vars" {
    gwms_bosco_config_open glidein_config
    gwms_bosco_report_ok id key 'a<b'
    grep -q '>a&lt;b</metric>' otrb_output.xml
    gwms_bosco_report_error id Config 'x & y' 2>/dev/null
    grep -q 'x &amp; y' otrb_output.xml
    grep -q '<status>ERROR' otrb_output.xml
    gwms_bosco_report_attribute NAME S "it's"
    [ "$(gwms_bosco_config_get NAME)" = 'it s' ]
    [ "$(cat vars)" = 'NAME S - + N Y -' ]
}

@test "report_attribute has room for the reasons of all rungs" {
    gwms_bosco_config_open glidein_config
    why=''
    for rung in native userns fusermount mountrepo container parrot; do
        why+="${why:+; }$rung: $(printf 'x%.0s' $(seq 140))"
    done
    gwms_bosco_report_attribute WHY S "$why"
    [ "$(gwms_bosco_config_get WHY)" = "$why" ]
    gwms_bosco_report_attribute WHY S "$(printf 'a%.0s' $(seq 1025))"
    [ "$(gwms_bosco_config_get WHY | wc -c)" = 1024 ]
}

@test "report_result escapes the metrics, and leaves the words before them to the caller" {
    error_gen=$PWD/error_gen
    printf '#!/bin/sh\nprintf "<%%s>" "$@"\n' >error_gen
    chmod 755 error_gen
    [ "$(gwms_bosco_report_result -ok id key 'a<b' odd)" = '<-ok><id><key><a&lt;b>' ]
    [ "$(gwms_bosco_report_result -error id Config 'x & y' key '"')" = '<-error><id><Config><x & y><key><&quot;>' ]
}

@test "limit_run keeps exit code and output" {
    run gwms_bosco_limit_run 5 out sh -c 'echo text; echo more >&2; exit 42'
    [ "$status" = 42 ]
    [ "$(cat out)" = $'text\nmore' ]
}

@test "limit_run answers 124 in time and kills the whole family" {
    SECONDS=0
    run gwms_bosco_limit_run 1 out sh -c 'sleep 77 & echo $! >child; wait'
    [ "$status" = 124 ]
    [ "$SECONDS" -lt 4 ]
    # A killed process may still wait to be collected; that counts as gone.
    for _ in $(seq 100); do gwms_bosco_limit_start "$(cat child)" >/dev/null || return 0; done
    false
}

@test "limit_session starts a program as the first process of a session, and a function in this one" {
    # shellcheck disable=SC2016
    (gwms_bosco_limit_session sh -c 'ps -o sid= -p $$; echo $$' >program)
    [ "$(tr -d ' ' <program | uniq | wc -l)" = 1 ]
    own() { echo "$BASHPID"; }
    (gwms_bosco_limit_session own >function; own >>function)
    [ "$(uniq function | wc -l)" = 1 ]
}

@test "limit_kill ends a family by its first number, and takes nothing for one that is none" {
    setsid sleep 50 3>&- &
    until [ "$(ps -o sid= -p $! | tr -d ' ')" = "$!" ]; do :; done
    gwms_bosco_limit_kill $!
    run wait $!
    for _ in $(seq 100); do gwms_bosco_limit_start $! >/dev/null || break; done
    run gwms_bosco_limit_start $!
    [ "$status" = 1 ]
    # 1 and -1 would be everything.
    kill() { echo "kill $*"; }
    for number in '' 0 1 -1 x '1 2'; do
        [ -z "$(gwms_bosco_limit_kill "$number")" ]
    done
}

@test "limit_alive tells a process from another with its number" {
    sleep 50 3>&- &
    start=$(gwms_bosco_limit_start $!)
    gwms_bosco_limit_alive $! "$start"
    run gwms_bosco_limit_alive $! "$((start + 1))"
    [ "$status" = 1 ]
    run gwms_bosco_limit_alive '' ''
    [ "$status" = 1 ]
    kill $!
}

@test "conf_write refuses what conf_read could misread" {
    gwms_bosco_conf_write conf MODE native CACHE /a/b=c
    [ "$(gwms_bosco_conf_read conf CACHE)" = /a/b=c ]
    run gwms_bosco_conf_read conf NONE
    [ "$status" = 1 ]
    run gwms_bosco_conf_write conf MODE 'a b'
    [ "$status" = 1 ]
    run gwms_bosco_conf_write conf MODE $'a\nB=c'
    [ "$status" = 1 ]
    [ "$(gwms_bosco_conf_read conf MODE)" = native ]
}

@test "conf_write takes every character of a path that cvmfsexec can live in, and leaves no half of a file" {
    gwms_bosco_conf_write conf CACHE '/a/b:c,d@e%f+g=h-i_j.k'
    [ "$(gwms_bosco_conf_read conf CACHE)" = '/a/b:c,d@e%f+g=h-i_j.k' ]
    full() { (ulimit -f 0 && trap '' XFSZ && gwms_bosco_conf_write conf MODE none); }
    run full
    [ "$status" = 1 ]
    [ ! -e conf.new ]
    grep -q '^CACHE=' conf
}

@test "limit_run says that there is no room for the output, and runs nothing" {
    run gwms_bosco_limit_run 5 no/such/folder touch ran
    [ "$status" = 125 ]
    [ ! -e ran ]
}

@test "probe: no repository is no success, also where older bash has no room for a here-document" {
    run gwms_bosco_cvmfs_probe 3 root ''
    [ "$status" = 1 ]
    # As bash before 5.1 does: a file, which a full disk does not take.
    BASH_COMPAT=50
    without_room() { (ulimit -f 0 && trap '' XFSZ && gwms_bosco_cvmfs_probe 3 root none.cern.ch); }
    run without_room
    [ "$status" = 1 ]
}

@test "probe: all repositories together get the time" {
    # The second is not asked when the first has used it up.
    gwms_bosco_limit_run() { echo "$1" >>asked; SECONDS=$((SECONDS + 3)); }
    run gwms_bosco_cvmfs_probe 5 root a.cern.ch,b.cern.ch,c.cern.ch
    [ "$status" = 1 ]
    [ "$output" = 'c.cern.ch: no answer in time' ]
    [ "$(cat asked)" = $'5\n2' ]
}

# ladder RUNG...: rungs that use up all they are given, in seconds that are only counted.
# shellcheck disable=SC2154 # what the libraries set
ladder() {
    local rung
    # shellcheck source=/dev/null
    . "$LIB/cvmfs_rungs.sh"
    for rung; do
        eval "gwms_bosco_rung_$rung() { hangs; }"
    done
    # As a rung that is held: a trial, a cache, a start, then a holder that does not end.
    hangs() {
        local seconds
        SECONDS=$((SECONDS + rung_trial_s))
        for _ in cache start; do
            seconds=$(gwms_bosco_rung_seconds "$GWMS_BOSCO_RUNG_S")
            SECONDS=$((SECONDS + (seconds > 0 ? seconds : 0) + 1))
        done
        SECONDS=$((SECONDS + GWMS_BOSCO_DROP_S + GWMS_BOSCO_CLEAN_S))
        return 1
    }
    rungs=$*
    gwms_bosco_rung_climb "${rungs// /,}"
}

# shellcheck disable=SC2154 # what the libraries set
@test "the ladder ends within 20 s where every step of every rung hangs, from any second it starts" {
    # A variable like any other, so that only what is counted counts.
    unset SECONDS
    # What comes before the ladder can hang in one place, the sweep.
    # shellcheck source=/dev/null
    . "$LIB/cvmfs_rungs.sh"
    for start in $(seq 0 $((GWMS_BOSCO_SWEEP_S + 4))); do
        SECONDS=$start
        run_ladder() { ladder native userns fusermount mountrepo container parrot; end=$SECONDS; }
        run_ladder || true
        [ "$rung_mode" = none ]
        [[ $rung_why == *'parrot: no time left' ]]
        [ "$end" -le 20 ]
    done
}

# shellcheck disable=SC2154 # what the libraries set
@test "a node on which all is slow still tries a way" {
    unset SECONDS
    SECONDS=40
    ladder native userns || true
    [[ $rung_why != *'native: no time left'* ]]
}

@test "a rung that fails leaves neither its cache nor its words to the next" {
    # shellcheck source=/dev/null
    . "$LIB/cvmfs_rungs.sh"
    gwms_bosco_rung_a() { rung_cache=/a rung_mount=/m rung_reason=no; echo words >"$GWMS_BOSCO_DIR/prefix"; return 1; }
    gwms_bosco_rung_b() { [ -z "$rung_cache$rung_mount" ] && [ ! -e "$GWMS_BOSCO_DIR/prefix" ]; }
    gwms_bosco_rung_climb a,b
    [ "$rung_mode $rung_why" = 'b a: no' ]
    gwms_bosco_rung_climb a || true
    [ "$rung_mode$rung_cache" = none ]
    [ ! -e prefix ]
}

@test "run-with-cvmfs does not enter a process that got the holder's number" {
    # shellcheck source=/dev/null
    . "$LIB/run_with_cvmfs.sh"
    sleep 50 3>&- &
    printf '%s\n' MODE=userns "HOLDER=$!" "HOLDER_START=$(($(gwms_bosco_limit_start $!) + 1))" NSENTER=/bin/true >cvmfs.conf
    run gwms_bosco_run_main "$PWD" echo ran
    kill $!
    [ "$status" = 125 ]
    [[ $output == *'the process that holds /cvmfs is gone' ]]
}

@test "place_make does not remove a folder through a mount" {
    mkdir -p dist/dist/usr dist/dist/etc/cvmfs place/dist/cvmfs/r source && touch source/precious
    printf '#!/bin/sh\n' | tee dist/cvmfsexec >dist/mountrepo
    chmod 755 dist/cvmfsexec dist/mountrepo
    program=". '$LIB/report.sh'; . '$LIB/cvmfs_place.sh'; mount --bind source place/dist/cvmfs/r &&
        ! gwms_bosco_place_make '$PWD/dist' '$PWD/place'"
    run unshare -rm bash -c "$program"
    [ "$status" = 0 ]
    [[ $output == "mounts are left below $PWD/place" ]]
    [ -e source/precious ]
    gwms_bosco_place_make "$PWD/dist" "$PWD/place"
}

@test "node_path takes no white space" {
    gwms_bosco_node_path /a/b-c
    run gwms_bosco_node_path '/a b'
    [ "$status" = 1 ]
    run gwms_bosco_node_path $'/a\nb'
    [ "$status" = 1 ]
}

@test "probe reads a real file: not an empty folder, not a missing one" {
    mkdir -p root/r.cern.ch root/empty
    run gwms_bosco_cvmfs_probe 3 root r.cern.ch
    [ "$status" = 1 ]
    [[ $output == *empty* ]]
    echo x >root/r.cern.ch/file
    gwms_bosco_cvmfs_probe 3 root r.cern.ch
    run gwms_bosco_cvmfs_probe 3 root r.cern.ch,none.cern.ch
    [ "$status" = 1 ]
    [[ $output == none.cern.ch:* ]]
}

# probe_without_attribute ROOT: ask for r.cern.ch there, where getfattr has no answer.
probe_without_attribute() {
    mkdir -p bin
    printf '#!/bin/sh\nexit 1\n' >bin/getfattr
    chmod 755 bin/getfattr
    PATH=$PWD/bin:$PATH gwms_bosco_cvmfs_probe 10 "$1" r.cern.ch
}

@test "probe looks into few folders of a wide repository, and takes the uppermost file" {
    mkdir -p root/r.cern.ch/{1..30}/{1..20}
    find root -type d -exec touch -d 2001-01-01 {} +
    ls root/r.cern.ch/7 >/dev/null
    [ -n "$(find root/r.cern.ch/7 -maxdepth 0 -newerat 2020-01-01)" ] || skip 'this file system keeps no times of access'
    run probe_without_attribute root
    [ "$status" = 1 ]
    [ "$output" = "r.cern.ch: no file to read in the upper folders of root/r.cern.ch" ]
    [ "$(find root -type d -newerat 2020-01-01 | wc -l)" -lt 45 ]
    find root -type d -exec touch -d 2001-01-01 {} +
    echo x >root/r.cern.ch/1/1/file
    probe_without_attribute root
    rm root/r.cern.ch/1/1/file
    echo x >root/r.cern.ch/1/file
    find root -type d -exec touch -d 2001-01-01 {} +
    probe_without_attribute root
    # The repository, and the folder with the file.
    [ "$(find root -type d -newerat 2020-01-01 | wc -l)" -le 3 ]
    echo x >root/r.cern.ch/.cvmfsdirtab
    find root -type d -exec touch -d 2001-01-01 {} +
    probe_without_attribute root
    [ "$(find root -type d -newerat 2020-01-01 | wc -l)" -le 1 ]
}

@test "place_value keeps mountrepo from moving a path into dist" {
    [ "$(gwms_bosco_place_value /var/tmp/x)" = //var/tmp/x ]
    [ "$(gwms_bosco_place_value /cvmfs/x)" = //cvmfs/x ]
    [ "$(gwms_bosco_place_value /scratch)" = /scratch ]
}

@test "place_settings ends every line, also the one that had no end" {
    mkdir -p p/dist/etc/cvmfs
    printf 'A=1\r\nB=2' >p/dist/etc/cvmfs/default.local
    gwms_bosco_place_settings p a.b /var/c 100 'http://x:1;DIRECT'
    [ "$(sed -n 2p p/dist/etc/cvmfs/default.local)" = B=2 ]
    [ "$(sed -n 1p p/dist/etc/cvmfs/default.local)" = A=1 ]
    grep -qx 'CVMFS_CACHE_BASE=//var/c' p/dist/etc/cvmfs/default.local
    [ "$(tail -c 1 p/dist/etc/cvmfs/default.local | od -An -c | tr -d ' ')" = '\n' ]
}

@test "place_cache is private, and its quota fits the disk" {
    mkdir p
    quota=$(gwms_bosco_place_cache local:"$PWD/p" "$PWD/p/name" 99999999)
    [ "$(stat -c %a p/name)" = 700 ]
    [ "$quota" -lt 99999999 ]
    [ "$(gwms_bosco_place_cache '' "$PWD/p/other" 1)" = 1 ]
    run gwms_bosco_place_cache local:"$PWD/p" "$PWD/p/name" 100
    [ "$status" = 1 ]
    [ "$output" = "cannot make a cache in $PWD/p" ]
}

@test "place_parent knows local, image, ram and the place itself, and nothing else" {
    [ "$(gwms_bosco_place_parent local:/a /p)" = /a ]
    [ "$(gwms_bosco_place_parent image:/a /p)" = /a ]
    [ "$(gwms_bosco_place_parent ram /p)" = /dev/shm ]
    [ "$(gwms_bosco_place_parent '' /p)" = /p ]
    run gwms_bosco_place_parent nowhere /p
    [ "$status" = 1 ]
    run gwms_bosco_place_parent image:a /p
    [ "$status" = 1 ]
}

@test "place_image makes a file with holes that is larger than the quota, or says what lacks" {
    # Its user's, of features that an old fuse2fs knows, and no journal.
    PATH=$PATH:/usr/sbin
    tools=$PWD/tools
    mkdir tools && printf '#!/bin/sh\n' >tools/fuse2fs && chmod 755 tools/fuse2fs
    gwms_bosco_place_image "$PWD/image" 1000 "$tools"
    [ "$(stat -c %s image)" = $(((1000 * 5 / 4 + 64) * 1048576)) ]
    [ "$(stat -c %b image)" -lt 10000 ]
    features=$(dumpe2fs -h image 2>/dev/null | grep '^Filesystem features')
    [[ $features == *extent* && $features != *journal* && $features != *csum* && $features != *64bit* ]]
    # A name that nobody may execute is none.
    chmod 644 tools/fuse2fs
    PATH=$(dirname "$(command -v mke2fs)") run gwms_bosco_place_image "$PWD/second" 1000 "$tools"
    if [ ! -x "$(dirname "$(command -v mke2fs)")/fuse2fs" ]; then
        [ "$output" = 'no fuse2fs program for a cache image' ]
        [ ! -e second ]
    fi
}

@test "stale: only what is surely dead, ours, and named as our places are" {
    export GWMS_BOSCO_RECORDS=$PWD
    folder=$(gwms_bosco_stale_folder)
    sleep 50 3>&- &
    record=$(gwms_bosco_stale_record "$folder" one $! "$PWD/x/gwms_bosco/cvmfs" '')
    mkdir -p x/gwms_bosco/cvmfs other
    run gwms_bosco_stale_dead "$record"
    [ "$status" = 1 ]
    kill $!
    wait $! || true
    gwms_bosco_stale_dead "$record"
    sed "s|^PLACE=.*|PLACE=$PWD/other|" "$record" >"$folder/two"
    run gwms_bosco_stale_sweep "$folder"
    [ ! -e x/gwms_bosco/cvmfs ]
    [ -d other ]
    [ ! -e "$record" ]
}

@test "stale: another host's pilot is never judged" {
    gwms_bosco_conf_write rec WORLD other-host:boot:1 PILOT 999999 START 1 PLACE /x/gwms_bosco/cvmfs
    run gwms_bosco_stale_dead rec
    [ "$status" = 1 ]
}

@test "stale: a cache goes with its pilot or, where nobody can judge it, when its holder has long been silent" {
    sleep 50 3>&- &
    alive=$!
    mkdir caches caches/gwms-bosco-cache-{alive,dead,away,silent,unowned,new} caches/other
    own() { gwms_bosco_stale_record "$PWD/caches/gwms-bosco-cache-$1" owner "$2" "$PWD/x/gwms_bosco/cvmfs" ''; }
    own alive $alive
    own dead 999999
    own away 999999 && own silent 999999
    sed -i 's/^WORLD=.*/WORLD=another-node:boot:1/' caches/gwms-bosco-cache-{away,silent}/owner
    touch -d '2 days ago' caches/gwms-bosco-cache-silent/owner
    touch -d '2 days ago' caches/gwms-bosco-cache-* caches/other
    touch caches/gwms-bosco-cache-new
    ln -s "$PWD/caches/other" caches/gwms-bosco-cache-link
    gwms_bosco_stale_sweep "$PWD/none" "$PWD/caches"
    kill $alive
    [ "$(cd caches && echo *)" = "$(echo gwms-bosco-cache-{alive,away,link,new} other)" ]
}

@test "stale_folder takes no link" {
    mkdir elsewhere
    ln -s "$PWD/elsewhere" "gwms-bosco-$(id -u)"
    export GWMS_BOSCO_RECORDS=$PWD
    run gwms_bosco_stale_folder
    [[ $output != "$PWD"* ]]
}

@test "place_contained has folders where place_make has links to folders" {
    mkdir -p dist/dist/usr/bin place/dist
    echo client >dist/dist/usr/bin/cvmfs2
    ln -s "$PWD/dist/dist/usr" place/dist/usr
    gwms_bosco_place_contained "$PWD/dist" "$PWD/place"
    [ ! -L place/dist/usr ]
    [ "$(cd place/dist && find ./* ! -type d)" = ./usr/bin/cvmfs2 ]
    [ "$(cat place/dist/usr/bin/cvmfs2)" = client ]
}

@test "run_prefixed keeps words, exit code and stdin, and leaves no fifo" {
    # shellcheck source=/dev/null
    . "$LIB/run_with_cvmfs.sh"
    printf 'MODE=parrot\n' >cvmfs.conf
    printf '%s\n' env 'A=b c' >prefix
    run bash -c ". '$LIB/run_with_cvmfs.sh'; gwms_bosco_run_main '$PWD' sh -c 'cat; echo \"\$A|\$1\"; exit 42' sh 'x  y'" <<<in
    [ "$status" = 42 ]
    [ "$output" = $'in\nb c|x  y' ]
    [ -z "$(find . -name 'signals.*')" ]
}
