#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Follows begin.sh, lock.sh, tree.sh, use.sh and keys.sh. Takes away what we have installed, and nothing else.
# Parameters: bosco_dir, who, seconds of a lock, seconds of a lease, `idle` (nothing may be in use) or `forced`, `data`
# (sandbox and log go too) or `-`, marker of the tunnel's key in authorized_keys.
# The link goes first: from then on nothing new starts here. Whatever is cut off, the next `remove` finishes.

bosco_remove_cleanup() {
  bosco_keys_release
  bosco_lock_release
}

# First nobody may log in with it any more, then it goes.
bosco_remove_key() {
  # Where somebody has removed the key before, its line still lets in who has a copy.
  [ -e egress ] || [ -L egress ] || grep -a -q -s -F -- "$1" "$HOME/.ssh/authorized_keys" || return 0
  bosco_keys_find "$1"
  bosco_keys_set ''
  bosco_remote_try write rm -rf -- egress
}

bosco_remove_versions() {
  for BOSCO_NAME in versions/*; do
    bosco_tree_is_version "$BOSCO_NAME" || continue
    bosco_tree_drop "${BOSCO_NAME#versions/}" || return 1
  done
}

# Only empty directories go; what is not ours keeps them.
bosco_remove_folders() {
  [ "$1" != data ] || rm -rf -- sandbox log || return 1
  rm -rf -- leases history pilots || return 1
  [ ! -d versions ] || rmdir -- versions 2>/dev/null || :
}

bosco_remove_main() {
  bosco_remote_param
  BOSCO_DIR=$BOSCO_PARAM
  bosco_lock_params
  bosco_remote_param
  BOSCO_LEASE_S=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_HOW=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_DATA=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_MARKER=$BOSCO_PARAM
  cd -P -- "$BOSCO_DIR" || bosco_remote_fail remove "$BOSCO_DIR cannot be entered"
  trap bosco_remove_cleanup EXIT
  trap 'exit 4' HUP INT TERM PIPE
  bosco_lock_take
  BOSCO_USED=$(bosco_use_all "$BOSCO_LEASE_S" | sed '/ \(dead\|expired\) [^ ]*$/d')
  [ "$BOSCO_HOW" = forced ] || [ -z "$BOSCO_USED" ] || bosco_remote_fail in-use "$BOSCO_USED"
  if bosco_tree_current; then
    bosco_remote_try write rm -f -- glite
  elif bosco_tree_resolved && [ "$BOSCO_HOW" != forced ]; then
    bosco_remote_fail in-use "glite, which is not a link of ours, leads to version $BOSCO_RESOLVED"
  fi
  bosco_remove_key "$BOSCO_MARKER"
  bosco_remote_try write bosco_tree_sweep
  bosco_remote_try write bosco_remove_versions
  bosco_remote_try write bosco_remove_folders "$BOSCO_DATA"
  # The lock is the last thing: who waits for it finds the folder finished.
  rm -rf -- lock lock.d
  # A link to the folder is the site's or the operator's: without its target the next deploy could not be made.
  [ -L "$HOME/$BOSCO_DIR" ] || rmdir -- "$PWD" 2>/dev/null || :
  bosco_remote_say DONE -
  bosco_remote_end 0
}

bosco_remove_main
