# SPDX-License-Identifier: Apache-2.0
"""What a lab is made of: names, places, profiles, hosts and accounts, as tables.

Nothing here touches the machine; the other modules read these tables.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

NAME_ENV = "GWMS_LAB_NAME"
PROFILE_ENV = "GWMS_LAB_PROFILE"
CACHE_ENV = "GWMS_LAB_CACHE"
DEFAULT_NAME = "gwms"
DEFAULT_PROFILE = "trixie"
DEFAULT_CACHE = "/var/cache/gwms-bosco-lab"

CHECKOUT = Path(__file__).resolve().parents[2]
CHECKOUT_IN_HOST = "/srv/gwms-bosco"
# What a host sees when the checkout must be copied; also not looked at when deciding whether it must.
CHECKOUT_SKIP = frozenset(
    {".git", ".venv", "build", "dist", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
)

# A network namespace is called <lab name>-<host>; the name also becomes a directory.
NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,30}")

HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FACTORY_CONDOR_CONFIG = "/etc/condor/condor_config"


class LabError(Exception):
    """A lab step failed; the text says which one and shows the end of its log."""


@dataclass(frozen=True)
class Recipe:
    """How to make one root file system.

    Attributes:
        kind: first part of the directory's name in the cache; a newer digest of the same kind replaces the older.
        suite: Debian suite.
        packages: package names.
        apt_options: extra lines of apt configuration.
        build_hostname: host name during the build; some packages configure themselves for it. May be empty.
        without: packages purged in a second layer, for hosts that must not have them.
        unstable: packages taken from Debian's unstable suite, everything else stays at `suite`.
    """

    kind: str
    suite: str
    packages: tuple[str, ...]
    apt_options: tuple[str, ...] = ()
    build_hostname: str = ""
    without: tuple[str, ...] = ()
    unstable: tuple[str, ...] = ()


# `tini` is every host's pid 1.
_ANY_HOST = ("openssh-server", "openssh-client", "python3", "iproute2", "procps", "tini")
_FULL = (
    *_ANY_HOST,
    *("condor", "slurmctld", "slurmd", "slurm-client", "munge"),
    *("python3-yaml", "python3-lxml", "python3-jsonschema", "python3-pyelftools", "python3-rich"),
    "python3-cryptography",
    *("patchelf", "libxml-simple-perl", "libfaketime", "rsync", "squid", "proxychains4", "bubblewrap", "nftables"),
    *("netcat-openbsd", "ca-certificates", "strace", "socat", "file"),
)
# The libraries that HTCondor's own binaries need and a bundle does not bring.
_GRID_ENGINE = (
    *_ANY_HOST,
    *("gridengine-master", "gridengine-exec", "gridengine-client", "libxml-simple-perl"),
    *("libgomp1", "libuuid1", "libpcre2-8-0", "libstdc++6", "libssl3t64"),
)

# A worker node on which pilots mount, map paths and check certificates.
_NODE = (
    *_ANY_HOST,
    *("condor", "fuse3", "squashfuse", "fuse2fs", "squashfs-tools", "e2fsprogs", "proot", "busybox"),
    *("bubblewrap", "curl", "openssl", "ca-certificates", "strace", "socat", "file"),
)
# A worker node of another age: glibc 2.31, no Debian package of a younger HTCondor runs there.
_OLDEST_NODE = (*_ANY_HOST, "fuse3", "proot", "curl", "openssl", "ca-certificates", "file")
# What unit tests run.
_UNIT_TEST = (
    *("python3-venv", "make", "git", "openssh-server", "openssh-client", "procps", "iproute2", "ca-certificates"),
    *("openssl", "busybox", "tcsh", "patchelf", "groff-base", "file"),
)

# A suite that is still moving can have a Release file past its date: apt then finds no package at all.
_IGNORE_RELEASE_DATE = ('Acquire::Check-Valid-Until "false"',)

GRID_ENGINE_RECIPE = Recipe("gridengine", "trixie", _GRID_ENGINE, build_hostname="login-sge")
OLD_RECIPE = Recipe("bookworm", "bookworm", _ANY_HOST)
# OpenSSH 8.4, before session-bind; Python 3.9; glibc 2.31.
OLDEST_RECIPE = Recipe("bullseye", "bullseye", _ANY_HOST)
NODE_RECIPE = Recipe("node", "trixie", _NODE)
OLDEST_NODE_RECIPE = Recipe("oldest-node", "bullseye", _OLDEST_NODE)
# Python 3.9.
UNIT_TEST_RECIPE = Recipe("unit-test", "bullseye", _UNIT_TEST)
# Debian 13 has no apptainer.
APPTAINER_RECIPE = Recipe(
    "apptainer",
    "trixie",
    _NODE,
    apt_options=_IGNORE_RELEASE_DATE,
    unstable=("apptainer", "containernetworking-plugins"),
)
# A site whose workers reach only the login nodes. The workers have what pilots mount and run containers with.
CLOSED_PROFILE = "closed"
_CLOSED = (*_FULL, "fuse3", "squashfuse", "squashfs-tools", "busybox", "curl", "openssl", "microsocks")
PROFILES: dict[str, Recipe] = {
    "trixie": Recipe("trixie", "trixie", _FULL, without=("condor",)),
    "next": Recipe("next", "forky", _FULL, apt_options=_IGNORE_RELEASE_DATE, without=("condor",)),
    CLOSED_PROFILE: dataclasses.replace(
        APPTAINER_RECIPE, kind="closed", packages=tuple(dict.fromkeys(_CLOSED)), without=("condor",)
    ),
}
# profile -> extra hosts that come up with it
PROFILE_HOSTS: dict[str, tuple[str, ...]] = {CLOSED_PROFILE: ("login2", "egress")}

OUTER = "br-out"
CLUSTER = "br-hpc"


@dataclass(frozen=True)
class Link:
    """One network card: `device` on `bridge` with `address`/24."""

    device: str
    bridge: str
    address: str


@dataclass(frozen=True)
class HostSpec:
    """One host.

    Attributes:
        links: its network cards.
        recipe: its root file system; None means the profile's.
        has_htcondor: False takes the layer from which the recipe's `without` packages are purged, so that nothing
            of HTCondor is found by accident.
        shared: the cluster's shared directory is mounted on /shared.
        gateway: default route, or empty.
        accounts: pilot accounts that may log in with the factory's key of the same name.
        old_sshd: OpenSSH < 9.8, which knows no PerSourcePenalties.
        closed: a firewall lets nothing in but answers, as at a VO's frontend.
        chroot: its root is entered by chroot alone, so the kernel refuses user name spaces.
        faults: what is wrong with it or special about it, see node_faults.sh.
    """

    links: tuple[Link, ...]
    recipe: Optional[Recipe] = None
    has_htcondor: bool = True
    shared: bool = False
    gateway: str = ""
    accounts: tuple[str, ...] = ()
    old_sshd: bool = False
    closed: bool = False
    chroot: bool = False
    faults: tuple[str, ...] = ()


BASE_HOSTS: dict[str, HostSpec] = {
    "factory": HostSpec((Link("eth0", OUTER, "10.77.0.10"),)),
    "login": HostSpec(
        (Link("eth0", OUTER, "10.77.0.20"), Link("eth1", CLUSTER, "10.77.1.1")),
        has_htcondor=False,
        shared=True,
        accounts=("pilot", "pilot2"),
    ),
    "outside": HostSpec((Link("eth0", OUTER, "10.77.0.30"),), accounts=("pilot",)),
    "worker1": HostSpec((Link("eth0", CLUSTER, "10.77.1.11"),), has_htcondor=False, shared=True, gateway="10.77.1.1"),
    "worker2": HostSpec((Link("eth0", CLUSTER, "10.77.1.12"),), has_htcondor=False, shared=True, gateway="10.77.1.1"),
}
# Worker nodes on which pilots find less than they hope for. Each has what NODE_RECIPE gives, and a FUSE device.
_NODE_VARIANTS: dict[str, dict[str, Any]] = {
    "node-native": {"faults": ("native-cvmfs",)},
    "node-nofuse": {"faults": ("no-fuse",)},
    "node-nouserns": {"chroot": True},
    "node-neither": {"chroot": True, "faults": ("no-fuse",)},
    "node-noexec-tmp": {"faults": ("noexec-tmp",)},
    "node-full-disk": {"faults": ("full-disk",)},
    "node-no-os-release": {"faults": ("no-os-release",)},
    "node-ro-home": {"faults": ("ro-home",)},
    "node-busybox": {"faults": ("busybox",)},
    "node-no-python": {"faults": ("no-python",)},
    "node-oldest": {"recipe": OLDEST_NODE_RECIPE},
}
_FIRST_VARIANT = 31


def _node(number: int, recipe: Recipe = NODE_RECIPE, chroot: bool = False, faults: tuple[str, ...] = ()) -> HostSpec:
    links = (Link("eth0", CLUSTER, f"10.77.1.{number}"),)
    faults = ("open-fuse", *faults)
    return HostSpec(links, recipe, shared=True, gateway="10.77.1.1", chroot=chroot, faults=faults)


EXTRA_HOSTS: dict[str, HostSpec] = {
    "login-condor": HostSpec((Link("eth0", OUTER, "10.77.0.21"),), accounts=("pilot",)),
    "login-sge": HostSpec((Link("eth0", OUTER, "10.77.0.22"),), recipe=GRID_ENGINE_RECIPE, accounts=("pilot",)),
    "login-old": HostSpec((Link("eth0", OUTER, "10.77.0.23"),), recipe=OLD_RECIPE, accounts=("pilot",), old_sshd=True),
    "login-oldest": HostSpec(
        (Link("eth0", OUTER, "10.77.0.24"),), recipe=OLDEST_RECIPE, accounts=("pilot",), old_sshd=True
    ),
    # A second login node of the same cluster.
    "login2": HostSpec(
        (Link("eth0", OUTER, "10.77.0.25"), Link("eth1", CLUSTER, "10.77.1.2")),
        has_htcondor=False,
        shared=True,
        accounts=("pilot",),
    ),
    # The home institute's way in for closed sites: two addresses, as port 443 serves socks and ssh.
    "egress": HostSpec((Link("eth0", OUTER, "10.77.0.50"), Link("eth1", OUTER, "10.77.0.51")), has_htcondor=False),
    "node-apptainer": _node(21, APPTAINER_RECIPE),
    "node-plain": _node(22),
    **{name: _node(i, **how) for i, (name, how) in enumerate(_NODE_VARIANTS.items(), _FIRST_VARIANT)},
    "frontend": HostSpec((Link("eth0", OUTER, "10.77.0.40"),), has_htcondor=False, closed=True),
    "frontend2": HostSpec((Link("eth0", OUTER, "10.77.0.41"),), has_htcondor=False, closed=True),
}
HOSTS = {**BASE_HOSTS, **EXTRA_HOSTS}
WORKERS = ("worker1", "worker2")
LOGIN_NODES = ("login", "login2")
"""Of the cluster; the second is an extra host."""
ALIASES = {
    "10.77.1.1": ("login-int", "slurmctl"),
    "10.77.1.2": ("login2-int",),
    "10.77.0.51": ("egress-ssh",),
}
KEYS = ("pilot", "pilot2")


@dataclass(frozen=True)
class Settings:
    """Names and places of one lab.

    Attributes:
        name: the lab's name.
        profile: a key of PROFILES.
        cache: directory of the root file systems and of the labs' state.
    """

    name: str
    profile: str
    cache: Path

    @classmethod
    def resolve(cls, name: Optional[str] = None, profile: Optional[str] = None) -> Settings:
        """Take what is given, else the environment, else the default.

        Raises:
            LabError: the name cannot be a directory's or name space's name, or the profile is unknown.
        """
        name = name or os.environ.get(NAME_ENV) or DEFAULT_NAME
        profile = profile or os.environ.get(PROFILE_ENV) or DEFAULT_PROFILE
        if not NAME_PATTERN.fullmatch(name):
            raise LabError(f"lab name {name!r} must match {NAME_PATTERN.pattern}")
        if profile not in PROFILES:
            raise LabError(f"unknown lab profile {profile!r}; there is: {', '.join(PROFILES)}")
        return cls(name, profile, Path(os.environ.get(CACHE_ENV) or DEFAULT_CACHE).absolute())

    @property
    def rootfs_dir(self) -> Path:
        return self.cache / "rootfs"

    @property
    def labs_dir(self) -> Path:
        return self.cache / "labs"

    @property
    def state_dir(self) -> Path:
        return self.labs_dir / self.name

    @property
    def shared_dir(self) -> Path:
        return self.state_dir / "shared"

    def host_dir(self, host: str) -> Path:
        return self.state_dir / "hosts" / host

    def netns(self, host: str) -> str:
        return f"{self.name}-{host}"

    def etc_hosts(self, host: str) -> str:
        """Return a host's /etc/hosts, all that resolves names: workers of a closed site know their cluster only."""
        inside = self.profile == CLOSED_PROFILE and host in WORKERS
        lines = ["127.0.0.1 localhost"]
        for name, spec in HOSTS.items():
            for link in spec.links:
                if link.bridge == CLUSTER or not inside:
                    lines.append(" ".join((link.address, *ALIASES.get(link.address, (name,)))))
        return "\n".join(lines) + "\n"

    def recipe(self, host: str) -> Recipe:
        return HOSTS[host].recipe or PROFILES[self.profile]
