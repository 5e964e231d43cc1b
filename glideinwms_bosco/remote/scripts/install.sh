#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Follows begin.sh, lock.sh, tree.sh and use.sh: bring one version into place and let `glite` point to it.
# Parameters: bosco_dir, who, seconds of a lock, seconds of a lease, seconds an archive may take, digest, staging token, name for a `glite` not ours that is moved away (or -), age in seconds
# from which a staging directory is left over, `archive` or -, number of entries, the entries. Then, with `archive`, a
# tar.gz of the files to send.
# An entry is `op mode digest source path`, '-' where a field does not apply:
#   send     the file comes in the archive          copy  it is taken from versions/<source>
#   keep     it is right in place already           link  path becomes a symbolic link to <source>
#   there    path is that link already              info  <source> is the value of what path names
#   exec     path is a program whose dynamic linker is <source>
# Without entries no version is built and only the link moves.
# Until the final rename everything happens in versions/.staging-*; ending at any point leaves the old version working.

bosco_install_cleanup() {
  [ -z "${BOSCO_STAGING:-}" ] || rm -rf -- "$BOSCO_STAGING"
  [ -z "${BOSCO_LINK:-}" ] || rm -f -- "$BOSCO_LINK"
  bosco_lock_release
}

bosco_install_directories() {
  [ -d versions ] || mkdir -- versions || return 1
  for BOSCO_NAME in sandbox log leases; do
    [ -d "$BOSCO_NAME" ] || mkdir -m 0700 -- "$BOSCO_NAME" || return 1
  done
}

# Others must neither replace what pilots run nor read what they leave. From the top down: who may still write to a
# directory could put back what was closed below it. Only what is open is touched.
bosco_install_close() {
  find -H . versions -prune \( -perm -020 -o -perm -002 \) -exec chmod go-w -- {} + || return 1
  find -H sandbox log leases -prune ! -perm 0700 -exec chmod 0700 -- {} + || return 1
  for BOSCO_NAME in versions/*; do
    case ${BOSCO_NAME#versions/} in
      *[!0-9a-f]*) continue ;;
    esac
    find "$BOSCO_NAME" ! -type l \( -perm -020 -o -perm -002 \) -exec chmod go-w -- {} + || return 1
  done
}

# Whether `glite` is something that must be moved away first: not a link to a version.
bosco_install_is_foreign() {
  { [ -L glite ] || [ -e glite ]; } && ! bosco_tree_current
}

# What an ended deploy has left. A living one is younger: its time is limited by the side that sends.
bosco_install_sweep() {
  BOSCO_NOW=$(date +%s)
  for BOSCO_OLD in versions/.staging-*; do
    [ -d "$BOSCO_OLD" ] || continue
    BOSCO_SINCE=$(stat -c %Y -- "$BOSCO_OLD" 2>/dev/null) || continue
    [ $((BOSCO_NOW - BOSCO_SINCE)) -ge "$1" ] || continue
    rm -rf -- "$BOSCO_OLD" || :
    bosco_remote_say SWEPT "${BOSCO_OLD##*/}"
  done
}

bosco_install_entries() {
  BOSCO_LEFT=$1
  while [ "$BOSCO_LEFT" -gt 0 ]; do
    IFS= read -r BOSCO_LINE || return 1
    printf '%s\n' "$BOSCO_LINE" || return 1
    BOSCO_LEFT=$((BOSCO_LEFT - 1))
  done >"$BOSCO_STAGING/entries"
  awk '$1 == "send" || $1 == "copy" { print $3 "  " $5 }' "$BOSCO_STAGING/entries" >"$BOSCO_STAGING/new" || return 1
  awk '$1 == "send" || $1 == "copy" || $1 == "keep" { print $3 "  " $5 }' "$BOSCO_STAGING/entries" \
    >"$BOSCO_STAGING/tree/manifest.sha256sums" || return 1
  awk '$1 == "send" || $1 == "copy" || $1 == "keep" { print "file", $2, $3, "-", $5; next }
    $1 == "there" { $1 = "link" }
    { print }' "$BOSCO_STAGING/entries" >"$BOSCO_STAGING/tree/manifest.entries"
}

bosco_install_copy() {
  while read -r BOSCO_OP _ _ BOSCO_SOURCE BOSCO_PATH; do
    [ "$BOSCO_OP" = copy ] || continue
    mkdir -p -- "$BOSCO_STAGING/tree/$(dirname -- "$BOSCO_PATH")" || return 1
    # A copy, not a hard link: a file that gets damaged later must not take all versions with it.
    cp -- "versions/$BOSCO_SOURCE" "$BOSCO_STAGING/tree/$BOSCO_PATH" || return 1
  done <"$BOSCO_STAGING/entries"
}

bosco_install_modes() {
  while read -r BOSCO_OP BOSCO_MODE _ BOSCO_SOURCE BOSCO_PATH; do
    case $BOSCO_OP in
      send | copy)
        chmod -- "$BOSCO_MODE" "$BOSCO_STAGING/tree/$BOSCO_PATH" || return 1
        BOSCO_IS=$(stat -c %a -- "$BOSCO_STAGING/tree/$BOSCO_PATH") || return 1
        [ "$BOSCO_IS" = "$BOSCO_MODE" ] || {
          printf '%s has mode %s instead of %s\n' "$BOSCO_PATH" "$BOSCO_IS" "$BOSCO_MODE"
          return 1
        }
        ;;
      link)
        mkdir -p -- "$BOSCO_STAGING/tree/$(dirname -- "$BOSCO_PATH")" || return 1
        ln -s -- "$BOSCO_SOURCE" "$BOSCO_STAGING/tree/$BOSCO_PATH" || return 1
        ;;
    esac
  done <"$BOSCO_STAGING/entries"
}

# bosco_install_verify TREE LIST
bosco_install_verify() {
  [ -s "$2" ] || return 0
  (cd -- "$1" && sha256sum -c --quiet -) <"$2"
}

# A full or exceeded quota may show only when the data really leave this host.
bosco_install_sync() {
  set -- "$BOSCO_STAGING/tree/manifest.sha256sums" "$BOSCO_STAGING/tree/manifest.entries"
  while read -r BOSCO_OP _ _ _ BOSCO_PATH; do
    case $BOSCO_OP in
      send | copy) set -- "$@" "$BOSCO_STAGING/tree/$BOSCO_PATH" ;;
    esac
  done <"$BOSCO_STAGING/entries"
  sync -- "$@"
}

# Rename the whole tree into place. If another deploy of the same version was faster, where no lock can keep two apart,
# its result must be right.
bosco_install_place() {
  mv -T -- "$BOSCO_STAGING/tree" "versions/$BOSCO_DIGEST" 2>"$BOSCO_STAGING/error" && return 0
  [ -d "versions/$BOSCO_DIGEST" ] || {
    cat -- "$BOSCO_STAGING/error"
    return 1
  }
  bosco_install_verify "versions/$BOSCO_DIGEST" "$BOSCO_STAGING/tree/manifest.sha256sums"
}

# Replace file by file in a version that lies there already: jobs and gahps may be using it.
bosco_install_repair() {
  while read -r BOSCO_OP _ _ _ BOSCO_PATH; do
    case $BOSCO_OP in
      send | copy | link) ;;
      *) continue ;;
    esac
    mkdir -p -- "versions/$BOSCO_DIGEST/$(dirname -- "$BOSCO_PATH")" || return 1
    mv -fT -- "$BOSCO_STAGING/tree/$BOSCO_PATH" "versions/$BOSCO_DIGEST/$BOSCO_PATH" || return 1
  done <"$BOSCO_STAGING/entries"
  for BOSCO_NAME in manifest.sha256sums manifest.entries; do
    mv -fT -- "$BOSCO_STAGING/tree/$BOSCO_NAME" "versions/$BOSCO_DIGEST/$BOSCO_NAME" || return 1
  done
  bosco_install_verify "versions/$BOSCO_DIGEST" "versions/$BOSCO_DIGEST/manifest.sha256sums"
}

# bosco_install_switch NAME: NAME is where a `glite` that is not ours goes.
bosco_install_switch() {
  if bosco_install_is_foreign; then
    if [ -L glite ]; then
      # A copy of the link: it works until the switch replaces it. A directory cannot be replaced in one step.
      bosco_remote_try write cp -P -- glite "$1"
    else
      bosco_remote_try write mv -T -- glite "$1"
    fi
  fi
  bosco_tree_switch "$BOSCO_DIGEST"
}

# -m: the archive's date, 1970, would invite the purge job of a scratch file system. The deadline: a network that is
# gone without a word must not keep the account locked.
bosco_install_unpack() {
  set -- tar -x -z -o -m -f - -C "$BOSCO_STAGING/tree"
  ! command -v timeout >/dev/null 2>&1 || set -- timeout "$BOSCO_ARCHIVE_S" "$@"
  "$@"
}

# A version that was complete when the account was looked at may have been removed or damaged since.
bosco_install_check() {
  bosco_install_verify "versions/$BOSCO_DIGEST" "versions/$BOSCO_DIGEST/manifest.sha256sums" &&
    [ -s "versions/$BOSCO_DIGEST/manifest.sha256sums" ]
}

bosco_install_build() {
  bosco_remote_try write mkdir -- "$BOSCO_STAGING" "$BOSCO_STAGING/tree"
  bosco_remote_try write bosco_install_entries "$1"
  bosco_remote_try write bosco_install_copy
  if [ "$2" = archive ]; then
    bosco_remote_try write bosco_install_unpack
  fi
  bosco_remote_try write bosco_install_modes
  bosco_remote_try verify bosco_install_verify "$BOSCO_STAGING/tree" "$BOSCO_STAGING/new"
  bosco_remote_try write bosco_install_sync
  if [ -d "versions/$BOSCO_DIGEST" ]; then
    bosco_remote_try write bosco_install_repair
    bosco_remote_try library bosco_tree_libraries "versions/$BOSCO_DIGEST" "versions/$BOSCO_DIGEST/manifest.entries"
  else
    bosco_remote_try moved bosco_install_verify "$BOSCO_STAGING/tree" "$BOSCO_STAGING/tree/manifest.sha256sums"
    bosco_remote_try library bosco_tree_libraries "$BOSCO_STAGING/tree" "$BOSCO_STAGING/entries"
    bosco_remote_try write bosco_install_place
  fi
}

bosco_install_main() {
  bosco_remote_param
  BOSCO_DIR=$BOSCO_PARAM
  bosco_lock_params
  bosco_remote_param
  BOSCO_LEASE_S=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_ARCHIVE_S=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_DIGEST=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_TOKEN=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_ASIDE=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_AGE=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_ARCHIVE=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_COUNT=$BOSCO_PARAM
  bosco_remote_try write mkdir -p -- "$BOSCO_DIR"
  cd -P -- "$BOSCO_DIR" || bosco_remote_fail write "$BOSCO_DIR cannot be entered"
  trap bosco_install_cleanup EXIT
  trap 'exit 4' HUP INT TERM PIPE
  bosco_lock_take
  bosco_remote_try write bosco_install_directories
  if bosco_install_is_foreign && [ "$BOSCO_ASIDE" = - ]; then
    bosco_remote_fail occupied 'glite is not a link of ours'
  fi
  bosco_remote_try write bosco_install_close
  bosco_install_sweep "$BOSCO_AGE"
  bosco_use_sweep "$BOSCO_LEASE_S"
  if [ "$BOSCO_COUNT" -gt 0 ]; then
    BOSCO_STAGING="versions/.staging-$BOSCO_TOKEN"
    bosco_install_build "$BOSCO_COUNT" "$BOSCO_ARCHIVE"
  else
    bosco_remote_try moved bosco_install_check
  fi
  if [ "$(readlink glite 2>/dev/null)" != "versions/$BOSCO_DIGEST" ]; then
    bosco_install_switch "$BOSCO_ASIDE"
  else
    sync -- versions "versions/$BOSCO_DIGEST" . 2>/dev/null || :
  fi
  bosco_remote_say PLACED "$BOSCO_DIGEST"
  bosco_remote_end 0
}

bosco_install_main
