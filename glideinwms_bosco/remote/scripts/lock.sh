#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Functions for the parts that follow: one operator at a time changes an account.
# The program itself holds flock(2) on bosco_dir/lock; the kernel gives it back when the program ends, however it ends,
# so a connection that breaks leaves nothing locked. Where flock(1) is missing or the file system refuses it, lock.d is
# made instead; that one is broken when its maker is dead, or old and on another node.

# bosco_lock_params: parameters are who (`operator@host command`) and the seconds a lock of another node may stand.
bosco_lock_params() {
  bosco_remote_param
  BOSCO_WHO=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_LOCK_S=$BOSCO_PARAM
}

# bosco_lock_start PID: BOSCO_START is the start time of a process in clock ticks, empty when there is none.
bosco_lock_start() {
  BOSCO_START=
  IFS= read -r BOSCO_STAT 2>/dev/null <"/proc/$1/stat" || return 0
  # shellcheck disable=SC2086
  set -- ${BOSCO_STAT##*) }
  BOSCO_START=${20:-}
}

# bosco_lock_busy FILE: who holds it has written so there, unless it has just begun.
bosco_lock_busy() {
  BOSCO_HELD=$(sed -n 1p "$1" 2>/dev/null) || :
  [ -n "$BOSCO_HELD" ] || {
    sleep 1
    BOSCO_HELD=$(sed -n 1p "$1" 2>/dev/null) || :
  }
  bosco_remote_fail busy "held by ${BOSCO_HELD:-somebody}"
}

# 0 = taken, 1 = another program has it, 2 = no such lock can be had here.
bosco_lock_flock() {
  command -v flock >/dev/null 2>&1 || return 2
  for _ in 1 2 3; do
    # A failed redirection of exec would end this shell.
    (: >>lock) 2>/dev/null || return 2
    exec 9>>lock
    BOSCO_TEXT=$(flock -n 9 2>&1) || {
      [ -z "$BOSCO_TEXT" ] || return 2
      return 1
    }
    # `remove` may have taken the file away between open and flock; what we hold then keeps nobody out.
    [ "$(stat -L -c %d:%i -- lock 2>/dev/null)" != "$(stat -L -c %d:%i -- /dev/fd/9)" ] || return 0
  done
  return 1
}

# Whether the maker of lock.d is known to have ended.
bosco_lock_is_left() {
  BOSCO_HELD=$(sed -n 1p lock.d/holder 2>/dev/null) || :
  BOSCO_SINCE=$(stat -c %Y -- lock.d 2>/dev/null) || return 0
  BOSCO_AGE=$(($(date +%s) - BOSCO_SINCE))
  # shellcheck disable=SC2086
  set -- $BOSCO_HELD
  if [ "${4:-}" = "$(uname -n)" ]; then
    bosco_lock_start "$2"
    [ "$BOSCO_START" != "$3" ]
  else
    # Without a holder it was made by a program that ended in the same moment.
    [ -n "$BOSCO_HELD" ] || BOSCO_LOCK_S=60
    [ "$BOSCO_AGE" -gt "$BOSCO_LOCK_S" ] || [ "$BOSCO_AGE" -lt "-$BOSCO_LOCK_S" ]
  fi
}

bosco_lock_mkdir() {
  if [ -d lock.d ] && bosco_lock_is_left; then
    # By rename: of two that break it only one succeeds.
    # shellcheck disable=SC2153
    mv -T -- lock.d ".lock-$BOSCO_NONCE" 2>/dev/null && rm -rf -- ".lock-$BOSCO_NONCE"
  fi
  BOSCO_TEXT=$(mkdir -- lock.d 2>&1) || {
    [ -d lock.d ] || bosco_remote_fail write "$BOSCO_TEXT"
    bosco_lock_busy lock.d/holder
  }
  BOSCO_LOCKED=lock.d
  printf '%s\n' "$BOSCO_HOLDER" 2>/dev/null >lock.d/holder || :
}

# bosco_lock_take: the current directory is bosco_dir. Ends the program with `ERROR busy` when another one is at work.
bosco_lock_take() {
  BOSCO_LOCKED='' BOSCO_FLOCKED=''
  bosco_lock_start $$
  BOSCO_HOLDER="$(date +%s) $$ $BOSCO_START $(uname -n) $BOSCO_WHO"
  BOSCO_STATUS=0
  bosco_lock_flock || BOSCO_STATUS=$?
  [ "$BOSCO_STATUS" -ne 1 ] || bosco_lock_busy lock
  if [ "$BOSCO_STATUS" -eq 2 ] || [ -d lock.d ]; then
    bosco_lock_mkdir
  fi
  if [ "$BOSCO_STATUS" -eq 0 ]; then
    BOSCO_FLOCKED=yes
    # On a full disk nobody learns who holds it; it holds all the same.
    printf '%s\n' "$BOSCO_HOLDER" 2>/dev/null >lock || :
  fi
}

bosco_lock_release() {
  [ -z "${BOSCO_FLOCKED:-}" ] || [ ! -e lock ] || : >lock
  [ -z "${BOSCO_LOCKED:-}" ] || rm -rf -- "$BOSCO_LOCKED"
}
