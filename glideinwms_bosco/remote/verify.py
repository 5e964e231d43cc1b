# SPDX-License-Identifier: Apache-2.0
"""Compare an installed version, file by file, with what it was when it was installed.

What should be there stands in the version itself (manifest.entries). That file cannot lie: the digest over its paths,
modes, links and sums must be the version's name.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.bundle.manifest import FileEntry, LinkEntry, tree_digest
from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.messages import MessageFormatError, Reply, one_line
from glideinwms_bosco.remote.plan import RECORD_FILES
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.remote.versions import current_digest, previous_digest

VERIFY_TIMEOUT_S = 300.0
CURRENT, ALL = "current", "all"
# Python writes its compiled modules there while blahp's status scripts run.
_CACHE = "libexec/__pycache__"
_ENTRY = re.compile(r"([0-9a-f]{64}) (file|link|exec|info) (\S+) (\S+) (\S+) (\S+)")
_SUM = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{64}) (.*)")
_FOUND = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{1,8}) (\d{1,10}) (.*)")
_TARGET = re.compile(r"([0-9a-f]{64}) (\S+) (.*)")
_HELD = re.compile(r"(\d{1,10}) ([0-9a-f]{1,8}) (\.|versions|sandbox|log|leases)")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_UID = re.compile(r"\d{1,10}")
_PRIVATE = ("sandbox", "log", "leases")
_WRITABLE_BY_OTHERS = 0o022


@dataclass(frozen=True)
class Drift:
    """One thing that is not as it was installed.

    Attributes:
        path: in the version, or the place in bosco_dir.
        kind: missing, changed, type, mode, link, extra, owner, open (others may write), library or record.
        text: the same for the operator.
    """

    path: str
    kind: str
    text: str


@dataclass(frozen=True)
class VersionCheck:
    """One verified version.

    Attributes:
        digest: of the version.
        complete: modes and links could be checked; False for one installed by a release that did not record them.
        files: number of files that were compared.
        drift: sorted by path; empty when all is as installed.
    """

    digest: str
    complete: bool
    files: int
    drift: tuple[Drift, ...]


@dataclass(frozen=True)
class VerifyReport:
    """What a verification has found.

    Attributes:
        account: `user@host:port`.
        current, previous: digests; None when there is no such version.
        there: all digests of the account.
        checks: of the versions that were looked at.
        places: drift of bosco_dir itself and the directories in it.
    """

    account: str
    current: Optional[str]
    previous: Optional[str]
    there: tuple[str, ...]
    checks: tuple[VersionCheck, ...]
    places: tuple[Drift, ...]

    @property
    def clean(self) -> bool:
        """Nothing has drifted."""
        return not self.places and not any(check.drift for check in self.checks)


@dataclass(frozen=True)
class _Record:
    files: dict[str, FileEntry]
    links: dict[str, str]
    complete: bool


def verify(session: SshSession, bosco_dir: str, which: str = CURRENT) -> VerifyReport:
    """Verify installed versions; changes nothing there.

    Args:
        session: open.
        bosco_dir: relative to the remote home.
        which: CURRENT, ALL, or the beginning of a digest.

    Raises:
        RemoteError: and its subclasses, as `SshSession.run_script`.
    """
    program = load_program("begin.sh", "lock.sh", "tree.sh", "verify.sh")
    reply = session.run_script(program, (bosco_dir, which), deadline_s=VERIFY_TIMEOUT_S)
    try:
        return parse_verification(reply, session.connection.login.label)
    except MessageFormatError as error:
        raise RemoteError(f"{session.label} gave an answer that cannot be understood: {error}") from None


def parse_verification(reply: Reply, account: str) -> VerifyReport:
    """Judge the answer of scripts/verify.sh.

    Raises:
        MessageFormatError: a line is missing, doubled or of another form.
    """
    uid = int(_match(_UID, "UID", reply.only("UID"))[0])
    there = tuple(_match(_DIGEST, "VERSION", value)[0] for value in reply.values("VERSION"))
    looked = [_match(_DIGEST, "LOOKED", value)[0] for value in reply.values("LOOKED")]
    current = current_digest(reply)
    places = list(_place_drift(reply, uid))
    if current is not None and current not in there:
        places.append(Drift("glite", "link", f"points to version {current}, which is not there"))
    return VerifyReport(
        account=account,
        current=current,
        previous=previous_digest(reply.values("HISTORY"), current, there),
        there=there,
        checks=tuple(_check(reply, digest, uid) for digest in looked),
        places=tuple(places),
    )


def _place_drift(reply: Reply, uid: int) -> Iterator[Drift]:
    for value in reply.values("HELD"):
        found = _match(_HELD, "HELD", value)
        owner, mode, name = int(found[1]), stat.S_IMODE(int(found[2], 16)), found[3]
        if owner != uid:
            yield Drift(name, "owner", f"belongs to user id {owner}")
        if name in _PRIVATE and mode & 0o777 != 0o700:
            yield Drift(name, "mode", f"mode {mode:04o} instead of 0700")
        elif name not in _PRIVATE and mode & _WRITABLE_BY_OTHERS:
            yield Drift(name, "open", f"others may write to it (mode {mode:04o})")


def _check(reply: Reply, digest: str, uid: int) -> VersionCheck:
    drift: list[Drift] = []
    record = _record(reply, digest, drift)
    sums = {found[3]: found[2] for found in _of(_SUM, reply, "SUM", digest)}
    targets = {found[2]: found[3] for found in _of(_TARGET, reply, "TARGET", digest)}
    modes: dict[str, int] = {}
    for found in _of(_FOUND, reply, "FOUND", digest):
        path, mode = found[4], int(found[2], 16)
        modes[path] = mode
        drift += _holder_drift(path, mode, int(found[3]), uid)
        if not _belongs(path, mode, record):
            drift.append(Drift(one_line(path), "extra", "was not installed"))
    for path, entry in record.files.items():
        drift += _file_drift(entry, modes.get(path), sums.get(path), record.complete)
    for path, target in record.links.items():
        if path not in modes:
            drift.append(Drift(path, "missing", "the link is not there"))
        elif targets.get(path) != target:
            drift.append(Drift(path, "link", f"is not the link to {target}"))
    drift += [
        Drift("?", "extra", "a file with a line end in its name") for value in reply.values("ODD") if value == digest
    ]
    for value in reply.values("LIBRARY"):
        if value.startswith(digest):
            drift.append(Drift("libexec", "library", one_line(value[len(digest) + 1 :])))
    return VersionCheck(digest, record.complete, len(record.files), tuple(sorted(drift, key=lambda item: item.path)))


def _record(reply: Reply, digest: str, drift: list[Drift]) -> _Record:
    """What should be there; adds to `drift` when the record itself is not right."""
    files: dict[str, FileEntry] = {}
    links: dict[str, str] = {}
    entries = _of(_ENTRY, reply, "RECORD", digest, strict=False)
    for _, kind, mode, sha256, source, path in (found.groups() for found in entries):
        if kind == "file" and re.fullmatch(r"[0-7]{1,4}", mode):
            files[path] = FileEntry(path, sha256, int(mode, 8), 0, "")
        elif kind == "link":
            links[path] = source
    if reply_has(reply, "RECORD", digest):
        if not _is_digest_of(digest, files, links):
            drift.append(Drift("manifest.entries", "record", "is not the one this version was installed with"))
        return _Record(files, links, True)
    for found in _of(_SUM, reply, "SUMMED", digest):
        files[found[3]] = FileEntry(found[3], found[2], 0, 0, "")
    if not files:
        drift.append(Drift("manifest.sha256sums", "missing", "the version has no record of what it holds"))
    return _Record(files, links, False)


def _is_digest_of(digest: str, files: dict[str, FileEntry], links: dict[str, str]) -> bool:
    try:
        return tree_digest(files.values(), [LinkEntry(*item) for item in links.items()]) == digest
    except UnicodeEncodeError:
        return False


def _holder_drift(path: str, mode: int, owner: int, uid: int) -> Iterator[Drift]:
    if owner != uid:
        yield Drift(one_line(path), "owner", f"belongs to user id {owner}")
    if mode & _WRITABLE_BY_OTHERS and not stat.S_ISLNK(mode):
        yield Drift(one_line(path), "open", f"others may write to it (mode {stat.S_IMODE(mode):04o})")


def _belongs(path: str, mode: int, record: _Record) -> bool:
    if path in record.files or path in record.links or path in RECORD_FILES:
        return True
    if stat.S_ISDIR(mode):
        inside = f"{path}/"
        return path == _CACHE or any(name.startswith(inside) for name in (*record.files, *record.links))
    if stat.S_ISLNK(mode):
        return not record.complete
    return path.startswith(f"{_CACHE}/") and path.count("/") == 2 and stat.S_ISREG(mode)


def _file_drift(entry: FileEntry, mode: Optional[int], sha256: Optional[str], modes_known: bool) -> Iterator[Drift]:
    if mode is None:
        yield Drift(entry.path, "missing", "is not there")
    elif not stat.S_ISREG(mode):
        yield Drift(entry.path, "type", "is not a regular file")
    else:
        if sha256 is None:
            yield Drift(entry.path, "changed", "cannot be read")
        elif sha256 != entry.sha256:
            yield Drift(
                entry.path, "changed", f"has other content (sha256 {sha256[:12]} instead of {entry.sha256[:12]})"
            )
        if modes_known and stat.S_IMODE(mode) != entry.mode:
            yield Drift(entry.path, "mode", f"mode {stat.S_IMODE(mode):04o} instead of {entry.mode:04o}")


def reply_has(reply: Reply, key: str, digest: str) -> bool:
    """Tell whether a reply has a line of this key for a version."""
    return any(value.startswith(f"{digest} ") for value in reply.values(key))


def _of(pattern: re.Pattern[str], reply: Reply, key: str, digest: str, *, strict: bool = True) -> list[re.Match[str]]:
    """Matches of the lines for one version; not strict: lines from a file that anyone may have written to."""
    values = [value for value in reply.values(key) if value.startswith(f"{digest} ")]
    if strict:
        return [_match(pattern, key, value) for value in values]
    return [found for found in map(pattern.fullmatch, values) if found is not None]


def _match(pattern: re.Pattern[str], key: str, value: str) -> re.Match[str]:
    found = pattern.fullmatch(value)
    if found is None:
        raise MessageFormatError(f"unexpected value of {key}: {value[:80]!r}")
    return found
