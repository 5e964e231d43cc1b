#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Follows begin.sh, lock.sh and tree.sh. Lets `glite` point to another version that is there.
# Parameters: bosco_dir, who, seconds of a lock, the version, the version that `glite` is expected to point to (or -).

bosco_switch_cleanup() {
  [ -z "${BOSCO_LINK:-}" ] || rm -f -- "$BOSCO_LINK"
  bosco_lock_release
}

bosco_switch_check() {
  cd -- "versions/$BOSCO_DIGEST" && sha256sum -c --quiet manifest.sha256sums
}

bosco_switch_main() {
  bosco_remote_param
  BOSCO_DIR=$BOSCO_PARAM
  bosco_lock_params
  bosco_remote_param
  BOSCO_DIGEST=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_EXPECTED=$BOSCO_PARAM
  cd -P -- "$BOSCO_DIR" || bosco_remote_fail switch "$BOSCO_DIR cannot be entered"
  trap bosco_switch_cleanup EXIT
  trap 'exit 4' HUP INT TERM PIPE
  bosco_lock_take
  if ! bosco_tree_current; then
    BOSCO_CURRENT=-
    { [ ! -e glite ] && [ ! -L glite ]; } || bosco_remote_fail occupied 'glite is not a link of ours'
  fi
  [ "$BOSCO_CURRENT" = "$BOSCO_EXPECTED" ] || bosco_remote_fail moved "glite points to $BOSCO_CURRENT now"
  # It was looked at before; between that and the lock others may have been at work.
  [ -d "versions/$BOSCO_DIGEST" ] || bosco_remote_fail moved "version $BOSCO_DIGEST is not there"
  bosco_remote_try verify bosco_switch_check
  bosco_tree_switch "$BOSCO_DIGEST"
  bosco_remote_say SWITCHED "$BOSCO_DIGEST"
  bosco_remote_end 0
}

bosco_switch_main
