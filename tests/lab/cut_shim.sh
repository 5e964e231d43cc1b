#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Stands in front of a command that changes something (its name is the link's). Counts the calls of one run, and at one
# of them breaks the run as the folder of the test says: `at` is the number of the call, `how` is
#   cut    the connection's sshd, the program and this command are killed before the command
#   half   the same when the command has done a part
#   fill   the disk is full from here on
# 0 in `at` only counts.
PATH=/usr/bin:/bin
export PATH
CUTS=/var/lib/gwms-cuts
NAME=${0##*/}

cut_half() {
  case $NAME in
    rm) for PLACE; do [ ! -d "$PLACE" ] || find "$PLACE" -type f | sed -n 1,3p | xargs -r rm -f; done ;;
    tar) head -c 100000 | tar -x -z -o -m -f - -C "$7" 2>/dev/null ;;
  esac
}

cut_now() {
  PID=$$ VICTIMS=
  while read -r COMM <"/proc/$PID/comm"; do
    VICTIMS="$PID $VICTIMS"
    case $COMM in sshd*) break ;; esac
    read -r STAT <"/proc/$PID/stat"
    # shellcheck disable=SC2086
    set -- ${STAT##*) }
    PID=$2
  done
  # shellcheck disable=SC2086
  kill -9 $VICTIMS
}

COUNT=$(($(cat "$CUTS/count") + 1))
echo "$COUNT" >"$CUTS/count"
printf '%s %s\n' "$NAME" "$*" >>"$CUTS/calls"
if [ "$COUNT" -eq "$(cat "$CUTS/at")" ]; then
  case $(cat "$CUTS/how") in
    cut) cut_now ;;
    half)
      cut_half "$@"
      cut_now
      ;;
    fill) cat /dev/zero >"$(cat "$CUTS/disk")/filler" 2>/dev/null ;;
  esac
fi
exec "$NAME" "$@"
