# SPDX-License-Identifier: Apache-2.0
"""Let `glite` point to an earlier version, after that version was verified completely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import DriftError, RemoteError
from glideinwms_bosco.remote.account_lock import lock_parameters
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.remote.verify import ALL, VersionCheck, verify
from glideinwms_bosco.remote.versions import DIGEST_SHOWN, find_version

SWITCH_TIMEOUT_S = 180.0
_SHOWN = 3
# What a version cannot be blamed for, and what does not change what pilots run.
_HARMLESS = ("extra",)


@dataclass(frozen=True)
class RollbackReport:
    """What a rollback has done.

    Attributes:
        account: `user@host:port`.
        digest: of the version `glite` points to now (with dry_run: would point to).
        before: of the one it pointed to; None when it was no link of ours.
        action: "switched", "unchanged" or "would-switch".
        complete: the version's modes and links could be verified too.
    """

    account: str
    digest: str
    before: Optional[str]
    action: str
    complete: bool


def rollback(session: SshSession, bosco_dir: str, to: Optional[str] = None, *, dry_run: bool = False) -> RollbackReport:
    """Switch to the version that was current before, or to a named one. Running pilots keep the version they have.

    Args:
        session: open.
        bosco_dir: relative to the remote home.
        to: beginning of a digest.
        dry_run: verify, change nothing.

    Raises:
        DriftError: the version is damaged; nothing was changed.
        BusyError: another operator is changing the account.
        RemoteError: there is no such version, or nothing to go back to.
    """
    # All versions of one account are a second's work; asking for the previous one first would be a round trip more.
    report = verify(session, bosco_dir, to or ALL)
    where = session.label
    if to is not None:
        digest = find_version(report.there, to, where)
    elif report.previous is not None:
        digest = report.previous
    else:
        raise RemoteError(
            f"{where}: ~/{bosco_dir} has no version that was current before",
            "see `gwms-bosco remote versions`, name one by --to" if report.there else "run `gwms-bosco remote deploy`",
        )
    checks = [check for check in report.checks if check.digest == digest]
    if len(checks) != 1:
        raise RemoteError(f"{where} does not say what version {digest[:DIGEST_SHOWN]} holds", "run the command again")
    (check,) = checks
    _refuse_damaged(check, where)
    action = "unchanged" if digest == report.current else "would-switch" if dry_run else "switched"
    if action == "switched":
        _switch(session, bosco_dir, digest, report.current)
    return RollbackReport(report.account, digest, report.current, action, check.complete)


def _refuse_damaged(check: VersionCheck, where: str) -> None:
    damage = [drift for drift in check.drift if drift.kind not in _HARMLESS]
    if damage:
        shown = "; ".join(f"{drift.path} {drift.text}" for drift in damage[:_SHOWN])
        more = f" and {len(damage) - _SHOWN} more" if len(damage) > _SHOWN else ""
        raise DriftError(
            f"{where}: version {check.digest[:DIGEST_SHOWN]} is damaged: {shown}{more}",
            "name another version by --to, or deploy its bundle again, which repairs it",
        )


def _switch(session: SshSession, bosco_dir: str, digest: str, current: Optional[str]) -> None:
    header = (bosco_dir, *lock_parameters("rollback"), digest, current or "-")
    program = load_program("begin.sh", "lock.sh", "tree.sh", "switch.sh")
    reply = session.run_script(program, header, deadline_s=SWITCH_TIMEOUT_S)
    if reply.values("SWITCHED") != (digest,):
        raise RemoteError(f"{session.label} does not confirm the switch to {digest}")
