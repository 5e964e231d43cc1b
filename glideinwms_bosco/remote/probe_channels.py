# SPDX-License-Identifier: Apache-2.0
"""What sshd gives on one connection, found out by trying: a remote forwarding, and several sessions at once."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Optional

from glideinwms_bosco.remote.exchange import end_process, exchange
from glideinwms_bosco.remote.ssh import SshSession

FORWARD_TIMEOUT_S = 20.0
SESSIONS_TIMEOUT_S = 20.0
END_WAIT_S = 1.0
MAX_OUTPUT_BYTES = 64 * 1024
_MARK = b"GWMS-BOSCO-OPEN"
# Ends with its standard input. No quotes inside: every login shell has to read it.
_WAIT = f"exec /bin/sh -c 'echo {_MARK.decode()}; exec cat >/dev/null'"
_READ_BYTES = 65536


def remote_forwarding(session: SshSession) -> Optional[bool]:
    """Ask for the kind of forwarding that condor_ft-gahp needs; None when ssh says neither yes nor no.

    The listener ends with the connection. Source: HTCondor 23.9 remote_gahp, `ssh -R`.
    """
    # Port 0: sshd chooses a free one. Nobody listens on our side.
    argv = session.client_argv("-o", "ClearAllForwardings=no", "-O", "forward", "-R", "0:127.0.0.1:9")
    output = exchange(argv, (), env=_environment(), deadline_s=FORWARD_TIMEOUT_S, max_output_bytes=MAX_OUTPUT_BYTES)
    if output.expired or output.overflow:
        return None
    if output.status == 0:
        return True
    return False if b"forwarding failed" in output.stderr.lower() else None


def count_sessions(session: SshSession, wanted: int) -> Optional[int]:
    """Open sessions at once, each of which only waits, and return how many were given; None when that took too long.

    Each is the login shell and a `cat`; all end before this returns.
    """
    argv = session.client_argv("-T", command=_WAIT)
    clients: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(wanted):
            clients.append(
                subprocess.Popen(
                    argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=_environment(),
                    start_new_session=True,
                )
            )
        return _count_marks(clients, time.monotonic() + SESSIONS_TIMEOUT_S)
    finally:
        for client in clients:
            _let_go(client)
        for client in clients:
            _end(client)


def _count_marks(clients: Sequence[subprocess.Popen[bytes]], ends_at: float) -> Optional[int]:
    given = 0
    tails: dict[int, bytes] = {}
    with selectors.DefaultSelector() as selector:
        for client in clients:
            if client.stdout is not None:
                os.set_blocking(client.stdout.fileno(), False)
                selector.register(client.stdout.fileno(), selectors.EVENT_READ)
        while selector.get_map():
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                return None
            for key, _ in selector.select(left_s):
                chunk = os.read(key.fd, _READ_BYTES)
                # Noise may come first, in any amount: only its end is kept.
                tails[key.fd] = tails.get(key.fd, b"")[-len(_MARK) :] + chunk
                if _MARK in tails[key.fd]:
                    given += 1
                if not chunk or _MARK in tails[key.fd]:
                    selector.unregister(key.fd)
    return given


def _let_go(client: subprocess.Popen[bytes]) -> None:
    """Close its input: the command there ends, and the session with it."""
    for pipe in (client.stdin, client.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _end(client: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        client.wait(END_WAIT_S)
    end_process(client)


def _environment() -> Mapping[str, str]:
    return {**os.environ, "LC_ALL": "C", "LANGUAGE": "C"}
