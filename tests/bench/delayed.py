# SPDX-License-Identifier: Apache-2.0
"""A longer way to a port of this machine, and how long it really is."""

from __future__ import annotations

import socket
import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.figures import timed
from tests.bench.signers import running
from tests.free_port import ADDRESS, free_port
from tests.lab.process import wait_for

START_DEADLINE_S = 20.0
_PINGS = 20
_PING = b"p"


@contextmanager
def delayed(log: Path, port: int, target_port: int, rtt_ms: int) -> Iterator[None]:
    """Run the lab's delaying forwarder from `port` to `target_port`."""
    argv = [sys.executable, "-m", "tests.lab.delay", "--listen", str(port)]
    with running(log, [*argv, "--to", f"{ADDRESS}:{target_port}", "--rtt-ms", str(rtt_ms)]):
        wait_for("forwarder", lambda: "listening" in log.read_text(), START_DEADLINE_S, log.read_text)
        yield


def round_trip_s(log: Path, rtt_ms: int) -> float:
    """Median of some round trips of one byte through a forwarder of this delay (s)."""
    with socket.create_server((ADDRESS, 0)) as listener:
        port = free_port()
        with delayed(log, port, listener.getsockname()[1], rtt_ms), socket.create_connection((ADDRESS, port)) as near:
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            far, _ = listener.accept()
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            echo = threading.Thread(target=_echo, args=(far,))
            echo.start()
            times_s = [timed(lambda: _ping(near))[0] for _ in range(_PINGS)]
            near.shutdown(socket.SHUT_WR)
            echo.join()
    return statistics.median(times_s)


def _ping(end: socket.socket) -> None:
    end.sendall(_PING)
    end.recv(len(_PING))


def _echo(end: socket.socket) -> None:
    with end:
        while data := end.recv(1):
            end.sendall(data)
