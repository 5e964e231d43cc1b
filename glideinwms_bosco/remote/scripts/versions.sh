#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Follows begin.sh, lock.sh, tree.sh and use.sh. Tells which versions an account has and who uses them; changes nothing.
# Parameters: bosco_dir, seconds that a lease of another node counts, number of words of the command that lists the
# account's jobs (0: do not ask), the words.

bosco_versions_link() {
  if bosco_tree_current; then
    bosco_remote_say CURRENT "$BOSCO_CURRENT"
  elif [ -e glite ] || [ -L glite ]; then
    bosco_remote_say FOREIGN glite
    # shellcheck disable=SC2153
    ! bosco_tree_resolved || bosco_remote_say LEADS "$BOSCO_RESOLVED"
  fi
}

# Names of others are data: no line ends, not too long.
bosco_versions_foreign() {
  bosco_remote_say FOREIGN "$(printf '%s' "$1" | tr -s '[:cntrl:]' '?' | cut -c 1-200)"
}

bosco_versions_places() {
  for BOSCO_NAME in * .[!.]*; do
    [ -e "$BOSCO_NAME" ] || [ -L "$BOSCO_NAME" ] || continue
    case $BOSCO_NAME in
      glite) ;;
      versions | sandbox | log | leases | history | egress | pilots | lock | lock.d) bosco_remote_say OURS "$BOSCO_NAME" ;;
      .glite-* | .history-* | .lock-*) bosco_remote_say LEFTOVER "$BOSCO_NAME" ;;
      *) bosco_versions_foreign "$BOSCO_NAME" ;;
    esac
  done
  for BOSCO_NAME in versions/* versions/.[!.]*; do
    [ -e "$BOSCO_NAME" ] || [ -L "$BOSCO_NAME" ] || continue
    case $BOSCO_NAME in
      versions/.staging-*) bosco_remote_say LEFTOVER "$BOSCO_NAME" ;;
      *) bosco_tree_is_digest "${BOSCO_NAME#versions/}" || bosco_versions_foreign "$BOSCO_NAME" ;;
    esac
  done
  # The ft-gahp makes directories for schedd and job and removes those of a job with its files.
  [ ! -d sandbox ] || bosco_remote_say SANDBOXES "$(find sandbox ! -type d | sed 's|/[^/]*$||' | sort -u | wc -l)"
}

bosco_versions_each() {
  for BOSCO_NAME in versions/*; do
    bosco_tree_is_version "$BOSCO_NAME" || continue
    BOSCO_NAME=${BOSCO_NAME#versions/}
    BOSCO_SINCE=$(stat -c %Y -- "versions/$BOSCO_NAME/manifest.sha256sums" 2>/dev/null) || BOSCO_SINCE=0
    BOSCO_KB=$(du -sk -- "versions/$BOSCO_NAME" 2>/dev/null | cut -f 1) || :
    bosco_remote_say VERSION "$BOSCO_NAME" "$BOSCO_SINCE" "${BOSCO_KB:-0}"
    sed -n "s/^info - - \([^ ]*\) \([^ ]*\)\$/INFO $BOSCO_NAME \2 \1/p" "versions/$BOSCO_NAME/manifest.entries" \
      2>/dev/null || :
  done
}

# bosco_versions_jobs COMMAND...: `JOB line` for each line that it prints, then `JOBS-STATUS n`. A login shell finds it.
bosco_versions_jobs() {
  BOSCO_TIMEOUT='timeout 60'
  command -v timeout >/dev/null 2>&1 || BOSCO_TIMEOUT=
  {
    BOSCO_STATUS=0
    # shellcheck disable=SC2016,SC2086
    $BOSCO_TIMEOUT /bin/bash -l -c 'printf "\nGWMS-JOBS\n"; exec "$@" 2>&1' sh "$@" </dev/null 2>/dev/null ||
      BOSCO_STATUS=$?
    printf '\nGWMS-JOBS-STATUS %s\n' "$BOSCO_STATUS"
  } | tr -d '\000-\011\013-\037\177' | cut -c 1-1000 | sed -n \
    -e '/^GWMS-JOBS-STATUS /{' -e 's/^GWMS-//p' -e 'q' -e '}' \
    -e '/^GWMS-JOBS$/,${' -e '/^GWMS-JOBS$/d' -e '/./s/^/JOB /p' -e '}'
}

bosco_versions_main() {
  bosco_remote_param
  BOSCO_DIR=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_LEASE_S=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_COUNT=$BOSCO_PARAM
  set --
  while [ "$#" -lt "$BOSCO_COUNT" ]; do
    bosco_remote_param
    set -- "$@" "$BOSCO_PARAM"
  done
  bosco_remote_say NODE "$(uname -n)"
  bosco_remote_say NOW "$(date +%s)"
  if [ -d "$BOSCO_DIR" ]; then
    cd -P -- "$BOSCO_DIR" || bosco_remote_fail look "$BOSCO_DIR cannot be entered"
    bosco_remote_say FOLDER "$PWD"
    bosco_versions_link
    sed -n 's/^[0-9]\{1,12\} [0-9a-f]\{64\}$/HISTORY &/p' history 2>/dev/null || :
    bosco_versions_each
    bosco_versions_places
    bosco_use_all "$BOSCO_LEASE_S"
  fi
  [ "$#" -eq 0 ] || bosco_versions_jobs "$@"
  bosco_remote_end 0
}

bosco_versions_main
