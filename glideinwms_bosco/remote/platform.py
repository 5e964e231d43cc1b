# SPDX-License-Identifier: Apache-2.0
"""Which of several HTCondor sources is the right one for a machine; the choice is pure, asking the machine is not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

from glideinwms_bosco.bundle.platform import SourcePlatform
from glideinwms_bosco.errors import BundleError, PlatformError, RemoteError, SourceError
from glideinwms_bosco.remote.messages import MessageFormatError, Reply, one_line
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.site.source import HTCondorSource

PLATFORM_TIMEOUT_S = 60.0
ANY_VERSION = "-"

_LIBC = re.compile(r"[0-9]{1,3}\.[0-9]{1,4}(?:\.[0-9]{1,4})?")
_ARCHITECTURE = re.compile(r"[A-Za-z0-9_.-]{1,40}")

Library = tuple[str, str]
"""Soname and symbol version; the version is empty where any will do."""


@dataclass(frozen=True)
class Machine:
    """A machine that pilots are to be started on.

    Attributes:
        architecture: as `uname -m` says.
        libc: version of glibc, None when it has another libc or does not tell.
        missing: of the libraries that were asked for.
    """

    architecture: str
    libc: Optional[str]
    missing: frozenset[Library] = frozenset()

    def __str__(self) -> str:
        return f"{self.architecture} with {'no glibc' if self.libc is None else f'glibc {self.libc}'}"


@dataclass(frozen=True)
class Candidate:
    """A source, and what it is or why that cannot be told."""

    source: HTCondorSource
    platform: Union[SourcePlatform, BundleError]

    @property
    def name(self) -> str:
        """How messages name it: its place, and its version when that is known."""
        place = self.source.place
        return place if isinstance(self.platform, BundleError) else f"{place} ({self.platform.htcondor_version})"


@dataclass(frozen=True)
class Choice:
    """The source for a machine.

    Attributes:
        source: the chosen one.
        rejected: (name, reason) of every other one, in the order they were given.
        name: of the chosen one.
        problems: names of sources that cannot be read, with what is wrong.
    """

    source: HTCondorSource
    name: str
    rejected: tuple[tuple[str, str], ...]
    problems: tuple[str, ...] = ()

    def lines(self) -> tuple[str, ...]:
        """The choice in words; nothing when there was none to make."""
        if not self.rejected:
            return ()
        return (f"HTCondor from {self.name}", *(f"not from {name}: {reason}" for name, reason in self.rejected))

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        rejected = [{"source": name, "reason": reason} for name, reason in self.rejected]
        return {"chosen": self.name, "rejected": rejected}


def libraries_of(candidates: Iterable[Candidate]) -> tuple[Library, ...]:
    """What a machine has to be asked for, sorted."""
    platforms = (candidate.platform for candidate in candidates)
    return tuple(sorted({item for found in platforms if isinstance(found, SourcePlatform) for item in found.libraries}))


def ask_machine(session: SshSession, libraries: Sequence[Library]) -> Machine:
    """Ask a login node over an open session; changes nothing there.

    Raises:
        RemoteError: and its subclasses, as `SshSession.run_script`.
    """
    wanted = [f"{soname} {version or ANY_VERSION}" for soname, version in libraries]
    program = load_program("begin.sh", "platform.sh")
    reply = session.run_script(program, (str(len(wanted)), *wanted), deadline_s=PLATFORM_TIMEOUT_S)
    try:
        return parse_machine(reply, libraries)
    except MessageFormatError as error:
        raise RemoteError(f"{session.label} gave an answer that cannot be understood: {error}") from None


def parse_machine(reply: Reply, libraries: Sequence[Library]) -> Machine:
    """Read the answer of scripts/platform.sh.

    Raises:
        MessageFormatError: a line is missing, doubled or of another form, or names a library that was not asked for.
    """
    architecture, libc = reply.only("ARCH"), reply.only("LIBC")
    if not _ARCHITECTURE.fullmatch(architecture):
        raise MessageFormatError(f"unexpected value of ARCH: {one_line(architecture)[:80]!r}")
    asked = {f"{soname} {version or ANY_VERSION}": (soname, version) for soname, version in libraries}
    missing = reply.values("NO-LIBRARY")
    for name in missing:
        if name not in asked:
            raise MessageFormatError(f"unexpected value of NO-LIBRARY: {one_line(name)[:80]!r}")
    return Machine(architecture, libc if _LIBC.fullmatch(libc) else None, frozenset(asked[name] for name in missing))


def misfit(platform: SourcePlatform, machine: Machine, brought: frozenset[str] = frozenset()) -> str:
    """Say why a source does not run on a machine; empty when nothing speaks against it.

    Args:
        platform: of the source.
        machine: the machine.
        brought: sonames that the bundle brings by itself, as extra files.
    """
    if platform.architecture != machine.architecture:
        return f"is for {platform.architecture}"
    if platform.glibc_min and (machine.libc is None or _numbers(machine.libc) < _numbers(platform.glibc_min)):
        return f"needs glibc {platform.glibc_min}"
    lacking = [item for item in platform.libraries if item in machine.missing and item[0] not in brought]
    return f"needs {' and '.join(_library_name(item) for item in lacking)}" if lacking else ""


def choose(
    candidates: Sequence[Candidate],
    machine: Optional[Machine],
    where: str,
    brought: frozenset[str] = frozenset(),
) -> Choice:
    """Take the newest HTCondor that runs on a machine; of equal ones the first.

    Args:
        candidates: at least one, in the order of the configuration.
        machine: None: every machine will do.
        where: opens the message of an error.
        brought: see `misfit`.

    Raises:
        SourceError: no source can be read.
        PlatformError: none fits; names each with its reason.
    """
    reasons: dict[int, str] = {}
    fitting: list[tuple[tuple[int, ...], int]] = []
    for number, candidate in enumerate(candidates):
        found = candidate.platform
        if isinstance(found, BundleError):
            reasons[number] = f"cannot be used: {found.message}"
            continue
        reasons[number] = "" if machine is None else misfit(found, machine, brought)
        if not reasons[number]:
            fitting.append((found.release, -number))
    if not fitting:
        raise _none_fits(candidates, reasons, machine, where)
    release, place = max(fitting)
    chosen = -place
    for found_release, number in fitting:
        reasons[-number] = "older" if found_release < release else "same version, later in the list"
    rejected = tuple((c.name, reasons[i]) for i, c in enumerate(candidates) if i != chosen)
    problems = tuple(
        f"HTCondor source {c.name} {reasons[i]}"
        for i, c in enumerate(candidates)
        if isinstance(c.platform, BundleError)
    )
    return Choice(candidates[chosen].source, candidates[chosen].name, rejected, problems)


def _none_fits(
    candidates: Sequence[Candidate], reasons: dict[int, str], machine: Optional[Machine], where: str
) -> Union[BundleError, PlatformError]:
    unreadable = [c.platform for c in candidates if isinstance(c.platform, BundleError)]
    told = "; ".join(f"{c.name} {reasons[i]}" for i, c in enumerate(candidates))
    if len(unreadable) == len(candidates):
        return unreadable[0] if len(unreadable) == 1 else SourceError(f"no HTCondor source can be used: {told}")
    return PlatformError(
        f"{where}: no HTCondor source runs on {machine}: {told}",
        "add a source for that system to `htcondor` in gwms-bosco.yaml or `install.htcondor` in the site file",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _library_name(library: Library) -> str:
    soname, version = library
    return f"{soname} with {version}" if version else soname
