#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# First process of a test node, in name spaces of its own: builds a root where FUSE, user name spaces and programs are as
# asked, then waits. Entered by pivot_root, as a host entered by chroot has no user name spaces.
#   node_init.sh ROOT FUSE(open|denied|absent) USERNS(yes|no) NATIVE(folder or -) REMOVED(programs, : between) [WRITABLE]
set -eu

root=$1 fuse=$2 userns=$3 native=$4 removed=$5
mount -t tmpfs -o mode=0755 node "$root"
for path in /*; do
    name=${path#/}
    case $name in
        proc | dev | cvmfs | lost+found) continue ;;
    esac
    if [ "$name" = etc ] && [ ! -e /etc/mtab ]; then
        # A machine that was never booted may lack it; fusermount does not unmount without.
        cp -a /etc "$root/etc"
        ln -s /proc/mounts "$root/etc/mtab"
    elif [ -L "$path" ]; then
        ln -s "$(readlink "$path")" "$root/$name"
    elif [ -d "$path" ]; then
        mkdir "$root/$name"
        mount --rbind "$path" "$root/$name"
    fi
done
mkdir "$root/proc" "$root/dev" "$root/old"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 dev "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
case $fuse in
    open) mknod -m 0666 "$root/dev/fuse" c 10 229 ;;
    denied) mknod -m 0600 "$root/dev/fuse" c 10 229 ;;
esac
if [ "$native" != - ]; then
    for image in "$native"/*.squashfs; do
        name=$(basename "$image" .squashfs)
        mkdir -p "$root/cvmfs/$name"
        squashfuse -o allow_other "$image" "$root/cvmfs/$name"
    done
fi
# fusermount wants a name for its user.
sed '$a pilot:x:2001:2001::/tmp:/bin/sh' /etc/passwd >"$root/dev/.passwd"
mount --bind "$root/dev/.passwd" "$root/etc/passwd"
# Records of pilots: each node its own, as /tmp is the machine's.
mkdir -p "$root/tmp/gwms-bosco-2001" "$root/dev/.records"
mount --bind "$root/dev/.records" "$root/tmp/gwms-bosco-2001"
chown 2001:2001 "$root/tmp/gwms-bosco-2001"
chmod 0700 "$root/tmp/gwms-bosco-2001"
IFS=:
for path in $removed; do
    found=$(command -v "$path") && mount --bind /dev/null "$root$(readlink -f "$found")"
done
unset IFS
cd "$root"
if [ "$userns" = yes ]; then
    pivot_root . old
    umount -l /old
    rmdir /old
else
    exec chroot . /bin/bash -c 'echo ready; while :; do sleep 3600 & wait; done'
fi
echo ready
while :; do sleep 3600 & wait; done
