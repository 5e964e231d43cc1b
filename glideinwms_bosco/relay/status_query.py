# SPDX-License-Identifier: Apache-2.0
"""Ask the relay how a handle is, and word the answer for an operator. Standard library only: launcher and shim use it.

What they print on stderr becomes the reason of an unavailable resource or of a held job, so each line starts with
GWMS-SSH-BROKER and says who has to do what.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.errors import RelayError, WireError
from glideinwms_bosco.sshwire import agent

PREFIX = "GWMS-SSH-BROKER:"
DEADLINE_S = 5.0
_LENGTH_BYTES = 4


def ask(socket_file: Path, request: bytes) -> bytes:
    """Send one agent message and return the answer's body.

    Raises:
        OSError: no relay listens there, or it does not answer in time.
        WireError: what it answers is no agent message.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(DEADLINE_S)
        connection.connect(str(socket_file))
        connection.sendall(len(request).to_bytes(_LENGTH_BYTES, "big") + request)
        size = int.from_bytes(_exactly(connection, _LENGTH_BYTES), "big")
        if size > agent.MAX_MESSAGE_BYTES:
            raise WireError(f"the relay answers with {size} bytes")
        return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise WireError("the relay has closed the connection", "is this user in allowed_uids of relay.conf?")
        data += piece
    return data


def ask_status(socket_file: Path, handle: str) -> dict[str, Any]:
    """Ask for the status of a handle.

    Raises:
        OSError: as `ask`.
        WireError: the relay does not answer as it should.
    """
    text = agent.parse_status(ask(socket_file, agent.status_request(handle)))
    try:
        status = json.loads(text)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        raise WireError("the relay's status is not JSON")
    return status


def status_file(socket_dir: Path) -> Optional[dict[str, Any]]:
    """What the running relay says of itself in status.json; None when no relay runs.

    Raises:
        RelayError: the file is there and cannot be read.
    """
    path = socket_dir / "status.json"
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as err:
        raise RelayError(f"{path}: {err.strerror}", "run it as the factory's user or as root") from None
    except ValueError:
        raise RelayError(f"{path} is not JSON", "restart gwms-ssh-relay") from None
    return status if isinstance(status, dict) else None


def clock(unix_s: float) -> str:
    """A time for messages, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))


def not_connected(frontend: str, since: float, handle: str) -> str:
    """The line for a broker that is away."""
    return (
        f"{PREFIX} broker of {frontend} not connected since {clock(since)} (handle {handle}); "
        "the frontend's administrator starts gwms-ssh-broker or looks at its log"
    )


def refusal(status: Mapping[str, Any], since: float) -> Optional[str]:
    """The line that says why a signature was refused, if one was since a time.

    Args:
        status: of a handle, as `ask_status` returns it.
        since: unix seconds.
    """
    last = status.get("last_deny")
    handle, frontend = status.get("handle"), status.get("frontend")
    if isinstance(last, dict) and last.get("t", 0) >= since:
        return f"{PREFIX} DENY {last.get('code')}: {last.get('reason')} (broker of {frontend}, handle {handle})"
    if status.get("broker") != "up":
        return not_connected(str(frontend), float(status.get("since", 0)), str(handle))
    return None
