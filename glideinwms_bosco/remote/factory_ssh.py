# SPDX-License-Identifier: Apache-2.0
"""ssh client configuration for the factory's schedd user: what stock `remote_gahp` needs and does not say itself.

`remote_gahp` calls `ssh [-p PORT] -o "BatchMode yes" [-R ...] user@host command` and reads the user's configuration.
It asks for ExitOnForwardFailure only when `ssh -V` says OpenSSH_5..9; with OpenSSH 10 a refused port forwarding then
holds the job, instead of making the resource unavailable until the next try. So the setting stands here.

The key comes from `--rgahp-key` through an agent that `remote_gahp` starts: no IdentityFile is written, and
IdentitiesOnly is switched off, as a `yes` elsewhere in the configuration would hide the agent's key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.connection import (
    ALIVE_COUNT_MAX,
    ALIVE_INTERVAL_S,
    CONNECT_TIMEOUT_S,
    Endpoint,
    bracketed,
    quote_path,
    render_known_hosts,
)


@dataclass(frozen=True)
class FactorySsh:
    """The two files of the schedd user.

    Attributes:
        ssh_config: text for an `Include` in ~/.ssh/config or a file in /etc/ssh/ssh_config.d.
        known_hosts: text of the file that ssh_config names.
    """

    ssh_config: str
    known_hosts: str


@dataclass(frozen=True)
class _Hop:
    endpoint: Endpoint
    via: Optional[Endpoint]


def _hops(sites: Iterable[tuple[Endpoint, Sequence[Endpoint]]]) -> list[_Hop]:
    hops: list[_Hop] = []
    for login, jumps in sites:
        via: Optional[Endpoint] = None
        for endpoint in (*jumps, login):
            hops.append(_Hop(endpoint, via))
            via = endpoint
    return hops


def _refuse(first: _Hop, second: _Hop, what: str) -> RemoteError:
    return RemoteError(
        f"{first.endpoint.label} and {second.endpoint.label} are the same ssh server with different {what}",
        f"give both sites the same {what} for {first.endpoint.host}",
    )


def _via(hop: _Hop) -> Optional[tuple[str, int, str]]:
    return (hop.via.host.lower(), hop.via.port, hop.via.user) if hop.via else None


def _check_and_merge(hops: Sequence[_Hop]) -> list[_Hop]:
    """Return one hop per (host, user), sorted; ssh picks a block by these two only."""
    by_account: dict[tuple[str, str], _Hop] = {}
    by_server: dict[tuple[str, int], _Hop] = {}
    by_host: dict[str, _Hop] = {}
    for hop in hops:
        host, port, user = hop.endpoint.host.lower(), hop.endpoint.port, hop.endpoint.user
        server = by_server.setdefault((host, port), hop)
        if set(server.endpoint.host_keys) != set(hop.endpoint.host_keys):
            raise _refuse(server, hop, "pinned host keys")
        if _via(by_host.setdefault(host, hop)) != _via(hop):
            raise _refuse(by_host[host], hop, "jump hosts")
        account = by_account.setdefault((host, user), hop)
        if account.endpoint.port != port:
            raise _refuse(account, hop, "ports")
    return [by_account[key] for key in sorted(by_account)]


def _block(hop: _Hop, known_hosts_file: Path) -> list[str]:
    endpoint = hop.endpoint
    jump = f"{hop.via.user}@{bracketed(hop.via.host)}:{hop.via.port}" if hop.via else "none"
    return [
        f"Match originalhost {endpoint.host} user {endpoint.user}",
        f"  HostName {endpoint.host}",
        f"  Port {endpoint.port}",
        f"  UserKnownHostsFile {quote_path(known_hosts_file)}",
        "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes",
        "  UpdateHostKeys no",
        "  CheckHostIP no",
        f"  ProxyJump {jump}",
        "  BatchMode yes",
        "  PreferredAuthentications publickey",
        "  IdentitiesOnly no",
        "  ForwardAgent no",
        "  ForwardX11 no",
        "  ExitOnForwardFailure yes",
        f"  ConnectTimeout {CONNECT_TIMEOUT_S}",
        f"  ServerAliveInterval {ALIVE_INTERVAL_S}",
        f"  ServerAliveCountMax {ALIVE_COUNT_MAX}",
        "",
    ]


def render_factory_ssh(sites: Iterable[tuple[Endpoint, Sequence[Endpoint]]], known_hosts_file: Path) -> FactorySsh:
    """Render the schedd user's ssh_config part and known_hosts for all sites.

    Jump hosts get a block of their own: ssh starts itself for a jump and reads the same configuration again.
    GSSAPI is off through PreferredAuthentications; `GSSAPIAuthentication` itself makes an ssh built without GSSAPI
    complain at each connection.

    Args:
        sites: (login, jumps in the order they are passed) for each site.
        known_hosts_file: absolute path where `known_hosts` will be installed.

    Raises:
        RemoteError: when two sites disagree on pinned keys, jumps or port of one host.
    """
    if not known_hosts_file.is_absolute():
        raise RemoteError(f"path of known_hosts must be absolute: {known_hosts_file}")
    hops = _hops(sites)
    merged = _check_and_merge(hops)
    lines = ["# Written by gwms-bosco from the site descriptions; changes are overwritten.", ""]
    for hop in merged:
        lines += _block(hop, known_hosts_file)
    servers = sorted((hop.endpoint for hop in hops), key=lambda e: (e.host.lower(), e.port))
    return FactorySsh("\n".join(lines), render_known_hosts(servers))
