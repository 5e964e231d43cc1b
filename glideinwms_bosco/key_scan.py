# SPDX-License-Identifier: Apache-2.0
"""Ask an ssh server for its host keys by ssh-keyscan(1). They are not authenticated in any way; a person compares."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from glideinwms_bosco.errors import RemoteError, UnreachableError

KEY_TYPES = "ed25519,ecdsa,rsa"
TIMEOUT_S = 10
# ssh-keyscan opens one connection per key type; its own time-out is per connection.
_CONNECTIONS = 3
_MAX_SHOWN_CHARS = 120
MAX_SCAN_BYTES = 65536


@dataclass(frozen=True)
class KeyScan:
    """What a server shows.

    Attributes:
        where: HOST:PORT, for messages.
        keys: "TYPE BASE64" each, as in known_hosts; may be none.
        trouble: what ssh-keyscan said besides.
    """

    where: str
    keys: tuple[str, ...]
    trouble: str


def scan(host: str, port: int, timeout_s: int = TIMEOUT_S) -> KeyScan:
    """Ask a server for its keys.

    Args:
        host: name or address, checked by the caller.
        port: TCP port.
        timeout_s: seconds to wait for each of the connections.

    Raises:
        UnreachableError: no answer in time.
        RemoteError: ssh-keyscan is missing, or gave what it never gives.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    argv = ["ssh-keyscan", "-T", str(timeout_s), "-p", str(port), "-t", KEY_TYPES, "--", host]
    deadline_s = timeout_s * (_CONNECTIONS + 1)
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline_s, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"no host key of {where} within {deadline_s} s") from None
    except OSError as error:
        raise RemoteError(f"ssh-keyscan cannot be run: {error.strerror}", "install the OpenSSH client tools") from None
    if len(done.stdout) > MAX_SCAN_BYTES:
        raise RemoteError(f"ssh-keyscan gave more than {MAX_SCAN_BYTES} bytes for {where}")
    return KeyScan(where, parse(done.stdout.decode("utf-8", "replace"), where), _said(done.stderr))


def parse(output: str, where: str) -> tuple[str, ...]:
    """Parse the standard output of ssh-keyscan: lines `NAME TYPE BASE64`; comments start with #.

    Raises:
        RemoteError: another line.
    """
    keys = []
    for line in output.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 3:
            raise RemoteError(f"ssh-keyscan gave an unexpected line for {where}: {line[:80]!r}")
        keys.append(" ".join(words[1:]))
    return tuple(keys)


def no_key(found: KeyScan) -> UnreachableError:
    """What to raise where a server is needed that shows a key."""
    said = f" ({found.trouble.splitlines()[-1][:_MAX_SHOWN_CHARS]})" if found.trouble else ""
    hint = "is the name right, and is an ssh server listening there?"
    return UnreachableError(f"{found.where} shows no host key{said}", hint, found.trouble or None)


def _said(stderr: bytes) -> str:
    # Newer ssh-keyscan prints the server's version banner as a comment here too; it explains nothing.
    lines = stderr.decode("utf-8", "replace").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))
