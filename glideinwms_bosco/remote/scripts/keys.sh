#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Functions for the parts that follow, about ~/.ssh/authorized_keys: lines of ours, known by the marker that ends them.
# Lines of others stay byte for byte. The file is replaced by rename; whoever else edits it meanwhile loses nothing: before
# the rename it must be what was read, and what was added to the old file in that moment is carried over.
# Uses bosco_lock_start of lock.sh.

BOSCO_KEYS_ROUNDS=5
BOSCO_KEYS_WAIT_S=15

# bosco_keys_find MARKER: BOSCO_KEYS is the file itself, behind links.
bosco_keys_find() {
  BOSCO_KEYS=$HOME/.ssh/authorized_keys
  if [ -L "$BOSCO_KEYS" ]; then
    BOSCO_KEYS=$(readlink -f "$BOSCO_KEYS") || bosco_remote_fail keys "the link $BOSCO_KEYS leads nowhere"
  fi
  if [ -e "$BOSCO_KEYS" ]; then
    [ -f "$BOSCO_KEYS" ] || bosco_remote_fail keys "$BOSCO_KEYS is not a file"
    [ -O "$BOSCO_KEYS" ] || bosco_remote_fail keys "$BOSCO_KEYS belongs to another user"
  fi
  BOSCO_KEYS_LOCK=${BOSCO_KEYS%/*}/.authorized_keys.gwms-bosco
  # The key's type and its base64, between options of ours and the marker: a line that somebody has loosened is his.
  BOSCO_KEYS_PATTERN="^restrict,.* ssh-ed25519 [A-Za-z0-9+/=]* $(printf '%s\n' "$1" | sed 's/[][\\.*^$]/\\&/g')\$"
}

bosco_keys_others() {
  sed "\\|$BOSCO_KEYS_PATTERN|d"
}

bosco_keys_ours() {
  [ ! -e "$BOSCO_KEYS" ] || sed -n "\\|$BOSCO_KEYS_PATTERN|p" <"$BOSCO_KEYS"
}

# bosco_keys_elsewhere BASE64: whether a line that is not ours allows the same key, without our limits.
bosco_keys_elsewhere() {
  [ -e "$BOSCO_KEYS" ] && bosco_keys_others <"$BOSCO_KEYS" | grep -a -v '^[[:space:]]*#' | grep -a -F -q -- " $1"
}

# A file that is not there counts as an empty one.
bosco_keys_sum() {
  cat -- "$1" 2>/dev/null | sha256sum
}

# A file made by one program only. What has ended without removing it is found out by its process, on another node by age.
bosco_keys_lock() {
  # shellcheck disable=SC2153
  BOSCO_KEYS_ASIDE=$BOSCO_KEYS_LOCK-$BOSCO_NONCE
  BOSCO_LEFT=$BOSCO_KEYS_WAIT_S
  bosco_lock_start $$
  until BOSCO_TEXT=$( (umask 077 && set -C && printf '%s\n' "$$ $BOSCO_START $(uname -n)" >"$BOSCO_KEYS_LOCK") 2>&1); do
    [ -e "$BOSCO_KEYS_LOCK" ] || [ "$BOSCO_LEFT" -lt "$BOSCO_KEYS_WAIT_S" ] || bosco_remote_fail write "$BOSCO_TEXT"
    BOSCO_LEFT=$((BOSCO_LEFT - 1))
    [ "$BOSCO_LEFT" -gt 0 ] || bosco_remote_fail keys "another program is changing $BOSCO_KEYS"
    if bosco_keys_is_left; then
      # By rename: of two that break it only one succeeds.
      mv -T -- "$BOSCO_KEYS_LOCK" "$BOSCO_KEYS_ASIDE" 2>/dev/null || :
      rm -f -- "$BOSCO_KEYS_ASIDE"
    else
      sleep 1
    fi
    bosco_lock_start $$
  done
  BOSCO_KEYS_LOCKED=yes
}

bosco_keys_is_left() {
  BOSCO_HELD=$(sed -n 1p "$BOSCO_KEYS_LOCK" 2>/dev/null) || return 1
  # shellcheck disable=SC2086
  set -- $BOSCO_HELD
  if [ "${3:-}" = "$(uname -n)" ]; then
    bosco_lock_start "$1"
    [ "$BOSCO_START" != "$2" ]
  else
    [ -n "$(find "$BOSCO_KEYS_LOCK" -prune -mmin +2 2>/dev/null)" ]
  fi
}

bosco_keys_sweep() {
  rm -f -- "$BOSCO_KEYS_LOCK.old" "$BOSCO_KEYS_LOCK.new" "$BOSCO_KEYS_LOCK"
}

bosco_keys_release() {
  [ -z "${BOSCO_KEYS_LOCKED:-}" ] || bosco_keys_sweep
  BOSCO_KEYS_LOCKED=
}

# bosco_keys_write WANTED: make .new of .old.
bosco_keys_write() {
  (umask 077 && : >"$BOSCO_KEYS_LOCK.new") || return 1
  if [ -e "$BOSCO_KEYS" ]; then
    chgrp -- "$(stat -c %g -- "$BOSCO_KEYS")" "$BOSCO_KEYS_LOCK.new" 2>/dev/null || :
    chmod -- "$(stat -c %a -- "$BOSCO_KEYS")" "$BOSCO_KEYS_LOCK.new" || return 1
  fi
  bosco_keys_others <"$BOSCO_KEYS_LOCK.old" >"$BOSCO_KEYS_LOCK.new" || return 1
  if [ -n "$1" ]; then
    [ -z "$(tail -c 1 -- "$BOSCO_KEYS_LOCK.new" | tr -d '\n')" ] || printf '\n' >>"$BOSCO_KEYS_LOCK.new" || return 1
    printf '%s\n' "$1" >>"$BOSCO_KEYS_LOCK.new" || return 1
  fi
  sync -- "$BOSCO_KEYS_LOCK.new"
}

bosco_keys_copy() {
  (umask 077 && cat -- "$1" >"$BOSCO_KEYS_LOCK.old")
}

# bosco_keys_replace WANTED SUM: 1 = the file's sum is not SUM any more. BOSCO_KEYS_SUM: what it has become.
bosco_keys_replace() {
  bosco_remote_try write bosco_keys_write "$1"
  BOSCO_KEYS_SUM=$(bosco_keys_sum "$BOSCO_KEYS_LOCK.new")
  [ "$(bosco_keys_sum "$BOSCO_KEYS")" = "$2" ] || return 1
  bosco_remote_try write mv -fT -- "$BOSCO_KEYS_LOCK.new" "$BOSCO_KEYS"
}

# bosco_keys_set WANTED: these lines, one below the other, become all that are ours; none when empty.
bosco_keys_set() {
  if [ "$(bosco_keys_ours)" = "$1" ]; then
    # A program may have been cut off behind its rename.
    [ ! -e "$BOSCO_KEYS_LOCK" ] || ! bosco_keys_is_left || bosco_keys_sweep
    return 0
  fi
  bosco_keys_lock
  BOSCO_ROUNDS=$BOSCO_KEYS_ROUNDS
  while :; do
    BOSCO_SOURCE=/dev/null
    [ ! -e "$BOSCO_KEYS" ] || BOSCO_SOURCE=$BOSCO_KEYS
    exec 8<"$BOSCO_SOURCE"
    bosco_remote_try write bosco_keys_copy "$BOSCO_SOURCE"
    BOSCO_READ=$(bosco_keys_sum "$BOSCO_KEYS_LOCK.old")
    ! bosco_keys_replace "$1" "$BOSCO_READ" || break
    BOSCO_ROUNDS=$((BOSCO_ROUNDS - 1))
    [ "$BOSCO_ROUNDS" -gt 0 ] || bosco_remote_fail keys "$BOSCO_KEYS is changed again and again"
  done
  # Who had the old file open may have written to it after we had read it.
  bosco_remote_try write bosco_keys_copy /dev/fd/8
  [ "$(bosco_keys_sum "$BOSCO_KEYS_LOCK.old")" = "$BOSCO_READ" ] || bosco_keys_replace "$1" "$BOSCO_KEYS_SUM" ||
    bosco_remote_fail keys "$BOSCO_KEYS was changed twice at once; look whether other programs' lines are there"
  exec 8<&-
  bosco_keys_release
}
