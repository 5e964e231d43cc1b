# SPDX-License-Identifier: Apache-2.0
"""Which versions an account has, what they are, and who uses them: scripts/versions.sh asked and read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Optional

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.messages import MessageFormatError, Reply, one_line
from glideinwms_bosco.remote.plan import HTCONDOR_VERSION
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession

LEASE_S = 30 * 86400
"""A lease of another node counts this long (s): a busy factory keeps its gahp for days, a node may never come back."""
VERSIONS_TIMEOUT_S = 180.0
DIGEST_SHOWN = 12
_COUNT = r"(\d{1,12})"
_VERSION = re.compile(rf"([0-9a-f]{{64}}) {_COUNT} {_COUNT}")
_HISTORY = re.compile(rf"{_COUNT} ([0-9a-f]{{64}})")
_INFO = re.compile(r"([0-9a-f]{64}) (\S+) (\S+)")
_USE = re.compile(r"([0-9a-f]{64}) (\d{1,10}) ?(.*)")
_LEASE = re.compile(r"([0-9a-f]{64}) (\d{1,10}) (\S+) (-?\d{1,12}) (live|dead|assumed|expired) \S+")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Use:
    """A process that uses a version.

    Attributes:
        digest: of the version.
        pid: process id on `node`.
        node: host name; of the login node that was asked, or of another one.
        name: of the program; empty when only its lease is known.
        certain: False for a lease of another node, which may have ended without a trace.
    """

    digest: str
    pid: int
    node: str
    name: str
    certain: bool


@dataclass(frozen=True)
class Version:
    """One version of an account.

    Attributes:
        digest: name of its directory.
        htcondor: version of HTCondor in it; None when it does not tell.
        installed_at: seconds since 1970, by the login node's clock; also the time of the last repair.
        size_kb: what it takes on the disk.
        current: `glite` points to it.
        previous: it was current before; `rollback` goes there.
        uses: processes.
    """

    digest: str
    htcondor: Optional[str]
    installed_at: int
    size_kb: int
    current: bool
    previous: bool
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class AccountVersions:
    """What an account has.

    Attributes:
        account: `user@host:port`.
        folder: full path of bosco_dir; None when there is none.
        node, now: name and clock (seconds since 1970) of the login node.
        current, previous: digests; None when there is no such version.
        led_to: digest of the version that a `glite` which is no link of ours leads to.
        versions: newest first.
        missing_uses: of versions that are not there any more.
        leftovers: what cut-off programs have left, paths in bosco_dir.
        ours: files and directories of ours beside the versions.
        foreign: what is not ours in bosco_dir, for showing.
        stale_leases: leases that say nothing any more.
        sandboxes: directories of jobs in sandbox/.
        jobs_status, jobs_text: of the command that lists the account's jobs; None when it was not asked.
    """

    account: str
    folder: Optional[str]
    node: str
    now: int
    current: Optional[str]
    previous: Optional[str]
    versions: tuple[Version, ...]
    missing_uses: tuple[Use, ...] = ()
    leftovers: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    stale_leases: int = 0
    sandboxes: int = 0
    jobs_status: Optional[int] = None
    jobs_text: str = field(default="", repr=False)
    led_to: Optional[str] = None

    @property
    def uses(self) -> tuple[Use, ...]:
        """Every use of every version."""
        return (*(use for version in self.versions for use in version.uses), *self.missing_uses)


def account_versions(session: SshSession, bosco_dir: str, jobs_command: Sequence[str] = ()) -> AccountVersions:
    """Ask an account for its versions; changes nothing there.

    Args:
        session: open.
        bosco_dir: relative to the remote home.
        jobs_command: argv that lists the account's jobs, run in a login shell; empty: not asked.

    Raises:
        RemoteError: and its subclasses, as `SshSession.run_script`.
    """
    header = (bosco_dir, str(LEASE_S), str(len(jobs_command)), *jobs_command)
    program = load_program("begin.sh", "lock.sh", "tree.sh", "use.sh", "versions.sh")
    reply = session.run_script(program, header, deadline_s=VERSIONS_TIMEOUT_S)
    try:
        return parse_versions(reply, session.connection.login.label)
    except MessageFormatError as error:
        raise RemoteError(f"{session.label} gave an answer that cannot be understood: {error}") from None


def previous_digest(history: Sequence[str], current: Optional[str], there: Sequence[str]) -> Optional[str]:
    """The version that was current before, of those that are still there; None when none is known.

    Args:
        history: values of HISTORY lines, oldest first. Its last entry need not be the current version: a switch that
            was cut off right after the link was moved could not write it.
    """
    for line in reversed(history):
        found = _HISTORY.fullmatch(line)
        if found and found[2] != current and found[2] in there:
            return found[2]
    return None


def parse_versions(reply: Reply, account: str) -> AccountVersions:
    """Read the answer of scripts/versions.sh.

    Raises:
        MessageFormatError: a line is missing, doubled or of another form.
    """
    rows = [_match(_VERSION, "VERSION", value) for value in reply.values("VERSION")]
    there = [row[1] for row in rows]
    current = current_digest(reply)
    previous = previous_digest(reply.values("HISTORY"), current, there)
    infos = {(info[1], info[2]): one_line(info[3]) for info in _all(_INFO, reply, "INFO")}
    node = one_line(reply.only("NODE"))
    uses, stale = _uses(reply, node)
    versions = [
        Version(
            row[1],
            infos.get((row[1], HTCONDOR_VERSION)),
            int(row[2]),
            int(row[3]),
            row[1] == current,
            row[1] == previous,
            tuple(use for use in uses if use.digest == row[1]),
        )
        for row in rows
    ]
    folder = reply.values("FOLDER")
    asked = reply.values("JOBS-STATUS")
    return AccountVersions(
        account=account,
        folder=one_line(folder[0]) if folder else None,
        node=node,
        now=_number("NOW", reply.only("NOW")),
        current=current,
        previous=previous,
        versions=tuple(sorted(versions, key=lambda version: (-version.installed_at, version.digest))),
        missing_uses=tuple(use for use in uses if use.digest not in there),
        leftovers=tuple(one_line(name) for name in reply.values("LEFTOVER")),
        ours=reply.values("OURS"),
        foreign=tuple(one_line(name) for name in reply.values("FOREIGN")),
        stale_leases=stale,
        sandboxes=sum(_number("SANDBOXES", value.strip()) for value in reply.values("SANDBOXES")),
        jobs_status=_number("JOBS-STATUS", asked[0]) if asked else None,
        jobs_text="".join(f"{line}\n" for line in reply.values("JOB")),
        led_to=next((_match(_DIGEST, "LEADS", value)[0] for value in reply.values("LEADS")), None),
    )


def current_digest(reply: Reply) -> Optional[str]:
    """The value of the CURRENT line; None when `glite` is no link of ours.

    Raises:
        MessageFormatError: it is no digest.
    """
    values = reply.values("CURRENT")
    return _match(_DIGEST, "CURRENT", values[0])[0] if values else None


def _uses(reply: Reply, node: str) -> tuple[tuple[Use, ...], int]:
    """Return the uses, processes first, and the number of leases that say nothing any more."""
    found = {
        (use[1], node, int(use[2])): Use(use[1], int(use[2]), node, one_line(use[3]), True)
        for use in _all(_USE, reply, "USE")
    }
    stale = 0
    for lease in _all(_LEASE, reply, "LEASE"):
        digest, pid, where, state = lease[1], int(lease[2]), one_line(lease[3]), lease[5]
        if state in ("dead", "expired"):
            stale += 1
        else:
            found.setdefault((digest, where, pid), Use(digest, pid, where, "", state == "live"))
    return tuple(found.values()), stale


def _all(pattern: re.Pattern[str], reply: Reply, key: str) -> list[re.Match[str]]:
    return [_match(pattern, key, value) for value in reply.values(key)]


def _number(key: str, value: str) -> int:
    return int(_match(re.compile(_COUNT), key, value)[1])


def _match(pattern: re.Pattern[str], key: str, value: str) -> re.Match[str]:
    found = pattern.fullmatch(value)
    if found is None:
        raise MessageFormatError(f"unexpected value of {key}: {value[:80]!r}")
    return found


def find_version(digests: Sequence[str], prefix: str, where: str) -> str:
    """The one digest that begins with a prefix.

    Raises:
        RemoteError: none does, or several do.
    """
    found = [digest for digest in digests if digest.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(digest[:DIGEST_SHOWN] for digest in (found or digests)) or "none"
    what = "several versions begin" if found else "no version begins"
    raise RemoteError(f"{where}: {what} with {prefix[:64]!r}", f"there: {shown}")
