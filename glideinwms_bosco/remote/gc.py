# SPDX-License-Identifier: Apache-2.0
"""Remove versions that nothing needs: not the current one, not the one before, none in use, not the last few."""

from __future__ import annotations

from dataclasses import dataclass

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.account_lock import lock_parameters
from glideinwms_bosco.remote.messages import one_line
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.remote.versions import LEASE_S, AccountVersions, account_versions

KEEP_VERSIONS = 3
GC_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class GcReport:
    """What was removed, or would be.

    Attributes:
        account: `user@host:port`.
        removed: digest -> kilobytes.
        kept: digest -> why.
        swept: leftovers of cut-off programs, paths in bosco_dir.
        dry_run: nothing was changed.
    """

    account: str
    removed: dict[str, int]
    kept: dict[str, str]
    swept: tuple[str, ...]
    dry_run: bool


def reasons_to_keep(account: AccountVersions, keep: int) -> dict[str, str]:
    """Say why versions stay: dict digest -> reason. Pure.

    Args:
        account: what is there.
        keep: how many of the newest versions stay in any case, the current one counted.
    """
    reasons: dict[str, str] = {}
    for number, version in enumerate(account.versions):
        if version.current:
            reasons[version.digest] = "current"
        elif version.previous:
            reasons[version.digest] = "previous"
        elif version.uses or version.digest == account.led_to:
            reasons[version.digest] = "in use"
        elif number < keep:
            reasons[version.digest] = f"one of the last {keep}"
    return reasons


def collect(session: SshSession, bosco_dir: str, *, keep: int = KEEP_VERSIONS, dry_run: bool = False) -> GcReport:
    """Remove the versions that nothing needs, and what cut-off programs have left.

    Args:
        session: open.
        bosco_dir: relative to the remote home.
        keep: how many of the newest versions stay in any case.
        dry_run: say it, change nothing.

    Raises:
        BusyError: another operator is changing the account.
        RemoteError: and its subclasses, as `SshSession.run_script`.
    """
    account = account_versions(session, bosco_dir)
    kept = reasons_to_keep(account, keep)
    sizes = {version.digest: version.size_kb for version in account.versions}
    unneeded = [digest for digest in sizes if digest not in kept]
    swept = account.leftovers
    if not dry_run and (unneeded or swept or account.stale_leases):
        header = (bosco_dir, *lock_parameters("gc"), str(LEASE_S), str(len(unneeded)), *unneeded)
        program = load_program("begin.sh", "lock.sh", "tree.sh", "use.sh", "gc.sh")
        reply = session.run_script(program, header, deadline_s=GC_TIMEOUT_S)
        swept = tuple(one_line(name.removeprefix("SWEPT ")) for name in reply.values("SWEPT"))
        late = set(reply.values("KEPT"))
        kept.update(dict.fromkeys((digest for digest in unneeded if digest in late), "in use"))
        unneeded = [digest for digest in unneeded if digest not in late]
        if not set(unneeded) <= set(reply.values("REMOVED")):
            raise RemoteError(f"{session.label} does not confirm what was removed")
    return GcReport(account.account, {digest: sizes[digest] for digest in unneeded}, kept, swept, dry_run)
