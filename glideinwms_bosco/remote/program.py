# SPDX-License-Identifier: Apache-2.0
"""The sh programs that run on a login node: how they get there, and what their failures mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

from glideinwms_bosco.errors import BusyError, PlatformError, RemoteError, RemoteStorageError
from glideinwms_bosco.remote.account_lock import busy_error
from glideinwms_bosco.remote.messages import Reply, one_line

# `dd bs=1` and `read` take no byte more than theirs; dash would otherwise read ahead into the parameters.
# No '!' and no newline inside the quotes: csh and tcsh would read them.
BOOTSTRAP = """exec /bin/sh -c 'IFS= read -r n && s=$(dd bs=1 count="$n" 2>/dev/null) && eval "$s"'"""

STARTUP_FILES = "the login shell's startup files (~/.bashrc, ~/.bash_profile, ~/.profile, ~/.cshrc)"
PROFILE_FILES = "~/.bash_profile, ~/.bash_login or ~/.profile (and what they read, such as ~/.bashrc)"
_STORAGE = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|File too large|Input/output error|"
    r"Stale file handle|Permission denied|"
    # GNU tar says so, and not ENOSPC, when the last block fitted in part.
    r"Wrote only \d+ of \d+ bytes"
)


@dataclass(frozen=True)
class RemoteFailure:
    """An `ERROR step text` line of a remote program: which step failed and what the failing command printed."""

    step: str
    text: str


def load_program(*names: str) -> str:
    """Return the text of scripts/<name>, joined in order, without comment lines.

    Comments stay home because the remote reads the program byte by byte.
    """
    folder = resources.files("glideinwms_bosco.remote").joinpath("scripts")
    text = "".join(folder.joinpath(name).read_text("ascii") for name in names)
    return "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))


def parse_failure(reply: Reply) -> RemoteFailure:
    """Return the first ERROR line of a reply that has one."""
    step, _, text = reply.values("ERROR")[0].partition(" ")
    return RemoteFailure(step, text)


def failure_error(failed: RemoteFailure, where: str) -> RemoteError:
    """Return (not raise) the error for a failure that a remote program has reported; `where` opens the message."""
    text = failed.text
    if failed.step == "busy":
        return busy_error(text, where)
    if failed.step in ("moved", "in-use"):
        what = "was changed meanwhile" if failed.step == "moved" else "is in use again"
        return BusyError(f"{where}: the account {what}: {one_line(text)}", "run the same command again", text)
    message = f"{where}: {failed.step} failed: {one_line(text)}"
    if failed.step == "library":
        return PlatformError(message, "install these libraries there, or build a bundle for this system", text)
    if _STORAGE.search(text):
        return RemoteStorageError(message, "free space or quota there, then run the same command again", text)
    return RemoteError(message, "", text)


def not_begun_error(where: str, said: str, status: int, *, printed_back: bool) -> RemoteError:
    """Return (not raise) the error for an account whose login shell has not started the program.

    Args:
        where: opens the message.
        said: what came instead; may be empty.
        status: exit status of the command.
        printed_back: whether `said` holds what we have sent.
    """
    if printed_back:
        return RemoteError(
            f"{where}: the account prints our program back instead of running it",
            f"{STARTUP_FILES} read standard input and print it (a 'cat' without a file?)",
            said,
        )
    return RemoteError(
        f"{where}: the account does not run commands: {one_line(said) or f'exit status {status}, no output'}",
        f"the login shell must start /bin/sh for 'ssh host command'; {STARTUP_FILES} must not read standard input",
        said or None,
    )
