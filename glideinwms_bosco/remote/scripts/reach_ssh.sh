#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Second part after begin.sh: log in to another sshd with a key of the account, and ask it to open targets.
# Parameters: host, port, user, path of the key below the home, seconds for each, number of lines of known_hosts and
# these lines, number of targets and these (`host:port`). Answers for each target `TARGET` and then `LOG text` lines.

bosco_reach_cleanup() {
  [ -z "${BOSCO_KNOWN:-}" ] || rm -f -- "$BOSCO_KNOWN"
}

bosco_reach_target() {
  bosco_remote_param
  bosco_remote_say TARGET
  BOSCO_LOG=$(timeout "$BOSCO_SECONDS" ssh -F none -W "$BOSCO_PARAM" -p "$BOSCO_PORT" -i "$HOME/$BOSCO_KEY" \
    -o BatchMode=yes -o StrictHostKeyChecking=yes -o "UserKnownHostsFile=$BOSCO_KNOWN" -o GlobalKnownHostsFile=none \
    -o IdentitiesOnly=yes -o IdentityAgent=none -o LogLevel=DEBUG2 -o "ConnectTimeout=$BOSCO_SECONDS" \
    -- "$BOSCO_USER@$BOSCO_HOST" 2>&1 >/dev/null </dev/null | tr -d '\000-\010\013-\037\177-\377' | cut -c 1-300 |
    grep -E '^[^d]|open (confirm|failed)' | tail -n 8) || :
  printf '%s\n' "$BOSCO_LOG" | sed 's/^/LOG /'
}

bosco_reach_main() {
  for BOSCO_NAME in BOSCO_HOST BOSCO_PORT BOSCO_USER BOSCO_KEY BOSCO_SECONDS; do
    bosco_remote_param
    eval "$BOSCO_NAME=\$BOSCO_PARAM"
  done
  if [ ! -r "$BOSCO_KEY" ]; then
    bosco_remote_say NO-KEY "$BOSCO_KEY"
    bosco_remote_end 0
  fi
  trap bosco_reach_cleanup EXIT
  BOSCO_KNOWN=$(mktemp) || bosco_remote_fail write 'no temporary file can be made'
  bosco_remote_param
  BOSCO_COUNT=$BOSCO_PARAM
  while [ "$BOSCO_COUNT" -gt 0 ]; do
    BOSCO_COUNT=$((BOSCO_COUNT - 1))
    bosco_remote_param
    printf '%s\n' "$BOSCO_PARAM" >>"$BOSCO_KNOWN"
  done
  bosco_remote_param
  BOSCO_COUNT=$BOSCO_PARAM
  while [ "$BOSCO_COUNT" -gt 0 ]; do
    BOSCO_COUNT=$((BOSCO_COUNT - 1))
    bosco_reach_target
  done
  bosco_remote_end 0
}

bosco_reach_main
