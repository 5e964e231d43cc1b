# SPDX-License-Identifier: Apache-2.0
"""Install a bundle into an account on a login node, or find that nothing is to be done.

`~/<bosco_dir>/versions/<digest>/` is built aside, verified and renamed into place; then the link `glite` is switched by
rename. Whatever is cut off, killed or full on the way, the version `glite` points to is not touched.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.batch import batch_system
from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.account_lock import lock_parameters
from glideinwms_bosco.remote.archive import pack_files
from glideinwms_bosco.remote.inspection import RemoteState, parse_state
from glideinwms_bosco.remote.messages import MessageFormatError, one_line
from glideinwms_bosco.remote.plan import (
    RECORD_FILES,
    Plan,
    check_bosco_dir,
    check_login_shell,
    check_owners,
    check_platform,
    check_space,
    make_plan,
    place_path,
)
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.remote.versions import LEASE_S

INSPECT_TIMEOUT_S = 180.0
INSTALL_TIMEOUT_S = 1800.0
# Login profiles that load environment modules from a busy file system take seconds.
PROFILE_TIMEOUT_S = 30
# Longer than INSTALL_TIMEOUT_S, with an hour for clocks that differ: no living deploy is swept away.
STALE_STAGING_S = int(INSTALL_TIMEOUT_S) + 3600


@dataclass(frozen=True)
class DeployReport:
    """What a deploy has done, or would do.

    Attributes:
        account: `user@host:port`.
        digest: of the bundle.
        previous_digest: what `glite` pointed to before, None when there was nothing of ours.
        files_sent, bytes_sent: files that travelled and size of their compressed archive, in bytes.
        action: "unchanged", "switched" (the version was there), "repaired" (files in it were damaged, or others
            could write to it) or "installed";
            with dry_run "unchanged", "would-switch", "would-repair" or "would-install".
        versions: digests present on the remote afterwards (with dry_run: now), sorted.
        notes: sentences for the operator: what is missing there, what was cleaned up.
    """

    account: str
    digest: str
    previous_digest: Optional[str]
    files_sent: int
    bytes_sent: int
    action: str
    versions: tuple[str, ...]
    notes: tuple[str, ...]


_WOULD = {
    "unchanged": "unchanged",
    "switched": "would-switch",
    "repaired": "would-repair",
    "installed": "would-install",
}


def inspect_account(session: SshSession, bundle: Bundle) -> RemoteState:
    """Ask the account what it has of this bundle; changes nothing there.

    Raises:
        RemoteError: and its subclasses, as `SshSession.run_script`.
    """
    manifest = bundle.manifest
    commands = tuple(dict.fromkeys((*batch_system(manifest.batch_system).remote_commands, *manifest.remote_commands)))
    paths = (*sorted(bundle.files), *sorted(bundle.links), *RECORD_FILES)
    header = (manifest.bosco_dir, str(PROFILE_TIMEOUT_S), str(len(paths)), *paths, str(len(commands)), *commands)
    reply = session.run_script(load_program("begin.sh", "inspect.sh"), header, deadline_s=INSPECT_TIMEOUT_S)
    try:
        return parse_state(reply)
    except MessageFormatError as error:
        raise RemoteError(f"{session.label} gave an answer that cannot be understood: {error}") from None


def _name_aside(state: RemoteState, bundle: Bundle, adopt: bool, label: str) -> str:
    """Return the name a hand-made `glite` is moved to, '-' when there is none."""
    if not state.glite_is_foreign:
        return "-"
    path = f"{state.home}/{bundle.manifest.bosco_dir}/glite"
    if not adopt:
        found = (
            f"it points to {one_line(state.glite_target)}"
            if state.glite == "link"
            else "a hand-made BOSCO installation?"
        )
        raise RemoteError(
            f"{label}: {path} exists and is not a link of ours ({found})",
            "move it away when none of its jobs run, or deploy with --adopt to have it renamed",
        )
    return time.strftime("glite.before-gwms-bosco-%Y%m%dT%H%M%SZ", time.gmtime())


def _install(
    session: SshSession,
    bundle: Bundle,
    plan: Plan,
    aside: str,
    archive: bytes,
    progress: Optional[Callable[[int, int], None]],
) -> tuple[str, ...]:
    """Run scripts/install.sh; return notes on what it cleaned up."""
    manifest = bundle.manifest
    token = f"{manifest.digest[:12]}-{secrets.token_hex(8)}"
    kind = "archive" if plan.send else "-"
    header = [manifest.bosco_dir, *lock_parameters("deploy"), str(LEASE_S), str(int(INSTALL_TIMEOUT_S))]
    header += [manifest.digest, token, aside, str(STALE_STAGING_S), kind, str(len(plan.entries))]
    header += [str(entry) for entry in plan.entries]
    sent: Optional[Callable[[int], None]] = None
    if progress is not None and archive:
        report, total = progress, len(archive)
        report(0, total)

        def sent(count: int) -> None:
            report(count, total)

    program = load_program("begin.sh", "lock.sh", "tree.sh", "use.sh", "install.sh")
    reply = session.run_script(program, header, archive, deadline_s=INSTALL_TIMEOUT_S, sent=sent)
    if reply.values("PLACED") != (manifest.digest,):
        raise RemoteError(f"{session.label} does not confirm the installation of {manifest.digest}")
    return tuple(
        f"removed {one_line(name)}, left over from a deploy that was cut off" for name in reply.values("SWEPT")
    )


def _notes(bundle: Bundle, state: RemoteState, aside: str, dry_run: bool) -> list[str]:
    notes = []
    for place in state.open_places:
        private = place.name in ("sandbox", "log")
        notes.append(
            f"{place_path(bundle, state, place.name)} {'is not private' if private else 'is writable by others'} "
            f"(mode {place.mode:04o}): {'would be' if dry_run else 'was'} "
            + ("set to 0700" if private else "closed to them; look whether files were added")
        )
    if state.missing_commands:
        names, system = ", ".join(state.missing_commands), bundle.manifest.batch_system
        notes.append(f"a login shell on {state.node} does not find {names}, which {system} jobs need")
    if aside != "-" and state.glite == "link":
        notes.append(f"the old link glite (to {one_line(state.glite_target)}) becomes {aside}")
    elif aside != "-":
        notes.append(f"the old directory glite becomes {aside}; its sandbox stays in there")
    return notes


def deploy(
    session: SshSession,
    bundle: Bundle,
    *,
    dry_run: bool,
    adopt: bool = False,
    progress: Optional[Callable[[int, int], None]] = None,
    before: Optional[Callable[[], None]] = None,
) -> DeployReport:
    """Bring the bundle into the account of an open session.

    One remote program runs when nothing changed, two otherwise. The second one locks the account.

    Args:
        session: an open session; stays open.
        bundle: what to install.
        dry_run: change nothing on the remote and tell what would be done.
        adopt: rename a directory `glite` that is not ours, instead of refusing.
        progress: called with (bytes sent, total bytes) of the archive; not called when nothing is sent.
        before: called once when all checks are passed and before the account is changed, also when the bundle is there
            already; not with dry_run.

    Raises:
        PlatformError: the machine cannot run the bundle.
        RemoteStorageError: not enough space, quota or rights to write.
        BusyError: another operator is changing the account, or has changed it since it was looked at.
        ConnectionLostError: cut off; the old version is still in place and the next deploy finishes.
        RemoteError: anything else, e.g. a directory `glite` of somebody else, or a login profile that hangs.
    """
    check_bosco_dir(bundle)
    state = inspect_account(session, bundle)
    check_platform(bundle, state, session.label)
    check_owners(bundle, state, session.label)
    check_login_shell(state, PROFILE_TIMEOUT_S, session.label)
    plan = make_plan(bundle, state)
    aside = _name_aside(state, bundle, adopt, session.label)
    if plan.action != "unchanged":
        check_space(bundle, plan, state, session.label)
    archive = pack_files(bundle, plan.send) if plan.send else b""
    notes = _notes(bundle, state, aside, dry_run)
    versions = set(state.versions)
    if before is not None and not dry_run:
        before()
    if plan.action != "unchanged" and not dry_run:
        notes += _install(session, bundle, plan, aside, archive, progress)
        versions.add(bundle.manifest.digest)
    return DeployReport(
        account=session.connection.login.label,
        digest=bundle.manifest.digest,
        previous_digest=state.current_digest,
        files_sent=len(plan.send),
        bytes_sent=len(archive),
        action=_WOULD[plan.action] if dry_run else plan.action,
        versions=tuple(sorted(versions)),
        notes=tuple(notes),
    )
