# SPDX-License-Identifier: Apache-2.0
"""Every exception of the project: one root class per room, so that a caller can catch a whole room.

An error is worded for the operator: one line that says what is wrong and where, and a hint that says what to do.
`cli` prints both and leaves with `exit_status`; a traceback never reaches an operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Optional

EXIT_OK = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_REMOTE = 3


@dataclass(frozen=True)
class Problem:
    """One finding about an input file.

    Attributes:
        file: path as the operator gave it.
        line: 1-based; 0 when no line can be named.
        field: dotted path such as `entries[0].walltime`; empty for the file as a whole.
        message: what is wrong.
        hint: what would be right.
        severity: `error` (nothing is done) or `warning` (reported, work goes on).
    """

    file: str
    line: int
    field: str
    message: str
    hint: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        field = f"{self.field}: " if self.field else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{where}: {self.severity}: {field}{self.message}{hint}"


class BoscoError(Exception):
    """Root of all errors of the project.

    Attributes:
        message: one line, what is wrong and where (`file:line` for input files).
        hint: one line, what to do about it; empty when the message says it all.
    """

    exit_status: ClassVar[int] = EXIT_REFUSED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The findings of an error about an input file; empty for any other."""
        return ()

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(BoscoError):
    """The call itself is wrong: an unknown site name, options that exclude each other."""

    exit_status = EXIT_USAGE


class SettingsError(BoscoError):
    """gwms-bosco.yaml or an environment variable cannot be used."""

    exit_status = EXIT_USAGE


class FileProblemsError(BoscoError):
    """An input file has problems; all of them are in `problems`, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self._problems = problems

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All findings."""
        return self._problems


class SettingsFileError(FileProblemsError, SettingsError):
    """gwms-bosco.yaml has problems."""


class SiteError(BoscoError):
    """A site description is refused (room `site`)."""


class SiteFileError(FileProblemsError, SiteError):
    """A site file has problems."""


class BatchError(BoscoError):
    """A request cannot be expressed for a batch system (room `batch`)."""


class EntryError(BoscoError):
    """Factory entry XML cannot be rendered or written (room `entry`)."""


class EntryFileError(FileProblemsError, EntryError):
    """A file of a factory configuration cannot be read as entry XML."""


class PilotError(BoscoError):
    """What pilots bring along cannot be packed or written (room `pilot`)."""


class SiteconfError(BoscoError):
    """A SITECONF cannot be read or made (room `siteconf`)."""


class SiteconfFileError(FileProblemsError, SiteconfError):
    """A file of a SITECONF has problems."""


class WebProxyError(BoscoError):
    """What web proxies are asked for cannot be computed (room `webproxy`)."""


class EgressError(BoscoError):
    """The network of a closed site cannot be described or checked (room `egress`)."""


class BundleError(BoscoError):
    """A bundle cannot be built or read (room `bundle`)."""


class SourceError(BundleError):
    """The HTCondor source (installed root or release tarball) is not usable."""


class RepairError(BundleError):
    """A known-defect repair does not recognise the file it should apply to."""


class RemoteError(BoscoError):
    """The remote side failed (room `remote`)."""

    exit_status = EXIT_REMOTE

    def __init__(self, message: str, hint: str = "", detail: Optional[str] = None) -> None:
        super().__init__(message, hint)
        self.detail = detail


class UnreachableError(RemoteError):
    """No TCP or ssh connection: host down, name unknown, connection refused, time-out."""


class HostKeyError(RemoteError):
    """The login or jump host shows a key that is not pinned."""


class AuthenticationError(RemoteError):
    """The remote account does not accept the key (or the user does not exist)."""


class ConnectionLostError(RemoteError):
    """An open ssh connection ended before the remote side had answered."""


class RemoteStorageError(RemoteError):
    """The remote file system is full, read-only or over quota."""


class PlatformError(RemoteError):
    """The remote machine cannot run the bundle: architecture, libc or libraries."""


class TestJobError(RemoteError):
    """The test job did not come back as it should."""

    __test__ = False  # the name starts with Test; pytest must not collect it


class ScheddError(RemoteError):
    """The local schedd cannot be asked or refuses the job."""


class DriftError(RemoteError):
    """An installed version is not what its manifest says."""


class BusyError(RemoteError):
    """Another operator works on the account, or jobs still need what should go."""


class ThrottledError(RemoteError):
    """The host turns connections away, or our own limit for it is used up."""


class WireError(BoscoError):
    """Bytes of the ssh protocols that do not parse, or a signature that does not verify (room `sshwire`)."""


class LinkError(BoscoError):
    """The connection between broker and relay failed (room `link`)."""

    exit_status = EXIT_REMOTE


class BrokerError(BoscoError):
    """The key broker cannot do what was asked (room `broker`)."""


class PolicyFileError(FileProblemsError, BrokerError):
    """The broker's policy file has problems."""


class KeyBackendError(BrokerError):
    """A key cannot be loaded, or its backend does not sign."""


class AuditError(BrokerError):
    """The audit log cannot be written, or it was tampered with."""


class RelayError(BoscoError):
    """The factory's relay cannot do what was asked (room `relay`)."""


class RelayFileError(FileProblemsError, RelayError):
    """relay.conf has problems."""
