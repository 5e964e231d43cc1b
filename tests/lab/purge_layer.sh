#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Executed in a mount name space of its own: purge_layer.sh LOWER LAYER PACKAGE... leaves in LAYER the overlay of LOWER
# without the packages. Stacked on LOWER it costs a host nothing at start, a purge in each host would cost seconds.
set -eu
lower=$1 layer=$2
shift 2
mkdir -p "$layer.work" "$layer.root" "$layer"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$layer,workdir=$layer.work" "$layer.root"
mount -t proc proc "$layer.root/proc"
chroot "$layer.root" dpkg --purge --force-all "$@"
umount "$layer.root/proc"
umount "$layer.root"
rm -rf "$layer.work" "$layer.root"
