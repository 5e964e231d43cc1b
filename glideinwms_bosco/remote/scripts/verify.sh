#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Follows begin.sh, lock.sh and tree.sh. Tells what versions should hold and what they do hold; changes nothing.
# Parameters: bosco_dir, which versions: `current`, `all`, or the beginning of a digest.
# Lines, names last: RECORD digest entry; SUMMED digest sha256 path (a version without manifest.entries);
# FOUND digest mode uid type path; SUM digest sha256 path; TARGET digest path target; LIBRARY digest text;
# HELD uid mode place.

bosco_verify_record() {
  if [ -r "$1/manifest.entries" ]; then
    sed "s/^/RECORD $2 /" "$1/manifest.entries"
  elif [ -r "$1/manifest.sha256sums" ]; then
    sed "s/^\([0-9a-f]*\)  */SUMMED $2 \1 /" "$1/manifest.sha256sums"
  fi
}

# A damaged record may be one long line.
bosco_verify_cut() {
  cut -b 1-4000
}

# A name with a line end in it comes out as a line of another form, which ODD stands for.
bosco_verify_version() (
  cd -- "versions/$1" || exit 0
  bosco_verify_record . "$1" | bosco_verify_cut
  find . ! -name . -exec stat -c "FOUND $1 %f %u %n" -- {} + | sed -e "/^FOUND $1 [0-9a-f]* [0-9]* /!s/.*/ODD $1/" |
    sed "s|^\(FOUND [^ ]* [^ ]* [^ ]*\) \./|\1 |" | bosco_verify_cut
  find . -type f -exec sha256sum -- {} + 2>/dev/null | sed -n "s|^\([0-9a-f]\{64\}\) [ *]\./|SUM $1 \1 |p" |
    bosco_verify_cut
  find . -type l -print | while IFS= read -r BOSCO_PATH; do
    [ -L "$BOSCO_PATH" ] || continue
    BOSCO_TARGET=$(readlink "$BOSCO_PATH")
    bosco_remote_say TARGET "$1" "${BOSCO_PATH#./}" "$(printf '%s' "$BOSCO_TARGET" | tr -s '[:cntrl:]' '?')"
  done | bosco_verify_cut
  [ ! -r manifest.entries ] || BOSCO_TEXT=$(bosco_tree_libraries "$PWD" manifest.entries 2>&1) ||
    bosco_remote_say LIBRARY "$1" "$(printf '%s' "$BOSCO_TEXT" | tr -s '[:cntrl:]' ' ' | cut -c 1-1500)"
)

bosco_verify_main() {
  bosco_remote_param
  BOSCO_DIR=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_WHICH=$BOSCO_PARAM
  bosco_remote_say UID "$(id -u)"
  [ -d "$BOSCO_DIR" ] || bosco_remote_end 0
  cd -P -- "$BOSCO_DIR" || bosco_remote_fail look "$BOSCO_DIR cannot be entered"
  bosco_remote_say FOLDER "$PWD"
  sed -n 's/^[0-9]\{1,12\} [0-9a-f]\{64\}$/HISTORY &/p' history 2>/dev/null || :
  if bosco_tree_current; then
    bosco_remote_say CURRENT "$BOSCO_CURRENT"
  fi
  for BOSCO_NAME in . versions sandbox log leases; do
    [ ! -d "$BOSCO_NAME" ] || stat -L -c "HELD %u %f $BOSCO_NAME" -- "$BOSCO_NAME"
  done
  for BOSCO_NAME in versions/*; do
    bosco_tree_is_version "$BOSCO_NAME" || continue
    BOSCO_NAME=${BOSCO_NAME#versions/}
    bosco_remote_say VERSION "$BOSCO_NAME"
    case $BOSCO_WHICH in
      all) ;;
      current) [ "$BOSCO_NAME" = "$BOSCO_CURRENT" ] || continue ;;
      *) [ "$BOSCO_NAME" != "${BOSCO_NAME#"$BOSCO_WHICH"}" ] || continue ;;
    esac
    bosco_remote_say LOOKED "$BOSCO_NAME"
    bosco_verify_version "$BOSCO_NAME"
  done
  bosco_remote_end 0
}

bosco_verify_main
