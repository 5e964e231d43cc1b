#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Executed on a host with HTCondor: pack_htcondor.sh PREFIX [LOADER] writes a tar file of what a pilot needs of it to
# stdout, to be unpacked in PREFIX. It brings its own C library and loader, so it runs on nodes of another age, as the tarballs
# that pilots download do.
# With LOADER, a path, that program loads it, and it may be unpacked anywhere.
set -eu
loader=${2-$1/lib/ld-linux-x86-64.so.2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir bin sbin lib libexec
for name in condor_master condor_startd condor_starter; do cp "/usr/sbin/$name" sbin/; done
for name in condor_config_val condor_version; do cp "/usr/bin/$name" bin/; done
ldd bin/* sbin/* | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | sort -u | while read -r library; do cp -L "$library" lib/; done
cp -L /lib64/ld-linux-x86-64.so.2 lib/
for program in bin/* sbin/*; do
    # RPATH, not RUNPATH: it holds for the libraries of libraries as well.
    # shellcheck disable=SC2016 # the loader's word
    patchelf --set-interpreter "$loader" --force-rpath --set-rpath '$ORIGIN/../lib' "$program"
done
tar -cf - bin sbin lib libexec
