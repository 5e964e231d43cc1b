#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Second part after begin.sh: tell what the account has, change nothing.
# Parameters: bosco_dir, seconds that a login profile may take, number of paths, the paths, number of batch commands,
# the commands.

bosco_inspect_host() {
  bosco_remote_say ACCOUNT "$(id -un 2>/dev/null || id -u)"
  bosco_remote_say NODE "$(uname -n)"
  bosco_remote_say HOME "$PWD"
  bosco_remote_platform
  for BOSCO_TOOL in tar gzip sha256sum awk sed stat mv cp ln df find sort; do
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

# Who owns the directories that pilots depend on, and who else may write there: `HELD uid mode place`. Names of files
# are left out: who may write there can choose them.
bosco_inspect_holders() {
  bosco_remote_say UID "$(id -u)"
  for BOSCO_NAME in sandbox log leases; do
    [ -d "$1/$BOSCO_NAME" ] || bosco_remote_say NO-DIRECTORY "$BOSCO_NAME"
  done
  for BOSCO_NAME in . versions sandbox log; do
    [ ! -d "$1/$BOSCO_NAME" ] || stat -L -c "HELD %u %f $BOSCO_NAME" -- "$1/$BOSCO_NAME"
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

# remote_gahp starts everything by `/bin/bash -l -c`, with the gahp's requests on standard input. So the login profile
# must come to its end, and leave the input alone: here the nonce, which the shell prints behind the profile.
bosco_inspect_login() {
  [ -x /bin/bash ] || {
    bosco_remote_say LOGIN no-bash
    return 0
  }
  BOSCO_TIMEOUT="timeout $1"
  command -v timeout >/dev/null 2>&1 || BOSCO_TIMEOUT=
  shift
  {
    BOSCO_STATUS=0
    # shellcheck disable=SC2016,SC2086
    printf '%s\n' "$BOSCO_NONCE" | $BOSCO_TIMEOUT /bin/bash -l -c '
      n=
      IFS= read -r n || :
      for c; do command -v "$c" >/dev/null 2>&1 || printf "\nGWMS-MISSING %s\n" "$c"; done
      printf "\nGWMS-LOGIN-AT-END %s\n" "$n"
    ' sh "$@" 2>/dev/null || BOSCO_STATUS=$?
    printf '\nGWMS-LOGIN-STATUS %s\n' "$BOSCO_STATUS"
  } | sed -n \
    -e 's/^GWMS-MISSING /NO-COMMAND /p' \
    -e "/^GWMS-LOGIN-AT-END $BOSCO_NONCE\$/{" -e 's/.*/LOGIN complete/p' -e 'q' -e '}' \
    -e '/^GWMS-LOGIN-AT-END/{' -e 's/.*/LOGIN reads/p' -e 'q' -e '}' \
    -e 's/^GWMS-LOGIN-STATUS /LOGIN ended /p'
}

bosco_inspect_list() {
  bosco_remote_param
  BOSCO_COUNT=$BOSCO_PARAM
}

bosco_inspect_main() {
  bosco_remote_param
  BOSCO_DIR=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_PROFILE_S=$BOSCO_PARAM
  bosco_inspect_host
  bosco_inspect_space "$BOSCO_DIR"
  bosco_inspect_link "$BOSCO_DIR"
  bosco_inspect_holders "$BOSCO_DIR"
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
    find "$BOSCO_VERSION" -exec stat -c "HELD %u %f versions/$BOSCO_NAME" -- {} + | sort -u
    (bosco_inspect_version "$BOSCO_VERSION" "$BOSCO_NAME" "$@")
  done
  bosco_inspect_list
  set --
  while [ "$#" -lt "$BOSCO_COUNT" ]; do
    bosco_remote_param
    set -- "$@" "$BOSCO_PARAM"
  done
  bosco_inspect_login "$BOSCO_PROFILE_S" "$@"
  bosco_remote_end 0
}

bosco_inspect_main
