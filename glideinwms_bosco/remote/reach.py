# SPDX-License-Identifier: Apache-2.0
"""TCP connections to a third host, opened on the login node or here: what is sent, and what comes back."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.messages import Message, one_line
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession

WAIT_S = 12
"""For one connection and its answer: what proxychains allows, and some more."""
MAX_BYTES = 1024
MAX_CALLS = 256
LINE, HEAD = "line", "head"
"""How much to read: one line; lines up to an empty one. Or a number of bytes, as text."""
_SPARE_S = 30.0


@dataclass(frozen=True)
class Call:
    """One connection. `amount`: LINE, HEAD or a number of bytes up to MAX_BYTES as text."""

    host: str
    port: int
    data: bytes
    amount: str


@dataclass(frozen=True)
class Reached:
    """What it gave; `reason` says why it was not opened."""

    connected: bool
    data: bytes = b""
    reason: str = ""


@dataclass(frozen=True)
class SshCall:
    """A login at another sshd with a key that lies on the site, below the remote home; its targets are `host:port`."""

    host: str
    port: int
    user: str
    key: str
    known_hosts: tuple[str, ...]
    targets: tuple[str, ...]


def call_from_login(session: SshSession, calls: Sequence[Call]) -> tuple[Reached, ...]:
    """Open all of them on the login node, one after the other.

    Raises:
        RemoteError: the login node cannot be asked, or its answer is not understood.
    """
    header = [str(len(calls))]
    for call in calls:
        sent = "".join(f"\\0{byte:03o}" for byte in call.data)
        header += [call.host, str(call.port), str(WAIT_S), call.amount, sent]
    deadline_s = _SPARE_S + len(calls) * (WAIT_S + 2.0)
    reply = session.run_script(load_program("begin.sh", "reach.sh"), header, deadline_s=deadline_s)
    found = tuple(_reached(reply.messages, session.label))
    if len(found) != len(calls):
        raise RemoteError(f"{session.label}: {len(found)} answers to {len(calls)} questions")
    return found


def _reached(messages: Sequence[Message], where: str) -> Iterator[Reached]:
    opened = False
    for message in messages:
        if message.key == "SHUT":
            yield Reached(False, reason=one_line(message.value))
        elif message.key == "DATA" and opened:
            try:
                yield Reached(True, bytes.fromhex(message.value))
            except ValueError:
                raise RemoteError(f"{where}: an answer that is no hexadecimal number") from None
        opened = message.key == "OPEN"


def call_from_here(calls: Sequence[Call]) -> tuple[Reached, ...]:
    """The same from this host."""
    return tuple(_call(call) for call in calls)


def _call(call: Call) -> Reached:
    ends_at = time.monotonic() + WAIT_S
    try:
        connection = socket.create_connection((call.host, call.port), WAIT_S)
    except OSError as err:
        return Reached(False, reason=err.strerror or str(err))
    data = b""
    with connection, contextlib.suppress(OSError):
        connection.sendall(call.data)
        while not _complete(data, call.amount):
            connection.settimeout(max(0.01, ends_at - time.monotonic()))
            more = connection.recv(MAX_BYTES - len(data))
            if not more:
                break
            data += more
    return Reached(True, data)


def _complete(data: bytes, amount: str) -> bool:
    if len(data) >= MAX_BYTES:
        return True
    if amount == LINE:
        return b"\n" in data
    if amount == HEAD:
        return b"\r\n\r\n" in data or b"\n\n" in data
    return len(data) >= int(amount)


def ssh_from_login(session: SshSession, call: SshCall) -> tuple[str, ...]:
    """Log in from the login node to another sshd, once for each target; what ssh says of each.

    Raises:
        RemoteError: the login node cannot be asked, or the key is not there.
    """
    header = [call.host, str(call.port), call.user, call.key, str(WAIT_S)]
    header += [str(len(call.known_hosts)), *call.known_hosts, str(len(call.targets)), *call.targets]
    deadline_s = _SPARE_S + len(call.targets) * (WAIT_S + 2.0)
    reply = session.run_script(load_program("begin.sh", "reach_ssh.sh"), header, deadline_s=deadline_s)
    if reply.values("NO-KEY"):
        raise RemoteError(
            f"{session.label}: there is no key {one_line(reply.values('NO-KEY')[0])} below the home directory",
            "`gwms-bosco remote deploy` makes that of auth site-key",
        )
    found: list[list[str]] = []
    for message in reply.messages:
        if message.key == "TARGET":
            found.append([])
        elif message.key == "LOG" and found:
            found[-1].append(one_line(message.value))
    if len(found) != len(call.targets):
        raise RemoteError(f"{session.label}: {len(found)} answers to {len(call.targets)} questions")
    return tuple("\n".join(lines) for lines in found)
