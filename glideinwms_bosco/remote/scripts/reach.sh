#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Second part after begin.sh: open TCP connections from the login node, one after the other, and tell what comes back.
# Parameters: number of connections; for each: host, port, seconds to wait, how much to read (`line`, `head`: lines up
# to an empty one, or a number of bytes), and what to send as \0ooo for each byte (may be empty).
# Answers `OPEN` or `SHUT reason` for each, after OPEN `DATA hex`.

# For bash, which has /dev/tcp: host, port, seconds, how much, what to send.
# shellcheck disable=SC2016 # bash expands it
BOSCO_REACH='
exec 3<>"/dev/tcp/$1/$2" || exit 1
printf "OPEN\n"
[ -z "$5" ] || printf %b "$5" >&3
case $4 in
  line | head)
    return=$(printf "\r")
    lines=0
    while [ "$lines" -lt 32 ] && IFS= read -r -t "$3" -n 256 line <&3; do
      printf "%s\n" "$line"
      lines=$((lines + 1))
      if [ "$4" = line ] || [ -z "${line%"$return"}" ]; then line=; break; fi
    done
    printf %s "$line"
    ;;
  *) timeout "$3" dd bs=1 count="$4" <&3 2>/dev/null ;;
esac | head -c 1024 | od -An -v -tx1
'

bosco_reach_one() {
  bosco_remote_param
  BOSCO_HOST=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_PORT=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_SECONDS=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_READ=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_STATUS=0
  BOSCO_SAID=$(timeout $((BOSCO_SECONDS + 2)) bash -c "$BOSCO_REACH" reach "$BOSCO_HOST" "$BOSCO_PORT" \
    "$BOSCO_SECONDS" "$BOSCO_READ" "$BOSCO_PARAM" 2>&1 </dev/null) || BOSCO_STATUS=$?
  case $BOSCO_SAID in
    OPEN*)
      bosco_remote_say OPEN
      bosco_remote_say DATA "$(printf '%s' "${BOSCO_SAID#OPEN}" | tr -cd '0-9a-f')"
      ;;
    *)
      [ "$BOSCO_STATUS" != 124 ] || BOSCO_SAID="no answer within $BOSCO_SECONDS s"
      bosco_remote_say SHUT "$(printf '%s' "${BOSCO_SAID##*: }" | tr -s '[:cntrl:]' ' ' | cut -c 1-200)"
      ;;
  esac
}

bosco_reach_main() {
  for BOSCO_TOOL in bash timeout od; do
    command -v "$BOSCO_TOOL" >/dev/null || bosco_remote_fail tools "$BOSCO_TOOL is not installed there"
  done
  bosco_remote_param
  BOSCO_COUNT=$BOSCO_PARAM
  while [ "$BOSCO_COUNT" -gt 0 ]; do
    BOSCO_COUNT=$((BOSCO_COUNT - 1))
    bosco_reach_one
  done
  bosco_remote_end 0
}

bosco_reach_main
