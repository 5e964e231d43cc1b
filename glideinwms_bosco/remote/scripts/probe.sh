#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Part after probe_umask.sh and begin.sh: facts of the login node, then what a login shell sees of it. Leaves nothing.
# Parameters: token, bosco_dir, seconds that a login profile may take, size in bytes of probe_login.sh. Then that
# program as raw bytes, then the token again and what the program reads.

bosco_probe_clean() {
  # Bytes, not characters: whatever the encoding, what is left is one-byte text without control characters.
  sed -e 's/[^ -~]/?/g' | cut -c 1-1000
}

bosco_probe_clock() {
  BOSCO_NOW=$(date +%s.%N)
  case $BOSCO_NOW in
    *[!0-9.]*) BOSCO_NOW=$(date +%s) ;;
  esac
  bosco_remote_say CLOCK "$BOSCO_NOW"
}

bosco_probe_host() {
  BOSCO_ACCOUNT=$(id -un 2>/dev/null || id -u)
  bosco_remote_say ACCOUNT "$BOSCO_ACCOUNT"
  bosco_remote_say GROUPS "$(id -Gn 2>/dev/null | bosco_probe_clean)"
  bosco_remote_say NODE "$(uname -n)"
  bosco_remote_say HOME "$(printf '%s\n' "$PWD" | bosco_probe_clean)"
  bosco_remote_platform
  bosco_remote_say KERNEL "$(uname -r)"
  BOSCO_SYSTEM=$(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release 2>/dev/null | sed 1q) || :
  bosco_remote_say SYSTEM "$(printf '%s\n' "$BOSCO_SYSTEM" | bosco_probe_clean)"
  BOSCO_SHELL=$(getent passwd "$BOSCO_ACCOUNT" 2>/dev/null | sed 's/.*://' | sed 1q) || :
  bosco_remote_say SHELL "${BOSCO_SHELL:-${SHELL:-}}"
  # HTCondor's status scripts name this one, not the first of PATH.
  BOSCO_PYTHON=$(/usr/bin/python3 -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || :
  bosco_remote_say PYTHON "$BOSCO_PYTHON"
  for BOSCO_TOOL in tar gzip sha256sum awk sed stat mv cp ln df find sort; do
    command -v "$BOSCO_TOOL" >/dev/null 2>&1 || bosco_remote_say NO-TOOL "$BOSCO_TOOL"
  done
}

# Version and settings of sshd, as far as anybody may read them. `sshd -V` of older ones is a usage message that names
# the version all the same.
bosco_probe_sshd() {
  PATH="$PATH:/usr/sbin:/sbin"
  for BOSCO_OPTION in sshd ssh; do
    BOSCO_VERSION=$("$BOSCO_OPTION" -V 2>&1 </dev/null | sed -n 's/^\(OpenSSH_[A-Za-z0-9._]*\).*/\1/p' | sed 1q) || :
    [ -z "$BOSCO_VERSION" ] || break
  done
  bosco_remote_say SSHD "$BOSCO_VERSION"
  # In the order in which sshd reads them where the main file begins with its Include, as distributions have it.
  for BOSCO_FILE in /etc/ssh/sshd_config.d/*.conf /etc/ssh/sshd_config; do
    [ -f "$BOSCO_FILE" ] || continue
    [ -r "$BOSCO_FILE" ] || {
      bosco_remote_say SSHD-UNREADABLE "$BOSCO_FILE"
      continue
    }
    sed -n -e '/^[[:space:]]*[Mm][Aa][Tt][Cc][Hh][[:space:]]/q' -e 's/^[[:space:]]*//' -e '/^#/d' \
      -e '/^Max/p' -e '/^PerSource/p' -e '/^AllowTcp/p' -e '/^PermitOpen/p' -e '/^AuthorizedKeysFile/p' -e '/^ClientAlive/p' -e '/^LoginGrace/p' <"$BOSCO_FILE" |
      bosco_probe_clean | sed -e 20q -e 's/^/SSHD-SETTING /'
  done
}

bosco_probe_storage() {
  # What a probe that was killed has left.
  find . ! -name . -prune -name '.gwms-bosco-probe-*' -mtime +0 -exec rm -rf -- {} + 2>/dev/null || :
  df -Pk -- . 2>/dev/null | awk 'NR == 2 { print "FREE-KB " $4; print "SIZE-KB " $2 }'
  df -Pi -- . 2>/dev/null | awk 'NR == 2 && $2 > 0 { print "FREE-INODES " $4 }'
  BOSCO_FILE=.gwms-bosco-probe-$$
  if BOSCO_TEXT=$( (umask 077 && dd if=/dev/zero "of=$BOSCO_FILE" bs=65536 count=1 conv=fsync) 2>&1); then
    bosco_remote_say WRITE ok
  else
    bosco_remote_say WRITE "$(printf '%s\n' "$BOSCO_TEXT" | bosco_probe_clean | sed 1q)"
  fi
  rm -f -- "$BOSCO_FILE" || :
  command -v quota >/dev/null 2>&1 || return 0
  # Some file systems answer late or never.
  ${BOSCO_TIMEOUT:+timeout 10} quota -w -p 2>/dev/null </dev/null | bosco_probe_clean | sed -n '3,40s/^/QUOTA /p' || :
}

# remote_gahp starts everything by `/bin/bash -l -c`, with the gahp's requests on standard input: so must the rest of
# this probe. Only lines with the token count; what stands before the first of them is the profile's noise.
bosco_probe_login() {
  [ -x /bin/bash ] || {
    bosco_remote_say LOGIN no-bash
    return 0
  }
  {
    BOSCO_STATUS=0
    umask "$BOSCO_UMASK"
    # Once the profile is through, its time limit must not end what follows.
    # shellcheck disable=SC2016,SC2086
    ${BOSCO_TIMEOUT:+timeout $BOSCO_PROFILE_S} /bin/bash -l -c '
      trap "" TERM
      IFS= read -r t || :
      exec /bin/sh -c "$0" sh "$1" "$t"
    ' "$BOSCO_PROGRAM" "$BOSCO_TOKEN" 2>/dev/null || BOSCO_STATUS=$?
    printf '\n%s LOGIN ended %s\n%s .\n' "$BOSCO_TOKEN" "$BOSCO_STATUS" "$BOSCO_TOKEN"
  } | sed -n \
    -e "/^$BOSCO_TOKEN \.\$/q" \
    -e "s/^$BOSCO_TOKEN //p" -e t \
    -e '1,5{' -e 's/[^ -~]/?/g' -e 's/^\(.\{0,200\}\).*/\1/' -e '/^[ ?]*$/d' -e 's/^/PROFILE-NOISE /p' -e '}'
}

bosco_probe_main() {
  bosco_probe_clock
  bosco_remote_param
  BOSCO_TOKEN=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_DIR=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_PROFILE_S=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_PROGRAM=$(dd bs=1 count="$BOSCO_PARAM" 2>/dev/null)
  BOSCO_TIMEOUT=timeout
  command -v timeout >/dev/null 2>&1 || BOSCO_TIMEOUT=
  bosco_probe_host
  bosco_probe_sshd
  # The install folder may be a link to another file system.
  cd -P -- "$BOSCO_DIR" 2>/dev/null || :
  bosco_remote_say PLACE "$(printf '%s\n' "$PWD" | bosco_probe_clean)"
  bosco_probe_storage
  bosco_probe_login
  bosco_probe_clock
  bosco_remote_end 0
}

bosco_probe_main
