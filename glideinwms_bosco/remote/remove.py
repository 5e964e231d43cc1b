# SPDX-License-Identifier: Apache-2.0
"""Take an installation away, when nothing needs it any more: only what we have installed, and never under a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.batch import batch_system
from glideinwms_bosco.errors import BatchError, BusyError, RemoteError
from glideinwms_bosco.remote.account_lock import lock_parameters
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.site_key import KEY_FOLDER, key_marker
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.remote.versions import DIGEST_SHOWN, LEASE_S, AccountVersions, account_versions

REMOVE_TIMEOUT_S = 300.0
_SHOWN = 5
_SHARED_NAMES = ("sandbox", "log")


@dataclass(frozen=True)
class Jobs:
    """How to ask the account's batch system: its name, the account's user, and the site's settings for it."""

    system: str
    user: str
    bin_path: Optional[str]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class RemoveReport:
    """What was removed, or would be.

    Attributes:
        account: `user@host:port`.
        action: "removed", "would-remove" or "nothing" (nothing of ours is there).
        versions: digests.
        needed_by: sentences: what still needs the installation, and breaks with --force.
        left: what stays in bosco_dir because it is not ours, or because jobs still need it.
        site_key: the tunnel's key goes with its line in authorized_keys.
    """

    account: str
    action: str
    versions: tuple[str, ...]
    needed_by: tuple[str, ...]
    left: tuple[str, ...]
    site_key: bool = False


def remove(
    session: SshSession, bosco_dir: str, jobs: Jobs, *, force: bool = False, dry_run: bool = False
) -> RemoveReport:
    """Remove link, versions, leases and the tunnel's key; sandbox and log too when no job is left.

    Args:
        session: open.
        bosco_dir: relative to the remote home.
        jobs: how to ask for the account's jobs.
        force: also when jobs, sandboxes or processes still need it; with jobs, sandbox and log stay.
        dry_run: say it, change nothing.

    Raises:
        BusyError: something still needs it and `force` is not set, or another operator is changing the account.
        RemoteError: and its subclasses, as `SshSession.run_script`.
    """
    adapter = batch_system(jobs.system)
    command = adapter.own_jobs_command(jobs.user, jobs.bin_path, jobs.settings)
    account = account_versions(session, bosco_dir, command)
    running, problem = _running(account, jobs)
    needed_by = tuple(_needs(account, running, problem, jobs.system))
    data = tuple(name for name in account.ours if name in _SHARED_NAMES)
    if not _is_anything_ours(account):
        return RemoveReport(account.account, "nothing", (), (), (*account.foreign, *data))
    if needed_by and not force and not dry_run:
        raise BusyError(
            f"{session.label}: still needed: {'; '.join(needed_by)}",
            "disable the entry and wait until its pilots are done; --force removes it under them, --dry-run says more",
        )
    with_data = not running and problem is None
    if not dry_run:
        _remove(session, bosco_dir, forced=bool(needed_by), with_data=with_data)
    left = account.foreign if with_data else (*account.foreign, *data)
    digests = tuple(version.digest for version in account.versions)
    action, site_key = "would-remove" if dry_run else "removed", KEY_FOLDER in account.ours
    return RemoveReport(account.account, action, digests, needed_by, left, site_key)


def _is_anything_ours(account: AccountVersions) -> bool:
    # `sandbox` and `log` alone are those of a hand-made installation, or of a user: ours go before what stands beside.
    marks = [name for name in account.ours if name not in _SHARED_NAMES]
    return bool(account.versions or account.current or account.leftovers or marks)


def _running(account: AccountVersions, jobs: Jobs) -> tuple[tuple[str, ...], Optional[str]]:
    """The account's jobs, or why they are not known."""
    if account.jobs_status is None:
        return (), f"{jobs.system} was not asked"
    try:
        return batch_system(jobs.system).parse_own_jobs(account.jobs_status, account.jobs_text), None
    except BatchError as error:
        return (), error.message


def _needs(account: AccountVersions, running: tuple[str, ...], problem: Optional[str], system: str) -> list[str]:
    needs = []
    if problem is not None:
        needs.append(f"the account's jobs are not known ({problem})")
    if running:
        shown = ", ".join(running[:_SHOWN]) + (", ..." if len(running) > _SHOWN else "")
        needs.append(f"{len(running)} job(s) of the account in {system} ({shown}): they would lose their output")
    if account.sandboxes:
        needs.append(f"{account.sandboxes} sandbox(es) of jobs whose output was not fetched yet")
    if account.led_to is not None:
        needs.append(f"glite, which is no link of ours, leads to version {account.led_to[:DIGEST_SHOWN]}")
    for use in account.uses[:_SHOWN]:
        name = use.name or "a gahp"
        sure = "" if use.certain else ", if it still runs"
        needs.append(f"{name} (process {use.pid} on {use.node}{sure}) uses version {use.digest[:DIGEST_SHOWN]}")
    if len(account.uses) > _SHOWN:
        needs.append(f"{len(account.uses) - _SHOWN} more processes")
    return needs


def _remove(session: SshSession, bosco_dir: str, *, forced: bool, with_data: bool) -> None:
    how, data = "forced" if forced else "idle", "data" if with_data else "-"
    header = (bosco_dir, *lock_parameters("remove"), str(LEASE_S), how, data, key_marker(bosco_dir))
    program = load_program("begin.sh", "lock.sh", "tree.sh", "use.sh", "keys.sh", "remove.sh")
    reply = session.run_script(program, header, deadline_s=REMOVE_TIMEOUT_S)
    if not reply.values("DONE"):
        raise RemoteError(f"{session.label} does not confirm the removal")
