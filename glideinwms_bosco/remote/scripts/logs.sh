#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Follows begin.sh. Shows the ends of the newest files in log/egress/; changes nothing.
# Parameters: bosco_dir, most files, most bytes and most lines of each.
# Lines: FILE name size mtime, then TEXT line for each of its lines; ODD number of names that are not shown, MORE number of
# files left out. Any program of the account may write there: what is not printable ASCII becomes `?`.

bosco_logs_names() {
  # Newest first; a name with a line end in it is two lines that are no files.
  find log/egress -mindepth 1 -maxdepth 1 -type f -exec stat -c '%Y %s %n' -- {} + 2>/dev/null | sort -k 1,1nr
}

bosco_logs_file() {
  # A pipe or a device put in its place would never end.
  if [ ! -f "$1" ] || [ -L "$1" ]; then
    return 0
  fi
  bosco_remote_say FILE "${1##*/}" "$2" "$3"
  tail -c "$BOSCO_BYTES" -- "$1" 2>/dev/null | tr '\t\r' '  ' | sed -e 's/[^ -~]/?/g' | cut -c 1-1000 |
    tail -n "$BOSCO_LINES" | sed -e 's/^/TEXT /'
}

bosco_logs_main() {
  bosco_remote_param
  BOSCO_DIR=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_FILES=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_BYTES=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_LINES=$BOSCO_PARAM
  cd -P -- "$BOSCO_DIR" 2>/dev/null || bosco_remote_end 0
  bosco_remote_say FOLDER "$(printf '%s' "$PWD" | tr -s '[:cntrl:]' '?' | cut -c 1-1000)"
  [ ! -L log/egress ] || bosco_remote_fail look 'log/egress is a link'
  BOSCO_SEEN=0
  BOSCO_ODD=0
  bosco_logs_names | sed -n 1,100000p | {
    while IFS=' ' read -r BOSCO_SINCE BOSCO_SIZE BOSCO_NAME; do
      case ${BOSCO_NAME#log/egress/} in
        *[!A-Za-z0-9._-]* | [!A-Za-z0-9]* | '')
          BOSCO_ODD=$((BOSCO_ODD + 1))
          continue
          ;;
      esac
      BOSCO_SEEN=$((BOSCO_SEEN + 1))
      if [ "$BOSCO_SEEN" -le "$BOSCO_FILES" ]; then
        bosco_logs_file "$BOSCO_NAME" "$BOSCO_SIZE" "$BOSCO_SINCE"
      fi
    done
    BOSCO_MORE=$((BOSCO_SEEN - BOSCO_FILES))
    if [ "$BOSCO_MORE" -lt 0 ]; then
      BOSCO_MORE=0
    fi
    bosco_remote_say MORE "$BOSCO_MORE"
    bosco_remote_say ODD "$BOSCO_ODD"
  }
  bosco_remote_end 0
}

bosco_logs_main
