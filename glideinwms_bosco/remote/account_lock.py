# SPDX-License-Identifier: Apache-2.0
"""One operator at a time changes an account: who asks for the lock, and what to say when another one has it. Pure.

The lock itself is on the login node (scripts/lock.sh), held by the program that works there.
"""

from __future__ import annotations

import getpass
import re
import socket
import time

from glideinwms_bosco.errors import BusyError
from glideinwms_bosco.remote.messages import one_line

LOCK_OTHER_NODE_S = 7200
"""A lock.d made on another node of the account stands this long (s): more than any command takes, and clocks differ."""
_HOLDER = re.compile(r"held by (\d{1,12}) (\d{1,10}) \S* (\S+) (\S+) (\S+)$")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.@-]+")
_HINT = "wait until it is done, then run the same command again"


def lock_parameters(command: str) -> tuple[str, str]:
    """What scripts/lock.sh reads: who works (`user@host command`), and seconds a lock of another node stands."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    who = _UNSAFE.sub("_", f"{user}@{socket.gethostname()}")
    return f"{who} {_UNSAFE.sub('_', command)}", str(LOCK_OTHER_NODE_S)


def busy_error(text: str, where: str) -> BusyError:
    """Return (not raise) the error for `ERROR busy`: who has the account, since when, with which command.

    Args:
        text: what scripts/lock.sh has said.
        where: opens the message.
    """
    found = _HOLDER.search(text.strip())
    if found is None:
        return BusyError(f"{where}: another operator is changing this account", _HINT, text)
    # Any program of the account may have written this.
    since, pid, node, who, command = map(one_line, found.groups())
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(int(since)))
    return BusyError(
        f"{where}: {who} is changing this account: {command} since {at} (process {pid} on {node})", _HINT, text
    )
