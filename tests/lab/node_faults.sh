#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Executed as root on a fresh worker node: node_faults.sh FAULT... makes it lack something, or have it. The pilots'
# folder is /scratch/pilot.
set -eu
install -d -o pilot -g pilot /scratch/pilot
# systemd makes it on a real node.
[ -e /etc/mtab ] || ln -s ../proc/self/mounts /etc/mtab
for fault; do
    case $fault in
        # udev gives it this mode; the machine the lab runs on may have none.
        open-fuse)
            umount /dev/fuse 2>/dev/null || :
            rm -f /dev/fuse
            mknod -m 0666 /dev/fuse c 10 229
            ;;
        no-fuse) rm -f /dev/fuse ;;
        noexec-tmp) mount -o remount,noexec /tmp ;;
        # A pilot's files fit in, a cache does not.
        full-disk)
            mount -t tmpfs -o size=80m,mode=755 full /scratch/pilot
            chown pilot:pilot /scratch/pilot
            ;;
        no-os-release) rm -f /etc/os-release /usr/lib/os-release ;;
        ro-home)
            mkdir -p /shared/pilot
            mount --bind /shared/pilot /shared/pilot
            mount -o remount,bind,ro /shared/pilot
            ;;
        # Only on /opt/busybox: what enters the node needs programs of its own. /bin/sh is busybox for all.
        busybox)
            mkdir -p /opt/busybox
            busybox --install -s /opt/busybox
            for name in bash curl fusermount3 squashfuse; do ln -sf "/usr/bin/$name" "/opt/busybox/$name"; done
            mount --bind /usr/bin/busybox /usr/bin/dash
            ;;
        no-python) rm -f /usr/bin/python3* /usr/bin/perl* ;;
        # As an administrator's autofs would show it.
        native-cvmfs)
            repository=cms.cern.ch
            mkdir -p "/srv/$repository" "/cvmfs/$repository"
            echo "hello from a stand-in of $repository" >"/srv/$repository/hello"
            mksquashfs "/srv/$repository" "/srv/$repository.squashfs" -quiet -no-progress
            squashfuse -o allow_other "/srv/$repository.squashfs" "/cvmfs/$repository"
            ;;
        *) exit 2 ;;
    esac
done
