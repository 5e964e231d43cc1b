#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Follows begin.sh. What a closed site's pilots need and a login node can tell: image file, preload library, egress proxy,
# its own names and keys as workers see them. Changes nothing.
# Parameters: image file (or -), seconds for its sha256 (0: not asked), host and port of the egress proxy (or - and -),
# seconds per connection, number of preload libraries, the libraries, port of the login nodes, their number, the nodes.

# BOSCO_LIMIT: timeout(1) with these seconds, where there is one. KILL: a file system that hangs does not take TERM.
bosco_network_limit() {
  BOSCO_LIMIT=
  ! command -v timeout >/dev/null 2>&1 || BOSCO_LIMIT="timeout -s KILL $1"
}

# Low priority: the login node is everybody's.
bosco_network_image() {
  [ "$1" != - ] || return 0
  bosco_network_limit "$BOSCO_CONNECT_S"
  BOSCO_SIZE=$($BOSCO_LIMIT stat -L -c '%s %F' -- "$1" 2>/dev/null) || BOSCO_SIZE=
  if [ -z "$BOSCO_SIZE" ] || [ ! -r "$1" ]; then
    bosco_remote_say IMAGE none
    return 0
  fi
  bosco_remote_say IMAGE "$BOSCO_SIZE"
  case $BOSCO_SIZE in
    *' regular file' | *' regular empty file') ;;
    *) return 0 ;;
  esac
  [ "$2" -gt 0 ] || return 0
  bosco_network_limit "$2"
  # Without a limit it could keep the probe for hours.
  [ -n "$BOSCO_LIMIT" ] || return 0
  BOSCO_SUM=$($BOSCO_LIMIT nice -n 19 sha256sum -- "$1" 2>/dev/null) || return 0
  bosco_remote_say IMAGE-SUM "$(printf '%s\n' "$BOSCO_SUM" | sed 's/^\\//' | cut -c 1-64)"
}

bosco_network_libraries() {
  bosco_remote_param
  BOSCO_LEFT=$BOSCO_PARAM
  while [ "$BOSCO_LEFT" -gt 0 ]; do
    bosco_remote_param
    if [ -f "$BOSCO_PARAM" ] && [ -r "$BOSCO_PARAM" ]; then bosco_remote_say LIBRARY "$BOSCO_PARAM"; fi
    BOSCO_LEFT=$((BOSCO_LEFT - 1))
  done
}

# Nothing is sent.
bosco_network_egress() {
  [ "$1" != - ] || return 0
  bosco_network_limit "$BOSCO_CONNECT_S"
  # shellcheck disable=SC2016 # the inner shell's
  if BOSCO_TEXT=$($BOSCO_LIMIT bash -c 'exec 3<>"/dev/tcp/$1/$2"' sh "$1" "$2" 2>&1 </dev/null); then
    bosco_remote_say EGRESS open
  else
    bosco_remote_say EGRESS "closed $(printf '%s' "$BOSCO_TEXT" | tr -s '[:cntrl:]' ' ' | sed 's/[^ -~]/?/g' | cut -c 1-200)"
  fi
}

bosco_network_logins() {
  bosco_remote_param
  BOSCO_PORT=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_LEFT=$BOSCO_PARAM
  command -v ssh-keyscan >/dev/null 2>&1 || bosco_remote_say NO-KEYSCAN -
  bosco_network_limit "$((BOSCO_CONNECT_S * 4))"
  while [ "$BOSCO_LEFT" -gt 0 ]; do
    bosco_remote_param
    # One line for each of its keys, and a last one of the host alone: it was asked.
    $BOSCO_LIMIT ssh-keyscan -T "$BOSCO_CONNECT_S" -p "$BOSCO_PORT" -- "$BOSCO_PARAM" 2>/dev/null </dev/null |
      sed -n 's#^[^ ]* \([a-z0-9@.-]\{1,60\}\) \([A-Za-z0-9+/=]\{1,2000\}\)$#\1 \2#p' |
      sed -e 20q -e "s#^#HOST-KEY $BOSCO_PARAM #"
    bosco_remote_say HOST "$BOSCO_PARAM"
    BOSCO_LEFT=$((BOSCO_LEFT - 1))
  done
}

bosco_network_main() {
  bosco_remote_param
  BOSCO_IMAGE=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_SUM_S=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_EGRESS=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_EGRESS_PORT=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_CONNECT_S=$BOSCO_PARAM
  bosco_network_libraries
  bosco_network_logins
  bosco_network_egress "$BOSCO_EGRESS" "$BOSCO_EGRESS_PORT"
  bosco_network_image "$BOSCO_IMAGE" "$BOSCO_SUM_S"
  bosco_remote_end 0
}

bosco_network_main
