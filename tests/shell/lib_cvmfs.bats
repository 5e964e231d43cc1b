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
    read -r cache quota < <(gwms_bosco_place_cache local:"$PWD/p" x name 99999999)
    [ "$cache" = "$PWD/p/name" ]
    [ "$(stat -c %a "$cache")" = 700 ]
    [ "$quota" -lt 99999999 ]
    run gwms_bosco_place_cache local:"$PWD/p" x name 100
    [ "$status" = 1 ]
    run gwms_bosco_place_cache nowhere x name 100
    [ "$status" = 1 ]
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
