# SPDX-License-Identifier: Apache-2.0
"""Firewalls of lab hosts: real nftables rules in the host's network name space."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lab.host import Host
from tests.lab.settings import CLUSTER, HOSTS, LOGIN_NODES, OUTER
from tests.lab.slurm import CONTROLLER_PORT, SRUN_PORTS

EGRESS_PORTS = (80, 443)
"""All that the login nodes of a closed site reach outside."""

_CLOSED = """\
table inet lab {
  chain input {
    type filter hook input priority 0; policy drop;
    iif "lo" accept
    ct state established,related accept
  }
}
"""


def close(host: Host) -> None:
    """Let nothing in but answers to what the host itself has begun."""
    host.run(["nft", "-f", "-"], text_in=_CLOSED)


# The login node passes nothing on.
_LOGIN = """\
table inet lab_site {{
  chain input {{
    type filter hook input priority 0; policy drop;
    iif "lo" accept
    ct state established,related accept
    iifname "{outer}" tcp dport 22 accept
    iifname "{inner}" ip saddr @login_nodes accept
    iifname "{inner}" tcp dport {{ 22, {cluster_ports} }} accept
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
  }}
  chain output {{
    type filter hook output priority 0; policy drop;
    oif "lo" accept
    ct state established,related accept
    oifname "{inner}" accept
    oifname "{outer}" tcp dport {{ {egress_ports} }} accept
    reject
  }}
  set login_nodes {{
    type ipv4_addr
    elements = {{ {login_nodes} }}
  }}
}}
"""
_WORKER = """\
table inet lab_site {{
  chain input {{
    type filter hook input priority 0; policy drop;
    iif "lo" accept
    ct state established,related accept
    ip saddr {{ {login_nodes} }} accept
  }}
  chain output {{
    type filter hook output priority 0; policy drop;
    oif "lo" accept
    ct state established,related accept
    ip daddr {{ {login_nodes} }} tcp dport {{ 22, {cluster_ports} }} accept
    reject
  }}
}}
"""


_SOCKS = """\
table inet lab_socks {{
  chain input {{
    type filter hook input priority 0; policy accept;
    ip daddr {address} tcp dport {port} ip saddr != {{ {clients} }} reject
  }}
  chain output {{
    type filter hook output priority 0; policy accept;
    ip saddr {address} tcp sport != {port} meta skuid "{user}" ip daddr != {{ {allowed} }} reject
  }}
}}
"""


def _words() -> dict[str, str]:
    return {
        "login_nodes": ", ".join(_address(name, CLUSTER) for name in LOGIN_NODES),
        "cluster_ports": f"{CONTROLLER_PORT}, {SRUN_PORTS}",
        "egress_ports": ", ".join(map(str, EGRESS_PORTS)),
    }


def _address(name: str, bridge: str) -> str:
    return next(link.address for link in HOSTS[name].links if link.bridge == bridge)


def close_login(host: Host) -> None:
    """Have a login node take ssh from outside, serve the workers, and reach outside two ports only."""
    devices = {link.bridge: link.device for link in host.spec.links}
    text = _LOGIN.format(outer=devices[OUTER], inner=devices[CLUSTER], **_words())
    host.run(["nft", "-f", "-"], text_in=text)


def close_worker(host: Host) -> None:
    """Have a worker reach the login nodes only: sshd and Slurm."""
    host.run(["nft", "-f", "-"], text_in=_WORKER.format(**_words()))


def limit_socks(host: Host, address: str, port: int, user: str, allowed: Sequence[str], clients: Sequence[str]) -> None:
    """Let a proxy without rules of its own serve `clients` and, run as `user`, speak with `allowed` only."""
    lists = {"allowed": ", ".join(allowed), "clients": ", ".join(clients)}
    host.run(["nft", "-f", "-"], text_in=_SOCKS.format(address=address, port=port, user=user, **lists))
