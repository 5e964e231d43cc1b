#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Executed as root on a node with apptainer: make a small image file with the node's own programs.
#   make_image.sh FILE [LIBRARY]...
set -eu
file=$1
shift
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,dev,proc,sys,tmp,etc,root,home,var/tmp,usr/bin,etc/grid-security/certificates,etc/cvmfs/SITECONF,cvmfs,srv}
for program in bash busybox curl openssl setsid; do
    path=$(command -v "$program")
    cp -L "$path" "$root/bin/$program"
    ldd "$path" 2>/dev/null | grep -o '/[^ )]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -Ln "$library" "$root$library" 2>/dev/null || :
    done
done
for name in $(busybox --list); do
    [ -e "$root/bin/$name" ] || ln -s busybox "$root/bin/$name"
done
ln -s ../../bin/busybox "$root/usr/bin/env"
for library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
# curl wants its default file to be there, whatever it is told to use.
mkdir -p "$root/etc/ssl/certs"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'stand-in image' >"$root/etc/standin-image"
printf 'root:x:0:0::/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
apptainer --silent build "$file" "$root"
chmod 644 "$file"
