#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Functions for the parts that follow: which versions are in use. The current directory is bosco_dir.
# On this node /proc says it; on the others the leases that bin/blahpd and bin/condor_ft-gahp leave in leases/, empty
# files called <digest>@<pid>.<start time in clock ticks>@<node>.

# bosco_use_processes: `USE digest pid name` for each process of the account that runs from a version, or has its path
# in arguments or environment, as batch jobs have that were submitted through it.
bosco_use_processes() {
  BOSCO_TOP=$(pwd -P)
  BOSCO_PATTERN=$(printf '%s\n' "$BOSCO_TOP" | sed 's/[][\\.*^$]/\\&/g')
  set --
  for BOSCO_PROCESS in /proc/[0-9]*; do
    [ ! -O "$BOSCO_PROCESS" ] || set -- "$@" "$BOSCO_PROCESS/cmdline" "$BOSCO_PROCESS/environ"
  done
  {
    [ "$#" -eq 0 ] || grep -a -s -o -H "$BOSCO_PATTERN/versions/[0-9a-f]\{64\}" "$@" || :
    for BOSCO_PROCESS; do
      BOSCO_PROCESS=${BOSCO_PROCESS%/*}
      [ "${BOSCO_SEEN:-}" != "$BOSCO_PROCESS" ] || continue
      BOSCO_SEEN=$BOSCO_PROCESS
      BOSCO_EXE=$(readlink "$BOSCO_PROCESS/exe" 2>/dev/null) || continue
      printf '%s/exe:%s\n' "$BOSCO_PROCESS" "$BOSCO_EXE" | sed -n "\\|:$BOSCO_PATTERN/versions/|p"
    done
  } | sed -n 's|^/proc/\([0-9]*\)/[a-z]*:.*/versions/\([0-9a-f]\{64\}\).*|\2 \1|p' | sort -u |
    while read -r BOSCO_DIGEST_USED BOSCO_PID; do
      BOSCO_COMM=
      IFS= read -r BOSCO_COMM 2>/dev/null <"/proc/$BOSCO_PID/comm" || continue
      bosco_remote_say USE "$BOSCO_DIGEST_USED" "$BOSCO_PID" "$BOSCO_COMM"
    done
}

# bosco_use_leases SECONDS: `LEASE digest pid node age state file`; state is live or dead on this node, assumed or (older
# than SECONDS) expired on another.
bosco_use_leases() {
  # This node's clock may be far off. Under the lock the lock file, written a moment ago, has the time of the file system,
  # which the leases have too.
  BOSCO_NOW=
  [ -z "${BOSCO_FLOCKED:-}" ] || BOSCO_NOW=$(stat -c %Y -- lock 2>/dev/null) || :
  [ -z "${BOSCO_LOCKED:-}" ] || BOSCO_NOW=$(stat -c %Y -- lock.d/holder 2>/dev/null) || :
  [ -n "$BOSCO_NOW" ] || BOSCO_NOW=$(date +%s)
  BOSCO_HERE=$(cat /proc/sys/kernel/hostname 2>/dev/null || uname -n)
  for BOSCO_LEASE in leases/*@*.*@*; do
    [ -f "$BOSCO_LEASE" ] || continue
    BOSCO_NAME=${BOSCO_LEASE#leases/}
    # What no launcher has made says nothing, and must not spoil the answer.
    case $BOSCO_NAME in *[!A-Za-z0-9@._-]*) continue ;; esac
    bosco_tree_is_digest "${BOSCO_NAME%%@*}" || continue
    BOSCO_NODE=${BOSCO_NAME#*@*@}
    BOSCO_PID=${BOSCO_NAME#*@}
    BOSCO_PID=${BOSCO_PID%%@*}
    BOSCO_AGE=$((BOSCO_NOW - $(stat -c %Y -- "$BOSCO_LEASE" 2>/dev/null || echo "$BOSCO_NOW")))
    if [ "$BOSCO_NODE" = "$BOSCO_HERE" ]; then
      bosco_lock_start "${BOSCO_PID%%.*}"
      BOSCO_STATE=dead
      # shellcheck disable=SC2153
      [ "$BOSCO_START" != "${BOSCO_PID#*.}" ] || BOSCO_STATE=live
    else
      BOSCO_STATE=assumed
      [ "$BOSCO_AGE" -le "$1" ] || BOSCO_STATE=expired
    fi
    bosco_remote_say LEASE "${BOSCO_NAME%%@*}" "${BOSCO_PID%%.*}" "$BOSCO_NODE" "$BOSCO_AGE" "$BOSCO_STATE" "$BOSCO_NAME"
  done
}

bosco_use_all() {
  bosco_use_processes
  bosco_use_leases "$1"
}

# bosco_use_sweep SECONDS: leases that say nothing any more.
bosco_use_sweep() {
  bosco_use_leases "$1" | while read -r _ _ _ _ _ BOSCO_STATE BOSCO_NAME; do
    case $BOSCO_STATE in
      dead | expired) rm -f -- "leases/$BOSCO_NAME" || : ;;
    esac
  done
}
