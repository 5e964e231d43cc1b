# SPDX-License-Identifier: Apache-2.0
"""From a site description to the way to its login node."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from glideinwms_bosco.remote.connection import Connection, Endpoint
from glideinwms_bosco.site.model import Account, SiteDescription


def login_endpoint(site: SiteDescription, account: Account) -> Endpoint:
    """The login host as this account sees it.

    Raises:
        RemoteError: no host key is pinned, or a value cannot be used.
        SiteError: the site has no login host.
    """
    login = site.required_login()
    return Endpoint(login.host, login.port, account.user, login.host_keys)


def jump_endpoints(site: SiteDescription, account: Account) -> tuple[Endpoint, ...]:
    """The jump hosts, nearest to the factory first; a jump host without a user takes the account's.

    Raises:
        RemoteError: no host key is pinned, or a value cannot be used.
        SiteError: the site has no login host.
    """
    jumps = site.required_login().jump_hosts
    return tuple(Endpoint(jump.host, jump.port, jump.user or account.user, jump.host_keys) for jump in jumps)


def site_connection(site: SiteDescription, account: Account, key_file: Optional[Path]) -> Connection:
    """The whole way to the login node, with this key or, for None, what the caller's agent offers."""
    return Connection(login_endpoint(site, account), jump_endpoints(site, account), key_file)
