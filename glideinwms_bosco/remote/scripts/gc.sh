#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Follows begin.sh, lock.sh, tree.sh and use.sh. Removes versions that nothing uses, and what cut-off programs left.
# Parameters: bosco_dir, who, seconds of a lock, seconds of a lease, number of versions, the versions.

bosco_gc_main() {
  bosco_remote_param
  BOSCO_DIR=$BOSCO_PARAM
  bosco_lock_params
  bosco_remote_param
  BOSCO_LEASE_S=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_LEFT=$BOSCO_PARAM
  cd -P -- "$BOSCO_DIR" || bosco_remote_fail gc "$BOSCO_DIR cannot be entered"
  trap bosco_lock_release EXIT
  trap 'exit 4' HUP INT TERM PIPE
  bosco_lock_take
  bosco_remote_try write bosco_tree_sweep
  [ -z "$BOSCO_TEXT" ] || printf '%s\n' "$BOSCO_TEXT"
  BOSCO_USED=$(bosco_use_all "$BOSCO_LEASE_S" | sed '/ \(dead\|expired\) [^ ]*$/d')
  bosco_use_sweep "$BOSCO_LEASE_S"
  bosco_tree_current || :
  bosco_tree_resolved || :
  while [ "$BOSCO_LEFT" -gt 0 ]; do
    BOSCO_LEFT=$((BOSCO_LEFT - 1))
    bosco_remote_param
    # A pilot may have come since the versions were looked at.
    case "$BOSCO_CURRENT $BOSCO_RESOLVED $BOSCO_USED" in
      *"$BOSCO_PARAM"*)
        bosco_remote_say KEPT "$BOSCO_PARAM"
        continue
        ;;
    esac
    [ ! -d "versions/$BOSCO_PARAM" ] || bosco_remote_try write bosco_tree_drop "$BOSCO_PARAM"
    bosco_remote_say REMOVED "$BOSCO_PARAM"
  done
  bosco_remote_end 0
}

bosco_gc_main
