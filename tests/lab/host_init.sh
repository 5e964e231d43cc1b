#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Executed as pid 1 of a host's mount, pid, uts and ipc name spaces; its network name space was entered before.
# Environment: LAB_ID (lab/host), LAB_HOST, LAB_LOWER (overlay lowerdir), LAB_DIR (the host's state directory),
# LAB_CHECKOUT, LAB_CHECKOUT_IN_HOST, LAB_SHARED (empty: the host is not on the cluster's shared directory), LAB_CHROOT
# (not empty: the host's root is entered by chroot alone).
set -eu
mount --make-rprivate /

cd "$LAB_DIR"
# `volatile`: no fsync reaches the disk, the upper layer is thrown away anyway. A cache that lies on an overlay
# itself (a container) cannot hold an upper layer: then it lives in memory.
mount_root() {
    mkdir -p up work root
    mount -t overlay overlay -o "volatile,lowerdir=$LAB_LOWER,upperdir=$LAB_DIR/up,workdir=$LAB_DIR/work" root
}
mount_root 2>/dev/null || {
    mount -t tmpfs -o mode=755 upper "$LAB_DIR"
    cd "$LAB_DIR"
    mount_root
}
cd root

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755,nosuid dev dev
for node in null zero full random urandom tty fuse; do
    [ -e "/dev/$node" ] || continue
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mkdir -p run/sshd run/lock
chmod 1777 run/lock
mount -t tmpfs -o mode=1777 tmp tmp

mkdir -p ".$LAB_CHECKOUT_IN_HOST"
mount --bind "$LAB_CHECKOUT" ".$LAB_CHECKOUT_IN_HOST"
mount -o remount,bind,ro ".$LAB_CHECKOUT_IN_HOST"
if [ -n "$LAB_SHARED" ]; then
    mkdir -p shared
    mount --bind "$LAB_SHARED" shared
fi

hostname "$LAB_HOST"
echo "$LAB_HOST" >etc/hostname
echo 0 >proc/sys/net/ipv4/ip_forward

# pivot_root, not chroot: inside a chroot the kernel refuses unprivileged user name spaces. A node without them is had so.
if [ -n "${LAB_CHROOT:-}" ]; then
    # shellcheck disable=SC2016 # expanded by the inner shell
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LAB_ID="$LAB_ID" chroot . /usr/bin/tini -- /bin/sh -c '
        echo "$LAB_ID" >/run/gwms-lab-host && exec sleep infinity'
fi
mkdir .old
pivot_root . .old
# shellcheck disable=SC2016 # expanded by the inner shell
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LAB_ID="$LAB_ID" chroot . /usr/bin/tini -- /bin/sh -c '
    umount -l /.old && rmdir /.old && echo "$LAB_ID" >/run/gwms-lab-host && exec sleep infinity'
