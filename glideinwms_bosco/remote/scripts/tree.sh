#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Functions for the parts that follow, about versions and the link `glite`. The current directory is bosco_dir.
# A version records itself in two files: manifest.sha256sums, for `sha256sum -c`, and manifest.entries, one line for
# each thing in it: `file mode digest - path`, `link - - target path`, `exec - - dynamic-linker path` and
# `info - - value name`.

BOSCO_HISTORY_LINES=100

bosco_tree_is_digest() {
  [ "${#1}" -eq 64 ] || return 1
  case $1 in
    *[!0-9a-f]*) return 1 ;;
  esac
}

# bosco_tree_is_version PLACE
bosco_tree_is_version() {
  [ -d "$1" ] && [ ! -L "$1" ] && bosco_tree_is_digest "${1#versions/}"
}

# BOSCO_CURRENT: the version `glite` points to. 1 = it is no link of ours.
bosco_tree_current() {
  BOSCO_CURRENT=
  BOSCO_TARGET=$(readlink glite 2>/dev/null) || return 1
  [ "$BOSCO_TARGET" = "versions/${BOSCO_TARGET#versions/}" ] || return 1
  bosco_tree_is_digest "${BOSCO_TARGET#versions/}" || return 1
  BOSCO_CURRENT=${BOSCO_TARGET#versions/}
}

# bosco_tree_remember DIGEST: make it the last line of `history`. A full disk must not stop a switch.
bosco_tree_remember() {
  BOSCO_LAST=$(tail -n 1 history 2>/dev/null) || :
  [ "${BOSCO_LAST##* }" != "$1" ] || return 0
  {
    tail -n "$((BOSCO_HISTORY_LINES - 1))" history 2>/dev/null || :
    printf '%s %s\n' "$(date +%s)" "$1"
  } 2>/dev/null >".history-$BOSCO_NONCE" && mv -fT -- ".history-$BOSCO_NONCE" history && return 0
  rm -f -- ".history-$BOSCO_NONCE" || :
  bosco_remote_say UNRECORDED "$1"
}

# BOSCO_RESOLVED: the version in which `glite` ends, however it is written (an absolute link, one with a slash behind).
# 1 = it ends in none.
bosco_tree_resolved() {
  BOSCO_RESOLVED=
  BOSCO_TARGET=$(readlink -f glite 2>/dev/null) || return 1
  BOSCO_TARGET=${BOSCO_TARGET#"$(readlink -f versions)/"}
  bosco_tree_is_digest "${BOSCO_TARGET%%/*}" || return 1
  # shellcheck disable=SC2034
  BOSCO_RESOLVED=${BOSCO_TARGET%%/*}
}

bosco_tree_link() {
  ln -s -- "versions/$1" "$BOSCO_LINK" || return 1
  mv -fT -- "$BOSCO_LINK" glite
}

# bosco_tree_switch DIGEST: by rename. History is written before for what was, and after for what is: cut in between,
# its last line is still the version that was in use before.
bosco_tree_switch() {
  BOSCO_LINK=".glite-$BOSCO_NONCE"
  ! bosco_tree_current || bosco_tree_remember "$BOSCO_CURRENT"
  bosco_remote_try write bosco_tree_link "$1"
  bosco_tree_remember "$1"
  sync -- versions "versions/$1" . 2>/dev/null || :
}

# bosco_tree_libraries TREE ENTRIES: the dynamic linker itself says what it cannot find.
bosco_tree_libraries() {
  while read -r BOSCO_OP _ _ BOSCO_SOURCE BOSCO_PATH; do
    [ "$BOSCO_OP" = exec ] || continue
    [ -x "$BOSCO_SOURCE" ] || {
      printf '%s needs the dynamic linker %s: not found\n' "$BOSCO_PATH" "$BOSCO_SOURCE"
      return 1
    }
    BOSCO_STATUS=0
    BOSCO_SAYS=$("$BOSCO_SOURCE" --list "$1/$BOSCO_PATH" 2>&1) || BOSCO_STATUS=$?
    BOSCO_MISSING=$(printf '%s\n' "$BOSCO_SAYS" | sed -n "s|$1/||g; /not found/p" | sed -n 1,5p)
    [ "$BOSCO_STATUS" -eq 0 ] || [ -n "$BOSCO_MISSING" ] || BOSCO_MISSING=$BOSCO_SAYS
    [ -z "$BOSCO_MISSING" ] || {
      printf '%s: %s\n' "$BOSCO_PATH" "$BOSCO_MISSING"
      return 1
    }
  done <"$2"
}

# bosco_tree_drop DIGEST: away by rename first, so that a version is there whole or not at all.
bosco_tree_drop() {
  mv -T -- "versions/$1" "versions/.staging-removed-$1" || return 1
  rm -rf -- "versions/.staging-removed-$1"
}

# Leftovers of programs that were cut off. Only under the lock: nobody else is building.
bosco_tree_sweep() {
  for BOSCO_OLD in versions/.staging-* .glite-* .history-* .lock-*; do
    [ -e "$BOSCO_OLD" ] || [ -L "$BOSCO_OLD" ] || continue
    rm -rf -- "$BOSCO_OLD" || return 1
    bosco_remote_say SWEPT "$BOSCO_OLD"
  done
}
