#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Follows begin.sh, lock.sh and keys.sh. The key that workers log in to the login node with: made here, never sent.
# Parameters: bosco_dir, who, seconds of a lock, `make` (unless it is there), `rotate` (a new one) or `look` (change
# nothing), marker of its line in authorized_keys, options of that line.
# The line of a new key is there before the key, that of an old one goes after it: cut off anywhere, the key in place
# opens the login node.

BOSCO_KEY_DIR=egress
BOSCO_KEY=$BOSCO_KEY_DIR/id_ed25519

bosco_key_cleanup() {
  [ -z "${BOSCO_KEY_NEW:-}" ] || rm -rf -- "$BOSCO_KEY_NEW"
  bosco_keys_release
  bosco_lock_release
}

# bosco_key_public FILE: `ssh-ed25519 BASE64`. An empty pass phrase is tried, nothing asked.
bosco_key_public() {
  ssh-keygen -y -P '' -f "$1" </dev/null 2>/dev/null | sed -n 's/^\(ssh-ed25519 [A-Za-z0-9+/=]*\).*/\1/p'
}

bosco_key_line() {
  printf '%s %s %s\n' "$BOSCO_OPTIONS" "$1" "$BOSCO_MARKER"
}

# What others may write to could be exchanged.
bosco_key_folder() {
  find . -prune \( -perm -020 -o -perm -002 \) -exec chmod go-w -- {} + || return 1
  [ -d "$BOSCO_KEY_DIR" ] || [ -L "$BOSCO_KEY_DIR" ] || mkdir -m 0700 -- "$BOSCO_KEY_DIR" || return 1
  if [ -L "$BOSCO_KEY_DIR" ] || [ ! -O "$BOSCO_KEY_DIR" ]; then
    printf '%s\n' "$BOSCO_KEY_DIR is a link or belongs to another user"
    return 1
  fi
  find "$BOSCO_KEY_DIR" -prune ! -perm 0700 -exec chmod 0700 -- {} + || return 1
  rm -rf -- "$BOSCO_KEY_DIR"/.new-*
}

# BOSCO_OLD: public half of the key in place; empty when there is none.
bosco_key_old() {
  BOSCO_OLD=
  [ -e "$BOSCO_KEY" ] || [ -L "$BOSCO_KEY" ] || return 0
  if [ -L "$BOSCO_KEY" ] || [ ! -f "$BOSCO_KEY" ] || [ ! -O "$BOSCO_KEY" ]; then
    bosco_remote_fail key "$BOSCO_KEY is no file of ours"
  fi
  BOSCO_IS=$(stat -c %a -- "$BOSCO_KEY")
  case $BOSCO_IS in
    [46]00) ;;
    *)
      bosco_remote_say WIDE "$BOSCO_IS"
      [ "$BOSCO_MODE" = look ] || bosco_remote_try write chmod 0600 -- "$BOSCO_KEY"
      ;;
  esac
  # ssh-keygen does not read what others could.
  [ "$BOSCO_MODE" != look ] || case $BOSCO_IS in [46]00) ;; *) return 0 ;; esac
  BOSCO_OLD=$(bosco_key_public "$BOSCO_KEY")
  [ -n "$BOSCO_OLD" ] || [ "$BOSCO_MODE" = rotate ] || bosco_remote_fail key "$BOSCO_KEY cannot be read as a key"
}

bosco_key_make() {
  mkdir -m 0700 -- "$BOSCO_KEY_NEW" || return 1
  ssh-keygen -q -t ed25519 -N '' -C "$BOSCO_MARKER" -f "$BOSCO_KEY_NEW/key" </dev/null || return 1
  # The public half is in the private file; a second file could be that of another key.
  rm -f -- "$BOSCO_KEY_NEW/key.pub"
  chmod 0600 -- "$BOSCO_KEY_NEW/key" && sync -- "$BOSCO_KEY_NEW/key"
}

bosco_key_say() {
  # shellcheck disable=SC2153
  bosco_remote_say KEYS "$(printf '%s' "$BOSCO_KEYS" | tr -s '[:cntrl:]' '?' | cut -c 1-1000)"
  bosco_remote_say KEY "$1"
  bosco_remote_say LINE "$2"
  [ -z "$3" ] || bosco_remote_say PUBLIC "$3"
}

bosco_key_look() {
  BOSCO_OLD='' BOSCO_HAS=none BOSCO_LINE=other
  if cd -P -- "$BOSCO_DIR" 2>/dev/null; then
    bosco_key_old
    [ ! -f "$BOSCO_KEY" ] || BOSCO_HAS=kept
  fi
  [ -z "$BOSCO_OLD" ] || [ "$(bosco_keys_ours)" != "$(bosco_key_line "$BOSCO_OLD")" ] || BOSCO_LINE=kept
  bosco_key_say "$BOSCO_HAS" "$BOSCO_LINE" "$BOSCO_OLD"
  bosco_remote_end 0
}

# bosco_key_allow PUBLIC...: lines for these keys and no others.
bosco_key_allow() {
  BOSCO_WANTED=
  for BOSCO_PUBLIC; do
    [ -n "$BOSCO_PUBLIC" ] || continue
    ! bosco_keys_elsewhere "${BOSCO_PUBLIC#* }" ||
      bosco_remote_fail keys "$BOSCO_KEYS has the tunnel's key in a line that is not ours: remove that line"
    BOSCO_WANTED=$BOSCO_WANTED${BOSCO_WANTED:+"
"}$(bosco_key_line "$BOSCO_PUBLIC")
  done
  bosco_keys_set "$BOSCO_WANTED"
}

bosco_key_main() {
  bosco_remote_param
  BOSCO_DIR=$BOSCO_PARAM
  bosco_lock_params
  bosco_remote_param
  BOSCO_MODE=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_MARKER=$BOSCO_PARAM
  bosco_remote_param
  BOSCO_OPTIONS=$BOSCO_PARAM
  command -v ssh-keygen >/dev/null 2>&1 || bosco_remote_fail key 'ssh-keygen is not found on the login node'
  bosco_keys_find "$BOSCO_MARKER"
  [ "$BOSCO_MODE" != look ] || bosco_key_look
  bosco_remote_try write mkdir -p -- "$BOSCO_DIR"
  [ -d "${BOSCO_KEYS%/*}" ] || bosco_remote_try write mkdir -m 0700 -- "${BOSCO_KEYS%/*}"
  cd -P -- "$BOSCO_DIR" || bosco_remote_fail write "$BOSCO_DIR cannot be entered"
  trap bosco_key_cleanup EXIT
  trap 'exit 4' HUP INT TERM PIPE
  bosco_lock_take
  bosco_remote_try write bosco_key_folder
  bosco_key_old
  BOSCO_DONE=kept
  BOSCO_FINAL=$BOSCO_OLD
  BOSCO_BEFORE=$(bosco_keys_ours)
  if [ -z "$BOSCO_OLD" ] || [ "$BOSCO_MODE" = rotate ]; then
    BOSCO_DONE=made
    [ ! -e "$BOSCO_KEY" ] || BOSCO_DONE=rotated
    # shellcheck disable=SC2153
    BOSCO_KEY_NEW=$BOSCO_KEY_DIR/.new-$BOSCO_NONCE
    bosco_remote_try write bosco_key_make
    BOSCO_FINAL=$(bosco_key_public "$BOSCO_KEY_NEW/key")
    [ -n "$BOSCO_FINAL" ] || bosco_remote_fail key 'ssh-keygen has made no key that can be read'
    bosco_key_allow "$BOSCO_OLD" "$BOSCO_FINAL"
    bosco_remote_try write mv -fT -- "$BOSCO_KEY_NEW/key" "$BOSCO_KEY"
  fi
  bosco_key_allow "$BOSCO_FINAL"
  BOSCO_LINE=kept
  [ "$BOSCO_BEFORE" = "$(bosco_keys_ours)" ] || BOSCO_LINE=written
  bosco_key_say "$BOSCO_DONE" "$BOSCO_LINE" "$BOSCO_FINAL"
  bosco_remote_end 0
}

bosco_key_main
