#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Executed by mmdebstrap before rootfs_hook.sh; $1 is the new root, the rest are packages of Debian's unstable suite.
# They are pinned, so nothing else moves; the mirror is the one mmdebstrap has chosen.
set -eu
root=$1
shift
[ "$(stat -c %d:%i "$root")" != "$(stat -c %d:%i /)" ] || exit 1
awk '$1 == "deb" && !done { sub(/ [a-z]+ main.*$/, " sid main"); print; done = 1 }' "$root/etc/apt/sources.list" \
    >"$root/etc/apt/sources.list.d/unstable.list"
{
    printf 'Package: *\nPin: release a=unstable\nPin-Priority: 100\n\n'
    printf 'Package: %s\nPin: release a=unstable\nPin-Priority: 990\n' "$*"
} >"$root/etc/apt/preferences.d/unstable"
# In the new root: apt from outside, even with mmdebstrap's own configuration, lets dpkg work on this machine.
in_root() {
    chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -q -o 'Acquire::Check-Valid-Until=false' "$@"
}
in_root update
in_root -y --no-install-recommends install "$@"
