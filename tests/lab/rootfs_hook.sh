#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Executed by mmdebstrap at the end of a build; $1 is the new root. Makes what every host of every lab shares.
set -eu
root=$1
uid=2000
for account in factory:/home/factory pilot:/shared/pilot pilot2:/shared/pilot2; do
    name=${account%%:*}
    # Password field `*`: no password fits. The default `!` would mean "locked", and sshd without PAM refuses that.
    chroot "$root" useradd --no-create-home --home-dir "${account#*:}" --uid "$uid" --shell /bin/bash \
        --password '*' "$name"
    uid=$((uid + 1))
done
install -d -m 755 "$root/shared" "$root/scratch" "$root/srv/gwms-bosco"
install -d -m 755 -o 2000 -g 2000 "$root/home/factory"
# Every lab makes its own host keys, names and addresses.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname"
: >"$root/etc/resolv.conf"
if [ -d "$root/etc/slurm" ]; then
    install -d -m 755 "$root/var/spool/slurmctld" "$root/var/spool/slurmd" "$root/var/log/slurm"
    chroot "$root" chown slurm: /var/spool/slurmctld /var/log/slurm
fi
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
