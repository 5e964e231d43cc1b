# SPDX-License-Identifier: Apache-2.0
"""What is known of one account: does it answer, which bundle it has, what was last done with it, how its pilots are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Optional

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.history import Event, History
from glideinwms_bosco.remote.installed import LINK_TIMEOUT_S, Installed, read_installed
from glideinwms_bosco.remote.messages import MessageFormatError
from glideinwms_bosco.remote.pilots import Pilots
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.site_pilots import MAX_MARKERS, SitePilots, parse_markers
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.site.model import Account

SHOWN_VERBS = ("deploy", "probe", "test")
"""Commands whose last run is shown."""


@dataclass(frozen=True)
class AccountStatus:
    """One account.

    Attributes:
        reachable: whether it answered; None when it was not asked.
        problem: why it did not answer.
        installed: what it has; None when it did not answer or was not asked.
        wanted: digest of the bundle that the site file gives now; None when that cannot be built.
        wanted_problem: why it cannot.
        last: verb -> its last event; None when there was none.
        pilots: None when no schedd could be asked.
        pilots_problem: why it could not.
        credential: mode and expiry in words.
        site_pilots: what the account's pilots say themselves; None when it did not answer or was not asked.
    """

    reachable: Optional[bool]
    problem: Optional[str]
    installed: Optional[Installed]
    wanted: Optional[str]
    wanted_problem: Optional[str]
    last: dict[str, Optional[Event]]
    pilots: Optional[Pilots]
    pilots_problem: Optional[str]
    credential: str
    site_pilots: Optional[SitePilots] = None

    @property
    def drift(self) -> Optional[bool]:
        """Whether the account has another bundle than its site file gives; None when either is not known."""
        if self.installed is None or self.wanted is None:
            return None
        return self.installed.digest != self.wanted

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        last = {verb: _without_report(event) for verb, event in self.last.items()}
        return {**asdict(self), "last": last, "drift": self.drift}


def _without_report(event: Optional[Event]) -> Optional[dict[str, Any]]:
    return {"at": event.at, "ok": event.ok, "headline": event.headline} if event else None


def last_events(history: History, site: str, account: str) -> dict[str, Optional[Event]]:
    """The last run of each command that is shown."""
    return {verb: history.last(site, account, verb) for verb in SHOWN_VERBS}


def look(session: SshSession, bosco_dir: str) -> tuple[Installed, SitePilots]:
    """Ask an account over an open session what it has and what runs; one small program that changes nothing.

    Raises:
        RemoteError: as `SshSession.run_script`.
    """
    # Each part of the program reads parameters of its own.
    header = (bosco_dir, str(MAX_MARKERS), bosco_dir)
    reply = session.run_script(load_program("begin.sh", "pilots.sh", "link.sh"), header, deadline_s=LINK_TIMEOUT_S)
    try:
        pilots = parse_markers(reply)
    except MessageFormatError as error:
        raise RemoteError(f"{session.label} gave an answer that cannot be understood: {error}") from None
    return read_installed(reply), pilots


def credential_state(account: Account) -> str:
    """Mode of an account's credential in words; its own end is known to the frontend alone."""
    return f"{account.credential}: no expiry known"
