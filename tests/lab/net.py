# SPDX-License-Identifier: Apache-2.0
"""The lab's networks: two bridges in a switch name space of the lab's own, so that labs do not see each other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.lab.process import checked
from tests.lab.settings import BASE_HOSTS, CLUSTER, EXTRA_HOSTS, HOSTS, OUTER, Settings

SWITCH = "sw"
NETNS_DIR = Path("/run/netns")


def _batch(lines: Iterable[str], netns: str = "") -> None:
    """Run many `ip` commands by one process; `netns` empty means the machine's own name space."""
    where = ["-n", netns] if netns else []
    checked(["ip", *where, "-batch", "-"], text_in="".join(line + "\n" for line in lines))


def create_switch(settings: Settings) -> None:
    """Make the switch name space with its bridges."""
    switch = settings.netns(SWITCH)
    _batch([f"netns add {switch}"])
    lines = ["link set lo up"]
    for bridge in (OUTER, CLUSTER):
        lines += [f"link add {bridge} type bridge", f"link set {bridge} up"]
    _batch(lines, switch)


def attach(settings: Settings, hosts: Iterable[str]) -> None:
    """Make the hosts' name spaces and plug their cards in."""
    hosts = list(hosts)
    _batch(f"netns add {settings.netns(host)}" for host in hosts)
    _batch((line for host in hosts for line in _ports(settings, host)), settings.netns(SWITCH))
    for host in hosts:
        spec = HOSTS[host]
        lines = ["link set lo up"]
        for link in spec.links:
            lines += [f"addr add {link.address}/24 dev {link.device}", f"link set {link.device} up"]
        if spec.gateway:
            lines.append(f"route add default via {spec.gateway}")
        _batch(lines, settings.netns(host))


def _ports(settings: Settings, host: str) -> Iterable[str]:
    """Yield the commands that make the switch's ends of a host's cables."""
    for link in HOSTS[host].links:
        # An interface name has at most 15 characters: the address says which port it is.
        port = "p" + link.address.replace(".", "-")[len("10-") :]
        yield f"link add {port} type veth peer name {link.device} netns {settings.netns(host)}"
        yield f"link set {port} master {link.bridge} up"


def existing(settings: Settings) -> list[str]:
    """Return the lab's network name spaces that exist."""
    names = (settings.netns(host) for host in (SWITCH, *BASE_HOSTS, *EXTRA_HOSTS))
    return [name for name in names if (NETNS_DIR / name).exists()]


def pids(netns: str) -> list[int]:
    """Return the processes in a network name space."""
    return [int(word) for word in checked(["ip", "netns", "pids", netns]).split()]


def remove(names: Iterable[str]) -> None:
    """Remove network name spaces; their cards and bridges go with them. None: `ip` may not even be installed yet."""
    lines = [f"netns delete {name}" for name in names]
    if lines:
        _batch(lines)
