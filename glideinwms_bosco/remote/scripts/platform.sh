#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Second part after begin.sh: tell what machine this is and which of some libraries it lacks; change nothing.
# Parameters: number of libraries, for each `soname version`, where version is a symbol version or `-` for any.

# Files that the dynamic linker would take for a soname.
bosco_platform_files() {
  printf '%s\n' "$BOSCO_CACHE" | awk -v name="$1" '$1 == name { print $NF }'
  for BOSCO_FILE in /lib64/"$1" /usr/lib64/"$1" /lib/"$1" /usr/lib/"$1" /lib/*-linux-gnu*/"$1"; do
    [ ! -e "$BOSCO_FILE" ] || printf '%s\n' "$BOSCO_FILE"
  done
}

# Names of symbol versions stand in the library as text.
bosco_platform_has() {
  bosco_platform_files "$1" | {
    while IFS= read -r BOSCO_FILE; do
      if [ "$2" = - ] || grep -qF -e "$2" -- "$BOSCO_FILE" 2>/dev/null; then
        return 0
      fi
    done
    return 1
  }
}

bosco_platform_main() {
  bosco_remote_platform
  # Without the linker's own list nothing can be said to be missing; the deploy tries the programs all the same.
  BOSCO_CACHE=$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null | sed -n 's/^[[:blank:]]*//p') || :
  bosco_remote_param
  BOSCO_COUNT=$BOSCO_PARAM
  while [ "$BOSCO_COUNT" -gt 0 ]; do
    BOSCO_COUNT=$((BOSCO_COUNT - 1))
    bosco_remote_param
    [ -n "$BOSCO_CACHE" ] || continue
    bosco_platform_has "${BOSCO_PARAM%% *}" "${BOSCO_PARAM#* }" || bosco_remote_say NO-LIBRARY "$BOSCO_PARAM"
  done
  bosco_remote_end 0
}

bosco_platform_main
