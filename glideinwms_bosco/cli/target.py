# SPDX-License-Identifier: Apache-2.0
"""One account that a remote command works on, and what the work gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.cli import output
from glideinwms_bosco.cli.relay_keys import broker_login
from glideinwms_bosco.remote.connection import Connection
from glideinwms_bosco.remote.site_connection import site_connection
from glideinwms_bosco.remote.ssh import SshSession, WhyRefused
from glideinwms_bosco.remote.throttle import Limits, Tell, Throttle
from glideinwms_bosco.site.model import Account, SiteDescription


class Sessions:
    """The sessions of one account's work: each goes through the command's throttle, all can be broken off at once."""

    def __init__(self, throttle: Throttle, tell: Tell) -> None:
        self._throttle = throttle
        self._tell = tell
        self._made: list[SshSession] = []

    def make(
        self, connection: Connection, site: SiteDescription, why_refused: Optional[WhyRefused] = None
    ) -> SshSession:
        """A session that is not open yet."""
        login = site.required_login()
        gate = self._throttle.gate(
            (*connection.jumps, connection.login),
            Limits(login.max_connections, login.connections_per_minute),
            f"lower login.max_connections or login.connections_per_minute in {site.file}, or ask the centre to exempt "
            "this host (PerSourcePenaltyExemptList, fail2ban's ignoreip)",
            self._tell,
        )
        session = SshSession(connection, site.short_name, gate, why_refused)
        self._made.append(session)
        return session

    def abort(self) -> None:
        """Break all of them off, from any thread."""
        for session in tuple(self._made):
            session.abort()


@dataclass(frozen=True)
class Target:
    """One account of a site, and what to log in with.

    Attributes:
        site, account: checked descriptions.
        key: absolute path of the private key, None for the keys of the caller's agent.
        frontend: a frontend's broker signs in place of a key: its name in relay.conf, empty for the only one; None
            for a key.
        sessions: makes its sessions; None for such as keep to no limits.
    """

    site: SiteDescription
    account: Account
    key: Optional[Path]
    sessions: Optional[Sessions] = field(default=None, compare=False, repr=False)
    frontend: Optional[str] = None

    @property
    def label(self) -> str:
        """`SITE:ACCOUNT`."""
        return f"{self.site.short_name}:{self.account.name}"

    def session(self) -> SshSession:
        """A session to the login node, not open yet."""
        why_refused = None
        if self.frontend is None:
            connection = site_connection(self.site, self.account, self.key)
        else:
            login = broker_login(self.site, self.account, self.frontend)
            connection, why_refused = login.connection, login.why_refused
        if self.sessions is None:
            return SshSession(connection, self.site.short_name, why_refused=why_refused)
        return self.sessions.make(connection, self.site, why_refused)


@dataclass(frozen=True)
class Outcome:
    """What the work on one account gave.

    Attributes:
        headline: the result in one short line.
        lines: what else there is to say, for one account shown alone.
        report: the same for `--json`.
        ok: False when the work ended as it should but found something that makes the command fail (drift, say).
    """

    headline: str
    lines: tuple[str, ...]
    report: Mapping[str, Any]
    ok: bool = True


Work = Callable[[Target, output.Advance], Outcome]
"""Does one account; raises a BoscoError when it cannot. Called from several threads for several accounts."""
