#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Executed in a mount name space of its own: enter_debian.sh MOUNT_POINT ROOT CHECKOUT CHECKOUT_INSIDE COMMAND... runs
# the command in a root file system of another Debian. Everything but a system's own folders is this machine's, so that
# HOME, pip's settings and paths in variables mean what they mean here. What is written to the system lands in memory.
set -eu
point=$1 lower=$2 checkout=$3 inside=$4
shift 4
mount -t tmpfs -o mode=755 parts "$point"
cd "$point"
mkdir up work root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$point/up,workdir=$point/work" root
for path in /*; do
    case $path in
        /bin | /boot | /etc | /lib* | /lost+found | /sbin | /srv | /usr) continue ;;
    esac
    if [ -L "$path" ] || [ ! -d "$path" ]; then
        continue
    fi
    mkdir -p "root$path"
    mount --rbind "$path" "root$path"
done
# How this machine reaches its package registry.
for file in hosts resolv.conf pip.conf ssl/certs/ca-certificates.crt; do
    [ ! -e "/etc/$file" ] || cat "/etc/$file" >"root/etc/$file"
done
mkdir -p "root$inside"
mount --bind "$checkout" "root$inside"
cd root
mkdir .old
# Not chroot: there the kernel refuses user name spaces.
pivot_root . .old
# shellcheck disable=SC2016 # expanded by the inner shell
exec chroot . /bin/sh -euc 'umount -l /.old; rmdir /.old; cd "$1"; shift; exec "$@"' sh "$inside" "$@"
