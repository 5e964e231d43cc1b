#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Second part after begin.sh: tell what the account has, change nothing.
# Parameters: bosco_dir, number of paths, the paths, number of batch commands, the commands.

bosco_inspect_host() {
  bosco_remote_say ACCOUNT "$(id -un 2>/dev/null || id -u)"
  bosco_remote_say NODE "$(uname -n)"
  bosco_remote_say HOME "$PWD"
  bosco_remote_say ARCH "$(uname -m)"
  BOSCO_LIBC=$(getconf GNU_LIBC_VERSION 2>/dev/null) || BOSCO_LIBC=$(ldd --version 2>/dev/null | sed -n 1p) || :
  bosco_remote_say LIBC "${BOSCO_LIBC##* }"
  for BOSCO_TOOL in tar gzip sha256sum awk sed stat mv cp ln df; do
    command -v "$BOSCO_TOOL" >/dev/null 2>&1 || bosco_remote_say NO-TOOL "$BOSCO_TOOL"
  done
}

# Space is asked where the files would lie: the deepest directory that exists.
bosco_inspect_space() {
  BOSCO_PLACE=$1
  while [ ! -d "$BOSCO_PLACE" ]; do
    case $BOSCO_PLACE in
      */*) BOSCO_PLACE=${BOSCO_PLACE%/*} ;;
      *) BOSCO_PLACE=. ;;
    esac
  done
  [ -w "$BOSCO_PLACE" ] || bosco_remote_say NOT-WRITABLE "$(cd -P -- "$BOSCO_PLACE" && pwd -P)"
  df -Pk -- "$BOSCO_PLACE" 2>/dev/null | awk 'NR == 2 { print "FREE-KB " $4 }'
  df -Pi -- "$BOSCO_PLACE" 2>/dev/null | awk 'NR == 2 && $2 > 0 { print "FREE-INODES " $4 }'
}

bosco_inspect_link() {
  if [ -L "$1/glite" ]; then
    bosco_remote_say GLITE link "$(readlink "$1/glite")"
  elif [ -d "$1/glite" ]; then
    bosco_remote_say GLITE directory
  elif [ -e "$1/glite" ]; then
    bosco_remote_say GLITE other
  else
    bosco_remote_say GLITE none
  fi
}

bosco_inspect_directories() {
  for BOSCO_NAME in sandbox log; do
    [ -d "$1/$BOSCO_NAME" ] || bosco_remote_say NO-DIRECTORY "$BOSCO_NAME"
  done
}

# bosco_inspect_version DIRECTORY NAME PATH...: digests, types and modes of these paths in one version.
bosco_inspect_version() {
  cd -- "$1" 2>/dev/null || return 0
  BOSCO_NAME=$2
  shift 2
  [ "$#" -gt 0 ] || return 0
  # Links come first: sha256sum would follow them.
  for BOSCO_PATH; do
    [ ! -L "$BOSCO_PATH" ] || bosco_remote_say TARGET "$BOSCO_NAME" "$BOSCO_PATH" "$(readlink "$BOSCO_PATH")"
  done
  stat -c "MODE $BOSCO_NAME %f %n" -- "$@" 2>/dev/null || :
  sha256sum -- "$@" 2>/dev/null | sed "s/^/SUM $BOSCO_NAME /" || :
}

bosco_inspect_commands() {
  # Job submission runs under a login shell; its profile may print, read or hang.
  # shellcheck disable=SC2016
  timeout 30 /bin/bash -l -c '
    for c; do command -v "$c" >/dev/null 2>&1 || printf "\nGWMS-MISSING %s\n" "$c"; done
  ' sh "$@" </dev/null 2>/dev/null | sed -n 's/^GWMS-MISSING /NO-COMMAND /p'
}

bosco_inspect_list() {
  bosco_remote_param
  BOSCO_COUNT=$BOSCO_PARAM
}

bosco_inspect_main() {
  bosco_remote_param
  BOSCO_DIR=$BOSCO_PARAM
  bosco_inspect_host
  bosco_inspect_space "$BOSCO_DIR"
  bosco_inspect_link "$BOSCO_DIR"
  bosco_inspect_directories "$BOSCO_DIR"
  bosco_inspect_list
  set --
  while [ "$#" -lt "$BOSCO_COUNT" ]; do
    bosco_remote_param
    set -- "$@" "$BOSCO_PARAM"
  done
  for BOSCO_VERSION in "$BOSCO_DIR"/versions/*; do
    if [ ! -d "$BOSCO_VERSION" ] || [ -L "$BOSCO_VERSION" ]; then
      continue
    fi
    BOSCO_NAME=${BOSCO_VERSION##*/}
    case $BOSCO_NAME in
      *[!0-9a-f]*) continue ;;
    esac
    bosco_remote_say VERSION "$BOSCO_NAME"
    (bosco_inspect_version "$BOSCO_VERSION" "$BOSCO_NAME" "$@")
  done
  bosco_inspect_list
  set --
  while [ "$#" -lt "$BOSCO_COUNT" ]; do
    bosco_remote_param
    set -- "$@" "$BOSCO_PARAM"
  done
  [ "$#" -eq 0 ] || bosco_inspect_commands "$@"
  bosco_remote_end 0
}

bosco_inspect_main
