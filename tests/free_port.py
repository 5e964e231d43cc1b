# SPDX-License-Identifier: Apache-2.0
"""A TCP port of the loopback interface on which nothing listens, and which nobody is given by chance."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

ADDRESS = "127.0.0.1"
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_BELOW = 12000
_TRIES = 100


def free_port() -> int:
    """Choose one.

    The kernel gives ports of its own range to whoever connects: one from there may be taken before it is used, and who
    asks whether something listens on it may be given the same port and so talk to himself.
    """
    first = int(_RANGE.read_text().split()[0])
    for _ in range(_TRIES):
        port = first - 1 - secrets.randbelow(_BELOW)
        with socket.socket() as listener:
            try:
                listener.bind((ADDRESS, port))
            except OSError:
                continue
        return port
    raise AssertionError(f"{_TRIES} ports below {first} are all taken")
