# SPDX-License-Identifier: Apache-2.0
"""Keys that stay at a frontend: from a site's account to the relay's handles that log in there.

An operator's commands take the maintenance handle (open for a while only), pilots take the submit handle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.errors import AuthenticationError, UsageError
from glideinwms_bosco.relay.conf import RelayConf, conf_path, read_conf
from glideinwms_bosco.relay.status_query import status_file
from glideinwms_bosco.remote.connection import AgentKey, Connection, Endpoint
from glideinwms_bosco.remote.site_connection import jump_endpoints, login_endpoint
from glideinwms_bosco.site.model import Account, SiteDescription
from glideinwms_bosco.sshwire.handle import MAINTAIN

BROKER = "broker"
"""Value of `--key` and of an account's `credential` that means: the frontend's broker signs."""


def relay_is_here() -> bool:
    """Tell whether this host is configured as one with a relay."""
    return conf_path(None).is_file()


def broker_connection(site: SiteDescription, account: Account, frontend: str = "") -> Connection:
    """The way to the login node with signatures of a frontend's broker, for maintenance.

    Args:
        frontend: name of the broker in relay.conf, when several have a key for this account.

    Raises:
        UsageError: no relay, no such handle, or several.
        AuthenticationError: the broker is not connected.
    """
    login, jumps = login_endpoint(site, account), jump_endpoints(site, account)
    conf = read_conf(conf_path(None))
    status = status_file(conf.socket_dir)
    if status is None:
        raise UsageError(f"no relay is running: {conf.socket_dir} has no status.json", "start gwms-ssh-relay")
    row = find_handle(status["handles"], login, MAINTAIN, frontend)
    if row["broker"] != "up":
        raise AuthenticationError(
            f"{login.label}: the broker of {row['frontend']} is not connected",
            "its administrator starts gwms-ssh-broker; see gwms-ssh-relay status",
        )
    tap = conf.tap_program if status.get("tap") else None
    mine = [other for other in status["handles"] if other["broker_pin"] == row["broker_pin"]]
    keys = {login: agent_key(conf, row["handle"], tap)}
    for jump in jumps:
        found = [other for other in mine if other["purpose"] == MAINTAIN and _serves(other, jump)]
        if found:
            keys[jump] = agent_key(conf, found[0]["handle"], tap)
    return Connection(login, jumps, None, keys)


def find_handle(rows: Sequence[Mapping[str, Any]], login: Endpoint, purpose: str, frontend: str) -> Mapping[str, Any]:
    """The one handle that logs in there.

    Raises:
        UsageError: there is none, or several frontends have one.
    """
    found = [row for row in rows if row["purpose"] == purpose and _serves(row, login)]
    if frontend:
        found = [row for row in found if row["name"] == frontend]
    who = f" of {frontend}" if frontend else ""
    if not found:
        raise UsageError(
            f"no broker{who} offers a {purpose} handle for {login.label}",
            "see gwms-ssh-relay handles; the frontend's administrator registers it with gwms-ssh-broker key add "
            f"--{purpose}, or name a key with --key FILE",
        )
    names = sorted({str(row["name"]) for row in found})
    if len(names) > 1:
        raise UsageError(
            f"several brokers have a key for {login.label}", f"--key broker:NAME, one of: {', '.join(names)}"
        )
    return found[0]


def _serves(row: Mapping[str, Any], endpoint: Endpoint) -> bool:
    return row["user"] == endpoint.user and f"{endpoint.host.lower()}:{endpoint.port}" in row["hosts"]


def agent_key(conf: RelayConf, handle: str, tap: Optional[Path]) -> AgentKey:
    """The relay's socket and files of a handle."""
    certificate = conf.socket_dir / f"{handle}-cert.pub"
    return AgentKey(
        conf.socket_dir / f"{handle}.sock",
        conf.socket_dir / f"{handle}.pub",
        certificate if certificate.exists() else None,
        tap,
    )
