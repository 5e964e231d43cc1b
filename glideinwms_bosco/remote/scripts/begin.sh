#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# First part of every program sent to a login node (kind 1, executed; POSIX sh, coreutils). It fixes the environment,
# takes the nonce from stdin and prints the begin marker. A program answers in lines `KEY value`, says what went wrong
# in one line `ERROR step text`, and ends with bosco_remote_end.
set -eu
LC_ALL=C
PATH="${PATH:-}${PATH:+:}/usr/bin:/bin"
export LC_ALL PATH
unset CDPATH GREP_OPTIONS TAR_OPTIONS GZIP POSIXLY_CORRECT
umask 022

bosco_remote_say() {
  printf '%s\n' "$*"
}

bosco_remote_end() {
  printf 'GWMS-BOSCO-END %s\n' "$BOSCO_NONCE"
  exit "$1"
}

# bosco_remote_fail STEP TEXT: report, end the program.
bosco_remote_fail() {
  printf 'ERROR %s %s\n' "$1" "$(printf 'in %s: %s' "$PWD" "$2" | tr -s '[:cntrl:]' ' ' | cut -c 1-1500)"
  bosco_remote_end 3
}

# bosco_remote_try STEP COMMAND...: run in a subshell; what it prints becomes the text of the failure.
bosco_remote_try() {
  BOSCO_STEP=$1
  shift
  BOSCO_TEXT=$("$@" 2>&1) || bosco_remote_fail "$BOSCO_STEP" "$BOSCO_TEXT"
}

# The next line of stdin goes to BOSCO_PARAM, for the parts that follow. `read` takes no byte more from a pipe.
bosco_remote_param() {
  # shellcheck disable=SC2034
  IFS= read -r BOSCO_PARAM || bosco_remote_fail input 'the parameters are incomplete'
}

# Machine and C library, for the parts that follow.
bosco_remote_platform() {
  bosco_remote_say ARCH "$(uname -m)"
  BOSCO_LIBC=$(getconf GNU_LIBC_VERSION 2>/dev/null) || BOSCO_LIBC=$(ldd --version 2>/dev/null | sed -n 1p) || :
  bosco_remote_say LIBC "${BOSCO_LIBC##* }"
}

IFS= read -r BOSCO_NONCE
# The login shell's noise may lack its last newline.
printf '\nGWMS-BOSCO-BEGIN %s\n' "$BOSCO_NONCE"
cd -P -- "$HOME" 2>/dev/null || bosco_remote_fail home "the home directory $HOME cannot be entered"
