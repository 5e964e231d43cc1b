#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

load node

@test "state_open makes a folder of the owner only, beside the job wrapper, and says where" {
    pilot_folder
    gwms_bosco_state_open
    [ "$GWMS_BOSCO_DIR" = "$PWD/gwms_bosco" ]
    [ "$(stat -c %a gwms_bosco)" = 700 ]
    grep -qx "GWMS_BOSCO_DIR $PWD/gwms_bosco" glidein_config
    gwms_bosco_state_open
}

@test "state_open refuses a folder elsewhere, and one that is a link" {
    pilot_folder "GWMS_BOSCO_DIR /etc"
    run gwms_bosco_state_open
    [ "$status" = 1 ]
    [[ $output == *"not below the pilot's folder"* ]]
    sed -i '/^GWMS_BOSCO_DIR/d' glidein_config
    mkdir other && ln -s other gwms_bosco
    run gwms_bosco_state_open
    [ "$status" = 1 ]
    [[ $output == *"not the pilot's own folder"* ]]
}

@test "state_open refuses a pilot's folder with a blank" {
    pilot_folder
    mkdir 'a b' && cd 'a b'
    glidein_config=../glidein_config
    run gwms_bosco_state_open
    [ "$status" = 1 ]
    [[ $output == *"white space"* ]]
    [ ! -e gwms_bosco ]
}

@test "state_unwritable names the folder that cannot be written" {
    pilot_folder
    GWMS_BOSCO_DIR=/a/b
    run gwms_bosco_state_unwritable
    [ "$status" = 1 ]
    [ "$output" = 'cannot write the state folder /a/b' ]
}

@test "state_program writes an executable at once" {
    pilot_folder
    state_folder
    printf '#!/bin/sh\nexit 42\n' | gwms_bosco_state_program tool
    run gwms_bosco/tool
    [ "$status" = 42 ]
    [ "$(stat -c %a gwms_bosco/tool)" = 700 ]
    [ ! -e gwms_bosco/tool.new ]
}

@test "state_read gives the default when file or key is absent" {
    pilot_folder
    state_folder
    [ "$(gwms_bosco_state_read a.conf KEY none)" = none ]
    echo 'OTHER=x' >gwms_bosco/a.conf
    [ "$(gwms_bosco_state_read a.conf KEY none)" = none ]
    echo 'KEY=a=b' >>gwms_bosco/a.conf
    [ "$(gwms_bosco_state_read a.conf KEY none)" = a=b ]
}
