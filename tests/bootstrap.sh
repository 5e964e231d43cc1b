#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the Debian packages that tests need and the machine lacks. Without root: say which, and go on if none is missing.
set -eu

# command -> package
need() {
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

PATH=$PATH:/usr/sbin:/sbin
missing=
need ssh openssh-client
need sshd openssh-server
need shellcheck shellcheck
need busybox busybox
need tcsh tcsh
need mmdebstrap mmdebstrap
need ip iproute2
need pkill procps
need openssl openssl
need curl curl
need wget wget
need groff groff-base
need patchelf patchelf
need bats bats
need parallel parallel
need checkbashisms devscripts
need fusermount3 fuse3
need squashfuse squashfuse
need fuse2fs fuse2fs
need mksquashfs squashfs-tools
need proot proot
need squid squid
need danted dante-server
need nft nftables
need proxychains4 proxychains4
need microsocks microsocks
need rpmbuild rpm
need rpmlint rpmlint
need systemd-analyze systemd
need logrotate logrotate
# For the packages: Debian's own Python builds them and writes their manual pages.
modules='setuptools packaging.requirements:packaging yaml lxml cryptography jsonschema elftools:pyelftools rich'
for module in $modules; do
    /usr/bin/python3 -c "import ${module%%:*}" 2>/dev/null || missing="$missing python3-${module##*:}"
done
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "tests need these packages, and only root can install them:$missing" >&2
    exit 1
fi
echo "installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# An ssh server must not start on the machine just because its program is needed for tests.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
    made=yes
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 0755 "$policy"
    trap 'rm -f "$log" "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of package names
if ! { apt-get -qq update && apt-get -qq install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "apt-get could not install:$missing" >&2
    exit 1
fi
[ -z "$made" ] || rm -f "$policy"
