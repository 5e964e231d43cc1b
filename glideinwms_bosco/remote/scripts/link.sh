#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Last part, after begin.sh and perhaps pilots.sh. Says where `glite` of the account points to. Input: bosco_dir.
bosco_remote_param
link=$BOSCO_PARAM/glite
if [ -L "$link" ]; then
  bosco_remote_say LINK "$(readlink "$link")"
elif [ -e "$link" ]; then
  bosco_remote_say OTHER -
fi
bosco_remote_end 0
