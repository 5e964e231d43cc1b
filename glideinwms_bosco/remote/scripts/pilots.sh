#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Second part after begin.sh; another one follows. Says which pilots have left a file in pilots/ that says they run.
# Input: bosco_dir, most files to name.
bosco_remote_param
dir=$BOSCO_PARAM
bosco_remote_param
count=$BOSCO_PARAM
bosco_remote_say NOW "$(date +%s)"
# Any program of the account may write there. Each name is a line, so one with a line end in it is two that do not fit.
find "$dir/pilots" -mindepth 1 -maxdepth 1 -type f 2>/dev/null | cut -b 1-4000 |
  sed -n 's#^.*/\([A-Za-z0-9._-]\{1,200\}\.[0-9]\{1,10\}\.[0-9]\{1,12\}\.[a-z]*\)$#PILOT \1#p' |
  sed -n "1,${count}p"
